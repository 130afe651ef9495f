"""HelpSteer: responses rated by people for helpfulness, correctness and coherence, from 0 to 4.

Complexity and verbosity, which are no merits, are left out. Evaluated is the validation split. Source: nvidia/HelpSteer
on the Hub; Wang et al. (arXiv 2311.09528). License: CC BY 4.0.
"""

from collections.abc import Iterator

from pydantic import BaseModel

from uptake.benchmarks import parse
from uptake.benchmarks.chats import rated
from uptake.benchmarks.items import Row
from uptake.types import Turn

FOLDER = local = None


class _Response(BaseModel):
    prompt: str
    response: str
    helpfulness: float
    correctness: float
    coherence: float


def hub() -> Iterator[Row]:
    """The three ratings of every response."""
    return items(parse.hub("nvidia/HelpSteer", "validation"))


def items(found: parse.Records) -> Iterator[Row]:
    """The items of records of the Hub."""
    for where, row in parse.rows(found, _Response):
        ratings = row.model_dump(exclude={"prompt", "response"})
        yield rated((Turn("user", row.prompt), Turn("assistant", row.response)), ratings, where=where)
