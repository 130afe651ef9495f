"""AlpacaFarm cross-annotation pairs: GPT-4 prefers one of two outputs to an instruction, asked eight times.

The preference is the share of the eight for the first output.
"""

from collections.abc import Iterator
from pathlib import Path
from statistics import fmean
from typing import Literal

from pydantic import BaseModel, Field

from uptake.datasets.items import Comparison, to_comparison
from uptake.datasets.parse import instruction, prompt, rows, table

FOLDER = "alpacafarm-crossannotation"
SOURCE = "tatsu-lab/alpaca_eval; Dubois et al. (arXiv 2305.14387)"
LICENSE = "CC BY-NC 4.0"


class _Pair(BaseModel):
    instruction: str
    input: str
    output_1: str
    output_2: str
    preferences: dict[str, Literal[1, 2]] = Field(min_length=1)


def comparisons(folder: Path) -> Iterator[Comparison | str]:
    """One comparison a row."""
    for where, pair in rows(table(folder, "pairs"), _Pair):
        question = prompt(instruction(pair.instruction, pair.input), where)
        share = fmean(vote == 1 for vote in pair.preferences.values())
        yield to_comparison(question, (pair.output_1, pair.output_2), share, where)
