"""The town's oracle as a reward: the best that any reward can do on conversations of the town."""

from collections.abc import Sequence
from dataclasses import dataclass

from uptake.rewards.rate import rate_each
from uptake.town import Quality, Town
from uptake.types import Dialogue, Judgement


@dataclass(frozen=True)
class Oracle:
    """Rates an answer by its exact quality, from 0 to 1, with the six axes as parts; `town` is the town's seed.

    An answer to anything but a question of the town is invalid.
    """

    town: int = 0

    @property
    def fingerprint(self) -> str:
        return repr(self)

    def __call__(self, dialogues: Sequence[Dialogue]) -> Sequence[Judgement]:
        return rate_each(dialogues, Town(self.town).quality, lambda heard: [*map(_judgement, heard)])


def _judgement(quality: Quality) -> Judgement:
    return Judgement(quality.overall, parts={str(axis): score for axis, score in quality.scores.items()})
