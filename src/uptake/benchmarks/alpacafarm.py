"""AlpacaFarm cross-annotation pairs: GPT-4 prefers one of two outputs to an instruction, asked eight times.

The preference is the share of the eight for the first output. Source: tatsu-lab/alpaca_eval; Dubois et al. (arXiv
2305.14387). License: CC BY-NC 4.0.
"""

from collections.abc import Iterator
from pathlib import Path
from statistics import fmean
from typing import Literal

from pydantic import BaseModel, Field

from uptake.benchmarks import parse
from uptake.benchmarks.items import Row

FOLDER = "alpacafarm-crossannotation"
hub = None


class _Pair(BaseModel):
    instruction: str
    input: str
    output_1: str
    output_2: str
    preferences: dict[str, Literal[1, 2]] = Field(min_length=1)


def local(folder: Path) -> Iterator[Row]:
    """One comparison a row."""
    for where, pair in parse.rows(parse.table(folder, "pairs"), _Pair):
        asked = parse.prompt(parse.instruction(pair.instruction, pair.input), where)
        share = fmean(vote == 1 for vote in pair.preferences.values())
        yield parse.comparison(asked, (pair.output_1, pair.output_2), share, where)
