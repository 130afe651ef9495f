"""HH-RLHF helpful-online: as helpful-base, with answers of models that were trained on such preferences.

The models were trained anew week by week.
"""

from collections.abc import Iterator

from uptake.datasets import hh
from uptake.datasets.items import Comparison

FOLDER = None
SOURCE = "Anthropic/hh-rlhf on the Hub; Bai et al. (arXiv 2204.05862)"
LICENSE = "MIT"


def hub_comparisons() -> Iterator[Comparison | str]:
    """The comparisons of the test file."""
    return hh.subset("helpful-online")
