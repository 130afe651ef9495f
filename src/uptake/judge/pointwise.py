"""The judge that scores single responses: any reward, also one that knows tokens."""

from collections.abc import Sequence
from dataclasses import dataclass

from uptake.rewards.base import Resources, RewardSpec
from uptake.types import Judgement, Rollout
from uptake.world import World


@dataclass(frozen=True)
class PointwiseJudge:
    """Pointwise judge: every response by a reward; one that cannot be rated is invalid."""

    by: RewardSpec

    @property
    def uses(self) -> tuple[str, ...]:
        """The names of the models that it asks."""
        return self.by.uses

    def __call__(self, world: World, rollouts: Sequence[Rollout]) -> Sequence[Judgement]:
        return self.by.build(Resources.of(world)).rate(rollouts)
