"""FineGrainedRLHF: people marked errors in a model's answers to questions with passages, and corrected the answer.

A mark is a stretch of the answer that is irrelevant, repeats, contradicts the passages, cannot be checked with them, or
makes no sense. What an answer lacks has no place in it and is left out, as is a correction that changes more than half
of the words. Held out is one question in ten. The benchmark `finegrained_qa` compares other answers to these very
questions, so a model that was trained here is not to be measured there. Source: allenai/FineGrainedRLHF; Wu et al. 2023
(arXiv 2306.01693). License: Apache-2.0.
"""

from collections.abc import Iterator
from pathlib import Path

from pydantic import AliasPath, BaseModel, Field

from uptake.benchmarks.finegrained_qa import Passage, passage_text
from uptake.benchmarks.parse import prompt, rows, table
from uptake.data.where import bad_row
from uptake.edit_sets.items import Row, edited
from uptake.types import Span

FOLDER = "finegrained-rlhf-qa"


class _Error(BaseModel):
    kind: str = Field(alias="error type")
    start: int
    end: int


class _Marked(BaseModel):
    question: str
    passages: list[Passage]
    answer: str = Field(alias="prediction 1")
    errors: list[_Error] = Field(validation_alias=AliasPath("feedback", "errors"))
    corrected: str = Field(validation_alias=AliasPath("feedback", "corrected-prediction"))


def local(folder: Path) -> Iterator[Row]:
    """Every answer, with its errors and its correction."""
    for where, row in rows(table(folder, "dev_feedback"), _Marked):
        asked = prompt("\n\n".join((*map(passage_text, row.passages), row.question)), where)
        for error in row.errors:
            if not 0 <= error.start < error.end <= len(row.answer):
                allowed = f"a stretch of the answer's {len(row.answer)} characters"
                raise bad_row(f"an error from {error.start} to {error.end}", where, field="feedback", allowed=allowed)
        spans = [Span(error.start, error.end, -1.0, error.kind) for error in row.errors]
        yield edited(asked, "finegrained_qa", row.answer, row.corrected.strip(), spans)
