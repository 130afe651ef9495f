"""JudgeBench: two answers of one model to a hard question in knowledge, reasoning, math or code; one is right.

The groups are the models that answer. Source: ScalerLab/JudgeBench; Tan et al. (arXiv 2410.12784). License: MIT on the
Hub, none stated in the repository.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Literal

from pydantic import BaseModel

from uptake.benchmarks import parse
from uptake.benchmarks.items import Row

FOLDER = "judgebench"


class _Pair(BaseModel):
    question: str
    response_A: str
    response_B: str
    label: Literal["A>B", "B>A"]


def local(folder: Path) -> Iterator[Row]:
    """One comparison a row."""
    for group in ("gpt4o", "claude35sonnet"):
        yield from items(parse.table(folder, group), group)


def hub() -> Iterator[Row]:
    """One comparison a row."""
    for split, group in (("gpt", "gpt4o"), ("claude", "claude35sonnet")):
        yield from items(parse.hub("ScalerLab/JudgeBench", split), group)


def items(found: parse.Records, group: str) -> Iterator[Row]:
    """The items of one model's records."""
    for where, pair in parse.rows(found, _Pair):
        responses = pair.response_A, pair.response_B
        yield parse.comparison(parse.prompt(pair.question, where), responses, float(pair.label == "A>B"), where, group)
