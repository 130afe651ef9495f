"""FLASK: responses rated for one skill each, 1 to 5, by people and by GPT-4.

A response stands there once for every skill it is rated for; the rubric is not shown to a reward.
"""

from collections.abc import Iterator
from statistics import fmean

from pydantic import BaseModel

from uptake.datasets.items import Rating, to_rating
from uptake.datasets.parse import Records, hub, rows
from uptake.types import Turn

FOLDER = None
SOURCE = "ContextualAI/Flask on the Hub, as packaged for Prometheus; Ye et al. (arXiv 2307.10928)"
LICENSE = "see its page on the Hub"


class _Response(BaseModel):
    query: str
    response: str
    human_score: list[float] | None = None
    gpt4_score: list[float] | None = None


def hub_ratings() -> Iterator[Rating | str]:
    """The mean score of the people ("human") and of GPT-4 ("gpt-4")."""
    return from_records(hub("ContextualAI/Flask", "test"))


def from_records(found: Records) -> Iterator[Rating | str]:
    """The items of records of the Hub."""
    for where, row in rows(found, _Response):
        scores = {"human": row.human_score, "gpt-4": row.gpt4_score}
        ratings = {judge: fmean(given) for judge, given in scores.items() if given}
        yield to_rating((Turn("user", row.query), Turn("assistant", row.response)), ratings, where=where)
