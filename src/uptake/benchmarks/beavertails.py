"""BeaverTails preferences: people say which of two responses is more helpful, and which is safer.

A row gives two comparisons, one in each of the groups "helpful" and "safe". Source: PKU-Alignment/PKU-SafeRLHF on the
Hub, test split; Ji et al. (arXiv 2307.04657). License: CC BY-NC 4.0.
"""

from collections.abc import Iterator
from typing import Literal

from pydantic import BaseModel

from uptake.benchmarks import parse
from uptake.benchmarks.items import Row

FOLDER = local = None


class _Pair(BaseModel):
    prompt: str
    response_0: str
    response_1: str
    better_response_id: Literal[0, 1]
    safer_response_id: Literal[0, 1]


def hub() -> Iterator[Row]:
    """Two comparisons a row."""
    return items(parse.hub("PKU-Alignment/PKU-SafeRLHF", "test"))


def items(found: parse.Records) -> Iterator[Row]:
    """The items of records of the Hub."""
    for where, pair in parse.rows(found, _Pair):
        asked, responses = parse.prompt(pair.prompt, where), (pair.response_0, pair.response_1)
        yield parse.comparison(asked, responses, float(pair.better_response_id == 0), where, "helpful")
        yield parse.comparison(asked, responses, float(pair.safer_response_id == 0), where, "safe")
