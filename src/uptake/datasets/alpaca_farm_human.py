"""AlpacaFarm: people prefer one of two outputs to an instruction."""

from collections.abc import Iterator
from typing import Literal

from pydantic import BaseModel

from uptake.datasets.items import Comparison, to_comparison
from uptake.datasets.parse import Records, hub_file, instruction, prompt, rows

FOLDER = None
SOURCE = "tatsu-lab/alpaca_farm on the Hub; Dubois et al. (arXiv 2305.14387)"
LICENSE = "CC BY-NC 4.0"


class _Pair(BaseModel):
    instruction: str
    input: str
    output_1: str
    output_2: str
    preference: Literal[1, 2]


def hub_comparisons() -> Iterator[Comparison | str]:
    """One comparison a row."""
    return from_records(hub_file("tatsu-lab/alpaca_farm", "alpaca_human_preference.json"))


def from_records(found: Records) -> Iterator[Comparison | str]:
    """The items of records of the Hub."""
    for where, pair in rows(found, _Pair):
        question = prompt(instruction(pair.instruction, pair.input), where)
        yield to_comparison(question, (pair.output_1, pair.output_2), float(pair.preference == 1), where)
