"""FeedbackQA: two or three users explain their rating of a passage about Covid-19 that answers a question.

"Excellent" (4) and "Acceptable" (3) are positive, "Could be Improved" (2) and "Bad" (1) negative. Held out are the test
files, which the benchmark of the same name evaluates. The answer is the passage with the headings above it. Source:
McGill-NLP/feedbackqa; Li et al., Findings of ACL 2022 (arXiv 2204.03025). No license is stated.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Literal

from pydantic import AliasPath, BaseModel, Field

from uptake.benchmarks.parse import rows
from uptake.data.files import records
from uptake.feedback_sets.items import Polarity, Row, Split, feedback, graded

FOLDER = "feedbackqa"

_LEVELS = ("Bad", "Could be Improved", "Acceptable", "Excellent")


class _Answer(BaseModel):
    question: str
    headings: list[str] = Field(validation_alias=AliasPath("passage", "reference", "section_headers"))
    passage: str = Field(validation_alias=AliasPath("passage", "reference", "section_content"))
    feedback: list[str]
    rating: list[Literal["Bad", "Could be Improved", "Acceptable", "Excellent"]]


def local(folder: Path) -> Iterator[Row]:
    """What every user wrote; files by site, Australia, CDC, UK and WHO, as far as they are there."""
    for path in sorted(folder.glob("*.jsonl*")):
        split: Split = "heldout" if "_test." in path.name else "train"
        for where, row in rows(records(path), _Answer):
            answer = "\n".join((*row.headings, row.passage))
            for text, level in graded(row.feedback, row.rating, where):
                rating = 1 + _LEVELS.index(level)
                polarity: Polarity = "positive" if rating > 2 else "negative"
                yield feedback(row.question, answer, text, polarity, split, rating=rating)
