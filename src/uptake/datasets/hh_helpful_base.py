"""HH-RLHF helpful-base: people talk with an assistant and pick the more helpful of two answers.

In a folder, the rows that split.json names "test" are evaluated, and those it names "train" are for training; on the
Hub, all of the test file is evaluated.
"""

from collections.abc import Iterator
from pathlib import Path

from uptake.datasets import hh
from uptake.datasets.items import Comparison
from uptake.types import Dialogue, Preference

FOLDER = "hh-helpful-base"
SOURCE = "Anthropic/hh-rlhf, cleaned by Linear95/DSP; Bai et al. (arXiv 2204.05862)"
LICENSE = "MIT, the cleaned copy CC BY-NC 4.0"


def comparisons(folder: Path) -> Iterator[Comparison | str]:
    """The comparisons of the part "test"."""
    return hh.part(folder, "test")


def hub_comparisons() -> Iterator[Comparison | str]:
    """The comparisons of the test file."""
    return hh.subset("helpful-base")


def preferences(folder: Path) -> Iterator[Preference | str]:
    """The preferences of the part "train"."""
    return hh.preferences(folder)


def conversations(folder: Path) -> Iterator[Dialogue]:
    """The preferred conversations of the part "train"."""
    return hh.conversations(folder)
