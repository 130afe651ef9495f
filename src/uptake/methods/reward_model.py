"""Reward model by Bradley and Terry (Ouyang et al. 2022, arXiv 2203.02155): a score that chosen responses have more of.

A linear head on the policy's final hidden state at the end-of-turn token scores a response, and the loss of a pair is
`-log sigmoid(score(chosen) - score(rejected))`. `margin_scale` asks for a difference of that many times the `margin`
that every row then brings; `center` times the squared sum of both scores holds their mean near 0. The head learns with
the backbone, or with its adapter. The trained folder is a sequence classifier of Transformers with one label, adapter
merged. Assumes that both responses answer the same prompt. Gives no signal on a pair of equal responses.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from uptake.data.where import bad_row
from uptake.judge.recorded import Recorded
from uptake.losses.scalar import BradleyTerry
from uptake.methods import MethodConfig, fill
from uptake.models.heads import AddHead
from uptake.objective import ScoredPairs
from uptake.recipe import Recipe, Stage
from uptake.rollout.from_rows import FromRows
from uptake.signal.as_given import AsGiven
from uptake.types import Judgement, Rollout
from uptake.update import Optimization
from uptake.world import World

ALIASES = ("bradley_terry", "rm")


class Config(MethodConfig):
    margin_scale: float = 0.0
    center: float = 0.0
    # The spread of the head's first weights; 0 starts with equal scores for everything.
    head_std: float = 0.0
    # A starting guess: published settings differ by model.
    lr: float = 5e-6
    batch_size: int = 64


@dataclass(frozen=True)
class RecordedMargins:
    """The row's `margin` for the first response, the chosen one, and 0 for the second."""

    def __call__(self, world: World, rollouts: Sequence[Rollout]) -> Sequence[Judgement]:
        return [Judgement(_margin(rollout) if rollout.sample == 0 else 0.0) for rollout in rollouts]


def _margin(rollout: Rollout) -> float:
    margin: Any = rollout.prompt.extra.get("margin")
    if not isinstance(margin, int | float) or not 0 <= margin < float("inf"):
        allowed = "a number from 0 up, since margin_scale is not 0"
        raise bad_row(f"found {margin!r}", rollout.prompt.where, field="margin", allowed=allowed)
    return float(margin)


def build(config: Config) -> Recipe:
    return Recipe(
        stages=(
            Stage(
                produce=FromRows(),
                judge=RecordedMargins() if config.margin_scale else Recorded(),
                signal=AsGiven(),
                objective=ScoredPairs(fill(BradleyTerry, config)),
                modules=AddHead(std=config.head_std),
                update=fill(Optimization, config),
            ),
        )
    )
