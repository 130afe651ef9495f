"""Reward model by Bradley and Terry (Ouyang et al. 2022, arXiv 2203.02155): a score that chosen responses have more of.

A linear head on the policy's final hidden state at the end-of-turn token scores a response, and the loss of a pair is
`-log sigmoid(score(chosen) - score(rejected))`. `margin_scale` asks for a difference of that many times the `margin`
that every row then brings; `center` times the squared sum of both scores holds their mean near 0. The head learns with
the backbone, or with its adapter. The trained folder is a sequence classifier of Transformers with one label, adapter
merged. Assumes that both responses answer the same prompt. Gives no signal on a pair of equal responses.
"""

from uptake.examples.preferences import PreferenceRows
from uptake.losses.scalar import BradleyTerry
from uptake.methods import MethodConfig, fill
from uptake.models.heads import AddHead
from uptake.objective import ScoredPairs
from uptake.recipe import Recipe, Stage
from uptake.update import Optimization

ALIASES = ("bradley_terry", "rm")


class Config(MethodConfig):
    margin_scale: float = 0.0
    center: float = 0.0
    # The spread of the head's first weights; 0 starts with equal scores for everything.
    head_std: float = 0.0
    # A starting guess: published settings differ by model.
    lr: float = 5e-6
    batch_size: int = 64


def build(config: Config) -> Recipe:
    stage = Stage(
        examples=PreferenceRows(margins=bool(config.margin_scale)),
        objective=ScoredPairs(fill(BradleyTerry, config)),
        modules=AddHead(std=config.head_std),
        update=fill(Optimization, config),
    )
    return Recipe((stage,))
