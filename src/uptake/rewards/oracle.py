"""The town's oracle as a reward: the best that any reward can do on conversations of the town."""

from collections.abc import Sequence
from dataclasses import dataclass

from uptake.rewards.base import Resources, Response, Reward, RewardSpec
from uptake.rewards.rate import rate_each
from uptake.town import Quality, Town
from uptake.types import Judgement


@dataclass(frozen=True)
class Oracle(Reward, RewardSpec):
    """Oracle reward: the exact quality of an answer from 0 to 1, its six axes as parts; `town` is the seed of the town.

    An answer to anything but a question of the town is invalid.
    """

    town: int = 0

    @property
    def fingerprint(self) -> str:
        return repr(self)

    def build(self, resources: Resources) -> "Oracle":
        return self

    def rate(self, responses: Sequence[Response]) -> Sequence[Judgement]:
        return rate_each(responses, Town(self.town).quality, lambda heard: [*map(_judgement, heard)])


def _judgement(quality: Quality) -> Judgement:
    return Judgement(quality.overall, parts={str(axis): score for axis, score in quality.scores.items()})
