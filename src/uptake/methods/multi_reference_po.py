"""Multi-reference preference optimization (MRPO; arXiv 2405.16388): DPO against several frozen models at once.

The reference of a response is a virtual one, `1 / sum_k a_k / pi_k` of the policy's start and of further `references`.
Differs from DPO only there: copies of one model are DPO. Each further model is trusted within a share `clip` of the
primary's log-probability (0 is DPO, null is full trust), and `weights` follow by default how well a model sets the two
responses apart, which looks at the label. Sums over tokens make the virtual reference nearly the minimum of all, so
clipping, not weights, keeps it sane; `combine: geometric` is the mean of log-probabilities. The released code puts the
weight of one model on the other and reads the policy's token ids with another tokenizer; here a model with another
tokenizer is refused. Assumes references that know the responses. Gives no signal on a pair of equal responses.
"""

from pydantic import Field

from uptake.examples.preferences import PreferenceRows
from uptake.methods import dpo, fill
from uptake.objective import Pairs
from uptake.recipe import Recipe, Stage
from uptake.reference import REFERENCES
from uptake.reference.virtual import ReferenceMean, Virtual
from uptake.update import Optimization, OptimizerName, Schedule

ALIASES = ("mrpo",)


class Config(dpo.Config):
    # The names of the models beside the primary, each given by --model NAME=PATH.
    references: tuple[str, ...] = Field(("second",), min_length=1)
    weights: tuple[float, ...] | None = None
    clip_trust: float | None = 0.1
    combine: ReferenceMean = "harmonic"
    # The released scripts.
    lr: float = 1e-5
    batch_size: int = 8
    warmup: float = 0.1
    schedule: Schedule = "cosine"
    optimizer: OptimizerName = "adamw"
    clip: float | None = 1.0


def build(config: Config) -> Recipe:
    primary = REFERENCES[config.reference]
    stage = Stage(
        examples=PreferenceRows(),
        reference=Virtual(primary, config.references, config.weights, config.clip_trust, config.combine),
        objective=Pairs(dpo.kernel(config)),
        update=fill(Optimization, config),
    )
    return Recipe((stage,))
