"""Length as a reward: how far does length alone go?"""

from collections.abc import Sequence
from dataclasses import dataclass

from uptake.rewards.base import Resources, Response, Reward, RewardSpec
from uptake.rewards.rate import rate_each
from uptake.types import Judgement


@dataclass(frozen=True)
class Length(Reward, RewardSpec):
    """Length reward: rates a response by the number of its characters: what every reward has to beat."""

    @property
    def fingerprint(self) -> str:
        return repr(self)

    def build(self, resources: Resources) -> "Length":
        return self

    def rate(self, responses: Sequence[Response]) -> Sequence[Judgement]:
        return rate_each(responses, lambda turns: len(turns[-1].content), lambda sizes: [*map(_judgement, sizes)])


def _judgement(size: int) -> Judgement:
    return Judgement(float(size))
