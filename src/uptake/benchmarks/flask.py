"""FLASK: responses rated for one skill each, 1 to 5, by people and by GPT-4.

A response stands there once for every skill it is rated for; the rubric is not shown to a reward. Source:
ContextualAI/Flask on the Hub, as packaged for Prometheus; Ye et al. (arXiv 2307.10928).
"""

from collections.abc import Iterator
from statistics import fmean

from pydantic import BaseModel

from uptake.benchmarks import parse
from uptake.benchmarks.chats import rated
from uptake.benchmarks.items import Row
from uptake.types import Turn

FOLDER = local = None


class _Response(BaseModel):
    query: str
    response: str
    human_score: list[float] | None = None
    gpt4_score: list[float] | None = None


def hub() -> Iterator[Row]:
    """The mean score of the people ("human") and of GPT-4 ("gpt-4")."""
    return items(parse.hub("ContextualAI/Flask", "test"))


def items(found: parse.Records) -> Iterator[Row]:
    """The items of records of the Hub."""
    for where, row in parse.rows(found, _Response):
        scores = {"human": row.human_score, "gpt-4": row.gpt4_score}
        ratings = {judge: fmean(given) for judge, given in scores.items() if given}
        yield rated((Turn("user", row.query), Turn("assistant", row.response)), ratings, where=where)
