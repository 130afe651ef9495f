"""Feedback Bench: 1000 responses written to deserve a score from 1 to 5 by a rubric of their own.

The score is GPT-4's; the rubric is not shown to a reward.
"""

from collections.abc import Iterator

from pydantic import BaseModel

from uptake.datasets.items import Rating, to_rating
from uptake.datasets.parse import Records, hub, rows
from uptake.types import Turn

FOLDER = None
SOURCE = "prometheus-eval/Feedback-Bench on the Hub; Kim et al. (arXiv 2310.08491)"
LICENSE = "see its page on the Hub"


class _Response(BaseModel):
    orig_instruction: str
    orig_response: str
    orig_score: float


def hub_ratings() -> Iterator[Rating | str]:
    """The score that each response was written for."""
    return from_records(hub("prometheus-eval/Feedback-Bench", "train"))


def from_records(found: Records) -> Iterator[Rating | str]:
    """The items of records of the Hub."""
    for where, row in rows(found, _Response):
        turns = (Turn("user", row.orig_instruction), Turn("assistant", row.orig_response))
        yield to_rating(turns, {"overall": row.orig_score}, where=where)
