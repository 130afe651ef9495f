"""Length as a reward, and what is left of a reward without it: how far does length alone go?"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from statistics import StatisticsError, linear_regression
from typing import Self

from uptake.errors import InputError
from uptake.rewards.base import Resources, Response, Reward, RewardSpec
from uptake.rewards.rate import dialogue_of, rate_each
from uptake.types import Dialogue, Judgement


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


@dataclass(frozen=True)
class LengthResidual(Reward):
    """Residual reward: a reward less what a line explains of it: `score - (slope * characters + intercept)`; see `fit`.

    Parts are those of the reward as it was.
    """

    reward: Reward
    slope: float
    intercept: float

    @classmethod
    def fit(cls, reward: Reward, dialogues: Sequence[Dialogue], judgements: Sequence[Judgement]) -> Self:
        """The least-squares line through given judgements of this reward, one a dialogue, where they are valid.

        Fit it on other dialogues than those to be judged. Raises InputError where all responses are equally long or
        fewer than two judgements are valid.
        """
        both = zip(dialogues, judgements, strict=True)
        points = [(len(turns[-1].content), judgement.score) for turns, judgement in both if judgement.valid]
        try:
            line = linear_regression([x for x, _ in points], [y for _, y in points])
        except StatisticsError as error:
            raise InputError(
                f"no line fits: {error}", allowed="two valid judgements of unequally long responses"
            ) from error
        return cls(reward, line.slope, line.intercept)

    @property
    def fingerprint(self) -> str:
        return f"LengthResidual({self.slope!r}, {self.intercept!r}, {self.reward.fingerprint})"

    def rate(self, responses: Sequence[Response]) -> Sequence[Judgement]:
        judgements = self.reward.rate(responses)
        return [
            replace(each, score=each.score - self.slope * len(dialogue_of(response)[-1].content) - self.intercept)
            if each.valid
            else each
            for response, each in zip(responses, judgements, strict=True)
        ]


def _judgement(size: int) -> Judgement:
    return Judgement(float(size))
