"""Pointwise judge: any reward, also one that knows tokens, rates every response by itself."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import islice

from uptake.errors import InputError
from uptake.rewards.base import Resources, RewardSpec
from uptake.types import Group, Judgement
from uptake.world import World


@dataclass(frozen=True)
class PointwiseJudge:
    """Pointwise judge: a judgement of every response, by a reward; that of one that cannot be rated is invalid.

    Raises InputError for a reward that gives more or fewer.
    """

    by: RewardSpec

    @property
    def uses(self) -> tuple[str, ...]:
        """The names of the models that it asks."""
        return self.by.uses

    def __call__(self, world: World, groups: Sequence[Group]) -> Sequence[tuple[Judgement, ...]]:
        rollouts = [rollout for group in groups for rollout in group]
        judgements = self.by.build(Resources.of(world)).rate(rollouts)
        if len(judgements) != len(rollouts):
            problem = f"{len(judgements)} judgements of {len(rollouts)} rollouts"
            raise InputError(problem, allowed="one for each, in order")
        found = iter(judgements)
        return [tuple(islice(found, len(group))) for group in groups]
