"""Auto-J: people prefer one of two models' responses in 58 scenarios of everyday use, or call it a tie.

Source: GAIR-NLP/auto-j, as packaged for Prometheus; Li et al. (arXiv 2310.05470). License: Apache-2.0.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, Field

from uptake.benchmarks import parse
from uptake.benchmarks.items import Row

FOLDER = "autoj-pairwise"
hub = None

_PREFERENCES = {0: 1.0, 1: 0.0, 2: 0.5}


class _Pair(BaseModel):
    prompt: str
    first: str = Field(alias="response 1")
    second: str = Field(alias="response 2")
    label: Literal[0, 1, 2]


def local(folder: Path) -> Iterator[Row]:
    """One comparison a row."""
    for where, pair in parse.rows(parse.table(folder, "test"), _Pair):
        asked, responses = parse.prompt(pair.prompt, where), (pair.first, pair.second)
        yield parse.comparison(asked, responses, _PREFERENCES[pair.label], where)
