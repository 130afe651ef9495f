"""Feedback Bench: 1000 responses written to deserve a score from 1 to 5 by a rubric of their own.

The score is GPT-4's; the rubric is not shown to a reward. Source: prometheus-eval/Feedback-Bench on the Hub; Kim et al.
(arXiv 2310.08491).
"""

from collections.abc import Iterator

from pydantic import BaseModel

from uptake.benchmarks import parse
from uptake.benchmarks.chats import rated
from uptake.benchmarks.items import Row
from uptake.types import Turn

FOLDER = local = None


class _Response(BaseModel):
    orig_instruction: str
    orig_response: str
    orig_score: float


def hub() -> Iterator[Row]:
    """The score that each response was written for."""
    return items(parse.hub("prometheus-eval/Feedback-Bench", "train"))


def items(found: parse.Records) -> Iterator[Row]:
    """The items of records of the Hub."""
    for where, row in parse.rows(found, _Response):
        turns = (Turn("user", row.orig_instruction), Turn("assistant", row.orig_response))
        yield rated(turns, {"overall": row.orig_score}, where=where)
