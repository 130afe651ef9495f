"""BeaverTails preferences: people say which of two responses is more helpful, and which is safer.

A row gives two comparisons, one in each of the groups "helpful" and "safe".
"""

from collections.abc import Iterator
from typing import Literal

from pydantic import BaseModel

from uptake.datasets.items import Comparison, to_comparison
from uptake.datasets.parse import Records, hub, prompt, rows

FOLDER = None
SOURCE = "PKU-Alignment/PKU-SafeRLHF on the Hub, test split; Ji et al. (arXiv 2307.04657)"
LICENSE = "CC BY-NC 4.0"


class _Pair(BaseModel):
    prompt: str
    response_0: str
    response_1: str
    better_response_id: Literal[0, 1]
    safer_response_id: Literal[0, 1]


def hub_comparisons() -> Iterator[Comparison | str]:
    """Two comparisons a row."""
    return from_records(hub("PKU-Alignment/PKU-SafeRLHF", "test"))


def from_records(found: Records) -> Iterator[Comparison | str]:
    """The items of records of the Hub."""
    for where, pair in rows(found, _Pair):
        question, responses = prompt(pair.prompt, where), (pair.response_0, pair.response_1)
        yield to_comparison(question, responses, float(pair.better_response_id == 0), where, "helpful")
        yield to_comparison(question, responses, float(pair.safer_response_id == 0), where, "safe")
