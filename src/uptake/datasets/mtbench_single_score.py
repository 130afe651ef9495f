"""MT-Bench by single scores: GPT-4 rates answers of 21 models to 80 two-turn questions, from 1 to 10.

An answer to the first turn has the second as its follow-up, which is the same for every model. The models are not those
of the original leaderboard.
"""

from collections.abc import Iterator
from itertools import chain, zip_longest
from pathlib import Path

from pydantic import BaseModel

from uptake.datasets.items import Rating, to_rating
from uptake.datasets.parse import rows, table
from uptake.types import Turn

FOLDER = "mtbench-single-score"
SOURCE = "judgments in forks of lm-sys/FastChat and in lm-sys/RouteLLM; Zheng et al. (arXiv 2306.05685)"
LICENSE = "Apache-2.0"


class _Question(BaseModel):
    question_id: int
    turns: list[str]


class _Judgment(BaseModel):
    question_id: int
    turns: list[str]
    model: str
    answers: list[str]
    score: float


def ratings(folder: Path) -> Iterator[Rating | str]:
    """The score of every answer; a conversation with an empty answer in it is left out."""
    questions = {question.question_id: question.turns for _, question in rows(table(folder, "question"), _Question)}
    for where, row in rows(table(folder, "ratings"), _Judgment):
        to_come = questions.get(row.question_id, [])[len(row.turns) :]
        user_turns = (Turn("user", text) for text in (*row.turns, *to_come))
        model_turns = (Turn("assistant", text) for text in row.answers)
        turns = [turn for turn in chain(*zip_longest(user_turns, model_turns)) if turn]
        complete = all(answer.strip() for answer in row.answers)
        yield to_rating(turns, {"overall": row.score}, where=where, system=row.model) if complete else "no response"
