"""Quality of an answer: one score on each of the six axes of follow-up likelihood."""

from dataclasses import dataclass
from statistics import fmean
from typing import Literal

Axis = Literal["understanding", "relevance", "correctness", "engagingness", "informativeness", "following"]
AXES: tuple[Axis, ...] = (
    "understanding",
    "relevance",
    "correctness",
    "engagingness",
    "informativeness",
    "following",
)


@dataclass(frozen=True, slots=True)
class Quality:
    """The six scores of an answer, each from 0 to 1: `Quality(1, 1, 0, 1, 1, 1)` is good but for a wrong fact."""

    understanding: float
    relevance: float
    correctness: float
    engagingness: float
    informativeness: float
    following: float

    @property
    def scores(self) -> dict[Axis, float]:
        """The scores by axis, in the order of `AXES`."""
        return {axis: getattr(self, axis) for axis in AXES}

    @property
    def overall(self) -> float:
        """Half the weakest score plus half the mean of the six: one failed axis spoils an answer."""
        scores = self.scores.values()
        return (min(scores) + fmean(scores)) / 2

    @property
    def weakest(self) -> Axis:
        """The axis with the lowest score, the first of them where several are equal."""
        scores = self.scores
        return min(scores, key=lambda axis: scores[axis])
