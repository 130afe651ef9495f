"""AlpacaFarm: people prefer one of two outputs to an instruction.

Source: tatsu-lab/alpaca_farm on the Hub; Dubois et al. (arXiv 2305.14387). License: CC BY-NC 4.0.
"""

from collections.abc import Iterator
from typing import Literal

from pydantic import BaseModel

from uptake.benchmarks import parse
from uptake.benchmarks.items import Row

FOLDER = local = None


class _Pair(BaseModel):
    instruction: str
    input: str
    output_1: str
    output_2: str
    preference: Literal[1, 2]


def hub() -> Iterator[Row]:
    """One comparison a row."""
    return items(parse.hub_file("tatsu-lab/alpaca_farm", "alpaca_human_preference.json"))


def items(found: parse.Records) -> Iterator[Row]:
    """The items of records of the Hub."""
    for where, pair in parse.rows(found, _Pair):
        asked = parse.prompt(parse.instruction(pair.instruction, pair.input), where)
        yield parse.comparison(asked, (pair.output_1, pair.output_2), float(pair.preference == 1), where)
