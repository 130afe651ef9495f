"""Prometheus: GPT-4 grades four models' answers to MT-Bench and Vicuna questions, 1 to 5, and explains each grade.

Every answer is graded three times. The groups are the second turns of MT-Bench ("mt_bench") and the Vicuna questions
("vicuna"). The rubric, one for each question, is not shown to a reward.

As feedback, grades of 4 and 5 are positive, 1 and 2 negative. Nothing is left to train on: the ratings evaluate both
files, so all of it is held out, for perplexity.
"""

import re
from collections.abc import Iterator
from pathlib import Path
from statistics import fmean

from pydantic import BaseModel

from uptake.datasets.items import Feedback, FeedbackPolarity, Rating, graded, to_feedback, to_rating
from uptake.datasets.parse import rows, table
from uptake.types import Role, Turn

FOLDER = "prometheus-rated"
SOURCE = "prometheus-eval/prometheus-eval; Kim et al. (arXiv 2310.08491)"
LICENSE = "Apache-2.0"

_GROUPS = ("mt_bench", "vicuna")
_ROLES: dict[str, Role] = {"User": "user", "Assistant": "assistant"}

# A conversation so far, spelled out within the instruction: a first line that asks for the next answer, then turns, the
# last of them a bare "Assistant:".
_DIALOGUE = "Here is a previous dialogue between an assistant and an user."
_MARK = re.compile(r"\n(User|Assistant):")


class _Response(BaseModel):
    response_source: str
    orig_instruction: str
    orig_response: str
    gpt4_score: list[float]


class _Explained(_Response):
    gpt4_feedback: list[str]


def ratings(folder: Path) -> Iterator[Rating | str]:
    """The mean of GPT-4's scores of every response."""
    for group in _GROUPS:
        for where, row in rows(table(folder, f"{group}_eval"), _Response):
            turns = (*_question(row.orig_instruction), Turn("assistant", row.orig_response))
            mean = {"overall": fmean(row.gpt4_score)} if row.gpt4_score else {}
            yield to_rating(turns, mean, where=where, system=row.response_source, group=group)


def feedback(folder: Path) -> Iterator[Feedback | str]:
    """Every explanation."""
    for group in _GROUPS:
        for where, row in rows(table(folder, f"{group}_eval"), _Explained):
            for text, grade in graded(row.gpt4_feedback, row.gpt4_score, where):
                question = _question(row.orig_instruction)
                yield to_feedback(question, row.orig_response, text, _polarity(grade), "heldout", rating=grade)


def _polarity(grade: float) -> FeedbackPolarity:
    return "unknown" if grade == 3 else "positive" if grade > 3 else "negative"


def _question(instruction: str) -> tuple[Turn, ...]:
    """The conversation up to the response, out of an instruction that may spell several turns."""
    if not instruction.startswith(_DIALOGUE):
        return (Turn("user", instruction),)
    _, *parts = _MARK.split(instruction)
    return tuple(Turn(_ROLES[mark], text.strip()) for mark, text in zip(parts[::2], parts[1::2], strict=True))
