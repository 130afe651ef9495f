"""JudgeBench: two answers of one model to a hard question in knowledge, reasoning, math or code; one is right.

The groups are the models that answer.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Literal

from pydantic import BaseModel

from uptake.datasets.items import Comparison, to_comparison
from uptake.datasets.parse import Records, hub, prompt, rows, table

FOLDER = "judgebench"
SOURCE = "ScalerLab/JudgeBench; Tan et al. (arXiv 2410.12784)"
LICENSE = "MIT on the Hub, none stated in the repository"


class _Pair(BaseModel):
    question: str
    response_A: str
    response_B: str
    label: Literal["A>B", "B>A"]


def comparisons(folder: Path) -> Iterator[Comparison | str]:
    """One comparison a row."""
    for group in ("gpt4o", "claude35sonnet"):
        yield from from_records(table(folder, group), group)


def hub_comparisons() -> Iterator[Comparison | str]:
    """One comparison a row."""
    for split, group in (("gpt", "gpt4o"), ("claude", "claude35sonnet")):
        yield from from_records(hub("ScalerLab/JudgeBench", split), group)


def from_records(found: Records, group: str) -> Iterator[Comparison | str]:
    """The items of one model's records."""
    for where, pair in rows(found, _Pair):
        responses = pair.response_A, pair.response_B
        yield to_comparison(prompt(pair.question, where), responses, float(pair.label == "A>B"), where, group)
