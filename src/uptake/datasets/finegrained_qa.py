"""FineGrainedRLHF, question answering: people compare four answers to a question, mark errors in one and correct it.

The prompt holds the passages of Wikipedia that the answers are to rest on, then the question. Answers are compared two
by two, or called equal.

A mark is a stretch of the first answer that is irrelevant, repeats, contradicts the passages, cannot be checked with
them, or makes no sense. What an answer lacks has no place in it and is left out, as is a correction that changes more
than half of the words. Of the edits, one question in ten is held out. The comparisons are of answers to these very
questions, so a model that was trained on the edits is not to be measured by them.
"""

from collections.abc import Iterator
from itertools import combinations
from pathlib import Path
from typing import Annotated, Literal

from pydantic import AliasPath, BaseModel, Field

from uptake.data.where import bad_row
from uptake.datasets.items import Comparison, to_comparison, to_edited
from uptake.datasets.parse import prompt, rows, table
from uptake.types import Edited, Prompt, Span, Where

FOLDER = "finegrained-rlhf-qa"
SOURCE = "allenai/FineGrainedRLHF, qa_feedback; Wu et al. 2023 (arXiv 2306.01693)"
LICENSE = "Apache-2.0"

_PREFERENCES = {0: 0.5, 1: 1.0, 2: 0.0}

# A title and its sentences.
_Passage = Annotated[list[str], Field(min_length=1)]


class _Question(BaseModel):
    question: str
    passages: list[_Passage]
    first: str = Field(alias="prediction 1")

    def prompt(self, where: Where) -> Prompt:
        """The passages, then the question."""
        return prompt("\n\n".join((*map(_text, self.passages), self.question)), where)


class _Compared(_Question):
    """A question with four answers and the preference in each pair of them: 1 and 2, 1 and 3, up to 3 and 4."""

    second: str = Field(alias="prediction 2")
    third: str = Field(alias="prediction 3")
    fourth: str = Field(alias="prediction 4")
    preference: Annotated[list[Literal[0, 1, 2]], Field(min_length=6, max_length=6)]


class _Error(BaseModel):
    kind: str = Field(alias="error type")
    start: int
    end: int


class _Marked(_Question):
    errors: list[_Error] = Field(validation_alias=AliasPath("feedback", "errors"))
    corrected: str = Field(validation_alias=AliasPath("feedback", "corrected-prediction"))


def comparisons(folder: Path) -> Iterator[Comparison | str]:
    """Six comparisons a row."""
    for where, row in rows(table(folder, "dev_feedback"), _Compared):
        pairs = combinations((row.first, row.second, row.third, row.fourth), 2)
        for pair, label in zip(pairs, row.preference, strict=True):
            yield to_comparison(row.prompt(where), pair, _PREFERENCES[label], where)


def edits(folder: Path) -> Iterator[Edited | str]:
    """Every first answer, with its errors and its correction."""
    for where, row in rows(table(folder, "dev_feedback"), _Marked):
        for error in row.errors:
            if not 0 <= error.start < error.end <= len(row.first):
                allowed = f"a stretch of the answer's {len(row.first)} characters"
                raise bad_row(f"an error from {error.start} to {error.end}", where, field="feedback", allowed=allowed)
        spans = [Span(error.start, error.end, -1.0, error.kind) for error in row.errors]
        yield to_edited(row.prompt(where), "finegrained_qa", row.first, row.corrected.strip(), spans)


def _text(passage: list[str]) -> str:
    """The title over the text, which begins with it in some passages."""
    title, *sentences = passage
    return f"{title}\n{' '.join(sentences).removeprefix(title).lstrip()}"
