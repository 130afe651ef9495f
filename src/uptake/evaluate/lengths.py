"""Response lengths, shown beside every quality figure: a longer response often scores higher for no merit."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from uptake.evaluate.numbers import columns


@dataclass(frozen=True, slots=True)
class LengthStats:
    """Mean, median and 90th percentile, in the unit of the lengths given: `LengthStats(mean=9.5, median=9, p90=14)`."""

    mean: float
    median: float
    p90: float


@dataclass(frozen=True, slots=True)
class Lengths:
    """Lengths before and after; `ratio` is mean after over mean before (None where the mean before is 0)."""

    before: LengthStats
    after: LengthStats
    ratio: float | None


def length_stats(lengths: Sequence[float]) -> LengthStats:
    """Length statistics, in any one unit; percentiles interpolate linearly between neighbors.

    Raises `InputError` for no lengths and for one that is not finite, naming its index.
    """
    (array,) = columns(lengths=lengths)
    return LengthStats(float(array.mean()), float(np.median(array)), float(np.percentile(array, 90)))


def compare_lengths(before: Sequence[float], after: Sequence[float]) -> Lengths:
    """Length statistics of two sets of responses; raises as `length_stats` does."""
    old, new = length_stats(before), length_stats(after)
    return Lengths(old, new, new.mean / old.mean if old.mean else None)
