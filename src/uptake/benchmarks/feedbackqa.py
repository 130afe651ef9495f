"""FeedbackQA: passages about Covid-19 as answers to a question, rated by three users from "Bad" (1) to "Excellent" (4).

Evaluated are the test files; each of the four sites (Australia, CDC, UK, WHO) is a group. The answer is the passage
with the headings above it. Source: McGill-NLP/feedbackqa; Li et al., Findings of ACL 2022 (arXiv 2204.03025). No
license is stated.
"""

from collections.abc import Iterator
from pathlib import Path
from statistics import fmean
from typing import Literal

from pydantic import BaseModel, Field

from uptake.benchmarks.chats import rated
from uptake.benchmarks.items import Row
from uptake.benchmarks.parse import rows, table
from uptake.types import Turn

FOLDER = "feedbackqa"
hub = None

_SITES = ("Australia", "CDC", "UK", "WHO")
_LEVELS = ("Bad", "Could be Improved", "Acceptable", "Excellent")


class _Reference(BaseModel):
    section_headers: list[str]
    section_content: str


class _Passage(BaseModel):
    reference: _Reference


class _Answer(BaseModel):
    question: str
    passage: _Passage
    rating: list[Literal["Bad", "Could be Improved", "Acceptable", "Excellent"]] = Field(min_length=1)


def local(folder: Path) -> Iterator[Row]:
    """The mean rating of every answer."""
    for site in _SITES:
        for where, row in rows(table(folder, f"{site}_test"), _Answer):
            reference = row.passage.reference
            answer = "\n".join((*reference.section_headers, reference.section_content))
            ratings = {"overall": fmean(1 + _LEVELS.index(level) for level in row.rating)}
            yield rated((Turn("user", row.question), Turn("assistant", answer)), ratings, where=where, group=site)
