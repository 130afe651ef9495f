"""GRADE: how coherent a response is (1 to 5), by about ten annotators; three data sets, each a group.

The groups are ConvAI2, DailyDialog and EmpatheticDialogues, with two lines of context each.
"""

from collections.abc import Iterator
from pathlib import Path
from statistics import fmean

from pydantic import BaseModel, Field, Json

from uptake.datasets.items import Rating, to_rating
from uptake.datasets.parse import context, rows, table
from uptake.types import Turn

FOLDER = "grade"
SOURCE = "li3cmz/GRADE; Huang et al., EMNLP 2020 (arXiv 2010.03994)"
LICENSE = "none stated"


class _Response(BaseModel):
    group: str = Field(alias="Dataset")
    system: str = Field(alias="DialogModel")
    context: str = Field(alias="Context")
    response: str = Field(alias="Response")
    scores: Json[list[float]] = Field(alias="HumanScores")


def ratings(folder: Path) -> Iterator[Rating | str]:
    """The mean coherence of every response."""
    for where, row in rows(table(folder, "human_judgement"), _Response):
        turns = (*context(row.context.split("|||")), Turn("assistant", row.response))
        ratings = {"coherence": fmean(row.scores)} if row.scores else {}
        yield to_rating(turns, ratings, where=where, system=row.system, group=row.group.removesuffix("_EVAL"))
