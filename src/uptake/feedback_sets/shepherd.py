"""Shepherd: people's critiques of answers to questions that ask for reasoning.

Whether a critique approves is not recorded. Held out is one question in ten. Source: facebookresearch/Shepherd; Wang et
al. (arXiv 2308.04592). License: CC BY-NC 4.0.
"""

from collections.abc import Iterator
from pathlib import Path

from pydantic import BaseModel

from uptake.benchmarks.parse import rows, table
from uptake.feedback_sets.items import Row, feedback

FOLDER = "shepherd-human-feedback"


class _Critique(BaseModel):
    question: str
    answer: str
    feedback: str


def local(folder: Path) -> Iterator[Row]:
    """Every critique."""
    for _, row in rows(table(folder, "human_data_for_model"), _Critique):
        yield feedback(row.question, row.answer, row.feedback)
