"""Auto-J: people prefer one of two models' responses in 58 scenarios of everyday use, or call it a tie."""

from collections.abc import Iterator
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, Field

from uptake.datasets.items import Comparison, to_comparison
from uptake.datasets.parse import prompt, rows, table

FOLDER = "autoj-pairwise"
SOURCE = "GAIR-NLP/auto-j, as packaged for Prometheus; Li et al. (arXiv 2310.05470)"
LICENSE = "Apache-2.0"

_PREFERENCES = {0: 1.0, 1: 0.0, 2: 0.5}


class _Pair(BaseModel):
    prompt: str
    first: str = Field(alias="response 1")
    second: str = Field(alias="response 2")
    label: Literal[0, 1, 2]


def comparisons(folder: Path) -> Iterator[Comparison | str]:
    """One comparison a row."""
    for where, pair in rows(table(folder, "test"), _Pair):
        question, responses = prompt(pair.prompt, where), (pair.first, pair.second)
        yield to_comparison(question, responses, _PREFERENCES[pair.label], where)
