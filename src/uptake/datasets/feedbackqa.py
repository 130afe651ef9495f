"""FeedbackQA: two or three users rate a passage about Covid-19 that answers a question, and explain their rating.

Ratings go from "Bad" (1) to "Excellent" (4). The answer is the passage with the headings above it. Evaluated are the
test files; each of the four sites (Australia, CDC, UK, WHO) is a group.

As feedback, "Excellent" and "Acceptable" are positive, "Could be Improved" and "Bad" negative, and the test files are
held out.
"""

from collections.abc import Iterator
from pathlib import Path
from statistics import fmean
from typing import Literal

from pydantic import AliasPath, BaseModel, Field

from uptake.data.files import read_file
from uptake.datasets.items import Feedback, FeedbackPolarity, Rating, graded, to_feedback, to_rating
from uptake.datasets.parse import rows, table
from uptake.types import Split, Turn

FOLDER = "feedbackqa"
SOURCE = "McGill-NLP/feedbackqa; Li et al., Findings of ACL 2022 (arXiv 2204.03025)"
LICENSE = "none stated"

_SITES = ("Australia", "CDC", "UK", "WHO")
_LEVELS = ("Bad", "Could be Improved", "Acceptable", "Excellent")


class _Answered(BaseModel):
    question: str
    headings: list[str] = Field(validation_alias=AliasPath("passage", "reference", "section_headers"))
    passage: str = Field(validation_alias=AliasPath("passage", "reference", "section_content"))
    rating: list[Literal["Bad", "Could be Improved", "Acceptable", "Excellent"]] = Field(min_length=1)

    @property
    def answer(self) -> str:
        return "\n".join((*self.headings, self.passage))


class _Explained(_Answered):
    feedback: list[str]


def ratings(folder: Path) -> Iterator[Rating | str]:
    """The mean rating of every answer."""
    for site in _SITES:
        for where, row in rows(table(folder, f"{site}_test"), _Answered):
            mean = {"overall": fmean(1 + _LEVELS.index(level) for level in row.rating)}
            yield to_rating((Turn("user", row.question), Turn("assistant", row.answer)), mean, where=where, group=site)


def feedback(folder: Path) -> Iterator[Feedback | str]:
    """What every user wrote; files by site, as far as they are there."""
    for path in sorted(folder.glob("*.jsonl*")):
        split: Split = "heldout" if "_test." in path.name else "train"
        for where, row in rows(read_file(path), _Explained):
            for text, level in graded(row.feedback, row.rating, where):
                rating = 1 + _LEVELS.index(level)
                polarity: FeedbackPolarity = "positive" if rating > 2 else "negative"
                yield to_feedback(row.question, row.answer, text, polarity, split, rating=rating)
