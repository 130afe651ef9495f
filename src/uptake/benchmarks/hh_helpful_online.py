"""HH-RLHF helpful-online: as helpful-base, with answers of models that were trained on such preferences week by week.

Source: Anthropic/hh-rlhf on the Hub; Bai et al. (arXiv 2204.05862). License: MIT.
"""

from collections.abc import Iterator

from uptake.benchmarks import hh
from uptake.benchmarks.items import Row

FOLDER = local = None


def hub() -> Iterator[Row]:
    """The comparisons of the test file."""
    return hh.subset("helpful-online")
