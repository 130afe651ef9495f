"""The judges that score single responses, by name, for recipes: any reward, or one that knows tokens."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from itertools import islice
from typing import Protocol, runtime_checkable

from uptake.errors import InputError
from uptake.follow_up.reward import FollowUps
from uptake.rewards.base import Reward
from uptake.rewards.classifier import Classifier
from uptake.rewards.implicit import ImplicitReward
from uptake.rewards.length import Length
from uptake.rewards.likelihood import DirectLikelihood
from uptake.rewards.oracle import Oracle
from uptake.rewards.oracle_tokens import OracleTokens
from uptake.rewards.server import RewardServer
from uptake.rewards.token_reward import TokenReward
from uptake.support.settings import Choice, named
from uptake.types import Group, Judgement, Rollout, Turn
from uptake.world import World


class RolloutJudge(Protocol):
    """One judgement for every response, in order; those to one prompt come together."""

    def __call__(self, world: World, rollouts: Sequence[Rollout]) -> Sequence[Judgement]: ...


@runtime_checkable
class RewardPart(Protocol):
    """The part of a recipe that names a reward: settings that print themselves, and the reward in a world."""

    def start(self, world: World) -> Reward: ...


@dataclass(frozen=True)
class PointwiseJudge:
    """Pointwise judge: a judgement of every response, by a reward of dialogues or by a judge of rollouts.

    A response that cannot be rated has an invalid judgement. Raises InputError for a judge that gives more or fewer.
    """

    by: RewardPart | RolloutJudge

    def __call__(self, world: World, groups: Sequence[Group]) -> Sequence[tuple[Judgement, ...]]:
        rollouts = [rollout for group in groups for rollout in group]
        judgements = self._judged(world, rollouts)
        if len(judgements) != len(rollouts):
            raise InputError(
                f"{len(judgements)} judgements of {len(rollouts)} rollouts", allowed="one for each, in order"
            )
        found = iter(judgements)
        return [tuple(islice(found, len(group))) for group in groups]

    def _judged(self, world: World, rollouts: Sequence[Rollout]) -> Sequence[Judgement]:
        if not isinstance(self.by, RewardPart):
            return self.by(world, rollouts)
        return self.by.start(world)([(*each.prompt.turns, Turn("assistant", each.response)) for each in rollouts])


@dataclass(frozen=True)
class OracleReward:
    """The town's oracle: exact quality, from 0 to 1."""

    town: int = 0

    def start(self, world: World) -> Reward:
        return Oracle(self.town)


@dataclass(frozen=True)
class LengthReward:
    """Characters of the response."""

    def start(self, world: World) -> Reward:
        return Length()


@dataclass(frozen=True)
class ClassifierReward:
    """A sequence-classification reward model, a folder or Hub name."""

    path: str
    label: str | None = None

    def start(self, world: World) -> Reward:
        return _classifier(self.path, self.label, str(world.policy.device))


@dataclass(frozen=True)
class DirectReward:
    """The mean log-probability per token of the response under the world's model called `model`."""

    model: str = "judge"

    def start(self, world: World) -> Reward:
        return DirectLikelihood.from_pretrained(world.model(self.model))


@dataclass(frozen=True)
class ImplicitPart:
    """The implicit reward of the world's model called `model` against the one called `reference`."""

    beta: float = 0.1
    model: str = "judge"
    reference: str = "reference"

    def start(self, world: World) -> Reward:
        return ImplicitReward(world.model(self.model), world.model(self.reference), self.beta)


@cache
def _classifier(path: str, label: str | None, device: str) -> Classifier:
    """Loaded once for all rounds of a run."""
    return Classifier.from_pretrained(path, label=label, device=device)


PARTS: Mapping[str, Callable[..., RewardPart]] = {
    "classifier": ClassifierReward,
    "implicit": ImplicitPart,
    "direct": DirectReward,
    "length": LengthReward,
    "oracle": OracleReward,
}
JUDGES: Mapping[str, Callable[..., RolloutJudge]] = {"follow_up": FollowUps}
# Judges that say of every token what it is worth.
TOKEN_JUDGES: Mapping[str, Callable[..., RolloutJudge]] = {
    "token_reward": TokenReward,
    "oracle_tokens": OracleTokens,
    "server": RewardServer,
}


def reward(choice: Choice) -> PointwiseJudge:
    """The judge of whole responses of a name, or of a name with settings: `{"classifier": {"path": "./rm"}}`.

    Judges of tokens are among them, by the sum of their values. Raises InputError for an unknown name or setting, and
    for a setting out of its range.
    """
    every: Mapping[str, Callable[..., RewardPart | RolloutJudge]] = {**PARTS, **JUDGES, **TOKEN_JUDGES}
    return PointwiseJudge(named("reward", choice, every)())


def token_reward(choice: Choice) -> PointwiseJudge:
    """The judge of tokens of a name, or of a name with settings; raises as `reward` does."""
    return PointwiseJudge(named("reward", choice, TOKEN_JUDGES)())
