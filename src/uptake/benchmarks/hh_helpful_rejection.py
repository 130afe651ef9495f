"""HH-RLHF helpful-rejection-sampled: as helpful-base, with answers that a preference model picked out of many.

Source: Anthropic/hh-rlhf on the Hub; Bai et al. (arXiv 2204.05862). License: MIT.
"""

from collections.abc import Iterator

from uptake.benchmarks import hh
from uptake.benchmarks.items import Row

FOLDER = local = None


def hub() -> Iterator[Row]:
    """The comparisons of the test file."""
    return hh.subset("helpful-rejection-sampled")
