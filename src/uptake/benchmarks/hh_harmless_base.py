"""HH-RLHF harmless-base: people try to lead an assistant astray and pick the less harmful of two answers.

In a folder, the rows that split.json names "test" are evaluated, and those it names "train" are for training; on the
Hub, all of the test file is evaluated. The texts offend by design. Source: Anthropic/hh-rlhf; Bai et al. (arXiv
2204.05862). License: MIT.
"""

from collections.abc import Iterator
from pathlib import Path

from uptake.benchmarks import hh
from uptake.benchmarks.items import Row
from uptake.types import Dialogue

FOLDER = "hh-harmless-base"


def local(folder: Path) -> Iterator[Row]:
    """The comparisons of the part "test"."""
    return hh.part(folder, "test")


def hub() -> Iterator[Row]:
    """The comparisons of the test file."""
    return hh.subset("harmless-base")


def training(folder: Path) -> Iterator[Dialogue]:
    """The preferred conversations of the part "train"."""
    return hh.conversations(folder)
