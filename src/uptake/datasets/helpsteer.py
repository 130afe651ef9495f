"""HelpSteer: responses rated by people for helpfulness, correctness and coherence, from 0 to 4.

Complexity and verbosity, which are no merits, are left out. Evaluated is the validation split.
"""

from collections.abc import Iterator

from pydantic import BaseModel

from uptake.datasets.items import Rating, to_rating
from uptake.datasets.parse import Records, hub, rows
from uptake.types import Turn

FOLDER = None
SOURCE = "nvidia/HelpSteer on the Hub; Wang et al. (arXiv 2311.09528)"
LICENSE = "CC BY 4.0"


class _Response(BaseModel):
    prompt: str
    response: str
    helpfulness: float
    correctness: float
    coherence: float


def hub_ratings() -> Iterator[Rating | str]:
    """The three ratings of every response."""
    return from_records(hub("nvidia/HelpSteer", "validation"))


def from_records(found: Records) -> Iterator[Rating | str]:
    """The items of records of the Hub."""
    for where, row in rows(found, _Response):
        ratings = row.model_dump(exclude={"prompt", "response"})
        yield to_rating((Turn("user", row.prompt), Turn("assistant", row.response)), ratings, where=where)
