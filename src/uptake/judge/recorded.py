"""No judge is a judge: what the data set itself says of its responses."""

from collections.abc import Sequence
from dataclasses import dataclass

from uptake.types import Judgement, Rollout
from uptake.world import World


@dataclass(frozen=True)
class Recorded:
    """Score 1 for the first response of a row (the chosen or the only one), 0 for the second (the rejected one)."""

    def __call__(self, world: World, rollouts: Sequence[Rollout]) -> Sequence[Judgement]:
        return [Judgement(score=float(rollout.sample == 0)) for rollout in rollouts]
