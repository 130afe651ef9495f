"""Pointwise judge: any reward, also one that knows tokens, rates every response by itself."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import islice

from uptake.errors import InputError
from uptake.rewards.base import Resources, Reward, RewardSpec
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

    def start(self, world: World) -> Callable[[Sequence[Group]], Sequence[tuple[Judgement, ...]]]:
        """The judge with its reward built."""
        return partial(_rated, self.by.build(Resources.of(world)))


def _rated(reward: Reward, groups: Sequence[Group]) -> Sequence[tuple[Judgement, ...]]:
    rollouts = [rollout for group in groups for rollout in group]
    judgements = reward.rate(rollouts)
    if len(judgements) != len(rollouts):
        problem = f"{len(judgements)} judgements of {len(rollouts)} rollouts"
        raise InputError(problem, allowed="one for each, in order")
    found = iter(judgements)
    return [tuple(islice(found, len(group))) for group in groups]
