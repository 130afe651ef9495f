"""USR-PersonaChat: five responses, three of them by machines, to each of 60 conversations, rated by three annotators.

The persona that the response should draw on is not shown to a reward.
"""

from collections.abc import Iterator
from pathlib import Path
from statistics import fmean

from pydantic import BaseModel, ConfigDict

from uptake.datasets.items import Rating, to_rating
from uptake.datasets.parse import context, rows, table
from uptake.types import Turn

FOLDER = "usr-personachat"
SOURCE = "Mehri and Eskenazi, ACL 2020 (arXiv 2005.00456), as in daqh/llm-eval"
LICENSE = "none stated"


class _Response(BaseModel):
    """A response; every other column is a quality with the annotators' scores."""

    model_config = ConfigDict(extra="allow")
    __pydantic_extra__: dict[str, list[float]]

    response: str
    model: str


class _Conversation(BaseModel):
    context: str
    responses: list[_Response]


def ratings(folder: Path) -> Iterator[Rating | str]:
    """Means over annotators of understandable, natural, maintains context, engaging, uses knowledge, and overall."""
    for where, row in rows(table(folder, "pc_usr_data"), _Conversation):
        before = context(row.context.strip().split("\n"))
        for each in row.responses:
            ratings = {name.lower(): fmean(scores) for name, scores in each.__pydantic_extra__.items() if scores}
            turns = (*before, Turn("assistant", each.response.strip()))
            yield to_rating(turns, ratings, where=where, system=each.model)
