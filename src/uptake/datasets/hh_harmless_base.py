"""HH-RLHF harmless-base: people try to lead an assistant astray and pick the less harmful of two answers.

In a folder, the rows that split.json names "test" are evaluated, and those it names "train" are for training; on the
Hub, all of the test file is evaluated. The texts offend by design.
"""

from collections.abc import Iterator
from pathlib import Path

from uptake.datasets import hh
from uptake.datasets.items import Comparison
from uptake.types import Dialogue, Preference

FOLDER = "hh-harmless-base"
SOURCE = "Anthropic/hh-rlhf; Bai et al. (arXiv 2204.05862)"
LICENSE = "MIT"


def comparisons(folder: Path) -> Iterator[Comparison | str]:
    """The comparisons of the part "test"."""
    return hh.part(folder, "test")


def hub_comparisons() -> Iterator[Comparison | str]:
    """The comparisons of the test file."""
    return hh.subset("harmless-base")


def preferences(folder: Path) -> Iterator[Preference | str]:
    """The preferences of the part "train"."""
    return hh.preferences(folder)


def conversations(folder: Path) -> Iterator[Dialogue]:
    """The preferred conversations of the part "train"."""
    return hh.conversations(folder)
