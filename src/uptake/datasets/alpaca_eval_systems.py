"""AlpacaEval as a ranking of 18 systems: each response carries its system's win rate on the leaderboard.

A reward is good here if its means by system stand in the order of the win rates; the ratings say nothing about single
responses. The win rate is GPT-4's, against text-davinci-003, in percent. Some of the questions are from the test set of
HH-RLHF.
"""

from collections.abc import Iterator
from pathlib import Path

from pydantic import BaseModel, Field

from uptake.datasets.items import Rating, to_rating
from uptake.datasets.parse import rows, table
from uptake.types import Turn

FOLDER = "alpaca-eval-ai-feedback"
SOURCE = "tatsu-lab/alpaca_eval; Dubois et al. (arXiv 2305.14387)"
LICENSE = "Apache-2.0, data CC BY-NC 4.0"


class _Standing(BaseModel):
    system: str = Field(alias="")
    win_rate: float


class _Annotation(BaseModel):
    instruction: str
    output_2: str
    generator_2: str


def ratings(folder: Path) -> Iterator[Rating | str]:
    """Every response with the win rate of its system; a system off the leaderboard has no rating."""
    board = {row.system: row.win_rate for _, row in rows(table(folder, "leaderboard_alpaca_eval_1"), _Standing)}
    for where, row in rows(table(folder, "annotations"), _Annotation):
        turns = (Turn("user", row.instruction), Turn("assistant", row.output_2))
        ratings = {"win rate": board[row.generator_2]} if row.generator_2 in board else {}
        yield to_rating(turns, ratings, where=where, system=row.generator_2)
