"""Token reward model (arXiv 2406.02756): a value for every token of a response, learned from minimal edits or spans.

What an edit removes or replaces was wrong (-1), what it adds is better (1), what it keeps is neither (0); rows may
bring spans instead. A linear head on the policy's final hidden state at each token learns these labels, end of turn
included, with the loss `mse` (its output is the reward), `soft_ce` (a kept token is good with probability 1/2) or
`hard_ce` (kept tokens do not count). `consistency` ranks edit over response on the mean reward as well, as demoted
edits and plain preferences always do; `bad_weight` is how much a wrong token counts. The trained folder is a token
classifier of Transformers, adapter merged. Assumes that edits change only what is wrong. Gives no signal on a row that
was edited all over.
"""

from typing import Literal

from pydantic import Field

from uptake.examples.edit_labels import EditLabels, Unit
from uptake.examples.edits import EditedRows, MultiEdit
from uptake.losses.token_level import CrossEntropy, SquaredError, TokenKernel
from uptake.methods import MethodConfig, fill
from uptake.models.heads import AddHead
from uptake.models.token_classifier import head_name
from uptake.objective import TokenRewards
from uptake.recipe import Recipe, Stage
from uptake.update import Optimization

ALIASES = ("token_rm",)


class Config(MethodConfig):
    loss: Literal["mse", "soft_ce", "hard_ce"] = "mse"
    consistency: float = Field(0.0, ge=0)
    bad_weight: float = Field(1.0, gt=0)
    # What is compared to find the labels, and how.
    unit: Unit = "token"
    anchor: bool = True
    affine_gap: bool = False
    from_start: bool = False
    majority: bool = False
    multi_edit: MultiEdit = "average"
    # What TLCR trains with (Yoon et al. 2024, arXiv 2407.16574); the paper's own settings are not published.
    max_tokens: int = Field(512, ge=2)
    lr: float = 1e-5
    batch_size: int = 32
    epochs: int = 2
    warmup: float = 0.0
    weight_decay: float = 0.1


def build(config: Config) -> Recipe:
    kernel: TokenKernel = SquaredError() if config.loss == "mse" else CrossEntropy(hard=config.loss == "hard_ce")
    stage = Stage(
        examples=EditedRows(fill(EditLabels, config), config.max_tokens, config.multi_edit),
        objective=TokenRewards(kernel, config.consistency, config.bad_weight),
        # Log-odds have no bias: two logits without one know only their difference.
        modules=AddHead(head_name(kernel.logit), bias=not kernel.logit),
        update=fill(Optimization, config),
    )
    return Recipe((stage,))
