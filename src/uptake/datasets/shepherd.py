"""Shepherd: people's critiques of answers to questions that ask for reasoning.

Whether a critique approves is not recorded. Held out of the feedback is one question in ten. The conversations are of
all questions, with the critique where its writer would have told the assistant.
"""

from collections.abc import Iterator
from pathlib import Path

from pydantic import BaseModel

from uptake.datasets.items import Feedback, to_feedback
from uptake.datasets.parse import rows, table
from uptake.types import Dialogue, Turn

FOLDER = "shepherd-human-feedback"
SOURCE = "facebookresearch/Shepherd; Wang et al. (arXiv 2308.04592)"
LICENSE = "CC BY-NC 4.0"


class _Critique(BaseModel):
    question: str
    answer: str
    feedback: str


def feedback(folder: Path) -> Iterator[Feedback | str]:
    """Every critique."""
    for _, row in rows(table(folder, "human_data_for_model"), _Critique):
        yield to_feedback(row.question, row.answer, row.feedback)


def conversations(folder: Path) -> Iterator[Dialogue]:
    """Every question with its answer and the critique of it."""
    for _, row in rows(table(folder, "human_data_for_model"), _Critique):
        yield Turn("user", row.question), Turn("assistant", row.answer), Turn("user", row.feedback)
