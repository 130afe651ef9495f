"""Percentile bootstrap intervals, for figures whose interval has no formula."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

FloatArray = NDArray[np.float64]

# From weights, one row a resample, to the figure of each, not-a-number where it is undefined.
Statistic = Callable[[FloatArray], FloatArray]

SAMPLES = 1000
# Resamples that are weighed at once: so many, and of many rows as many as have this many weights.
BLOCK, WEIGHTS = 100, 1 << 21

# Fewer clusters than this have no interval: drawing two anew says next to nothing.
FEWEST = 3


@dataclass(frozen=True, slots=True)
class Estimate:
    """Figure of `n` rows with its 95 % interval: `Estimate(value=0.41, low=0.33, high=0.49, n=375)`.

    Where the figure is undefined, `value` is None and `reason` says why; `low` and `high` are None without an interval.
    """

    value: float | None
    low: float | None
    high: float | None
    n: int
    reason: str = ""


def estimate(statistic: Statistic, clusters: NDArray[np.intp], seed: int = 0) -> Estimate:
    """Estimate from all rows, with the percentile bootstrap interval of 1000 resamples; equal seeds, equal intervals.

    `statistic` gets weights "resamples rows", which say how often each row is there. Rows of one cluster (one prompt,
    say) are drawn together. Resamples in which the figure is undefined are left out.
    Source: Efron (1979), Annals of Statistics 7:1-26; Davison and Hinkley (1997), section 3.8.
    """
    n, (_, numbers) = len(clusters), np.unique(clusters, return_inverse=True)
    value = float(statistic(np.ones((1, n)))[0])
    if np.isnan(value):
        return Estimate(None, None, None, n, "undefined for these rows")
    if numbers.max() + 1 < FEWEST:
        return Estimate(value, None, None, n)
    values = np.concatenate([statistic(weights) for weights in _resamples(numbers, seed)])
    low, high = np.nanpercentile(values, [2.5, 97.5])
    return Estimate(value, float(low), float(high), n)


def _resamples(numbers: NDArray[np.intp], seed: int) -> Iterator[FloatArray]:
    """Weights of the rows whose clusters have these numbers, in blocks that fit in memory."""
    rng, count = np.random.default_rng(seed), int(numbers.max()) + 1
    # Never one alone, whose sums NumPy rounds in another way.
    most = max(2, min(BLOCK, WEIGHTS // len(numbers)))
    for start in range(0, SAMPLES, most):
        block = min(most, SAMPLES - start)
        drawn = rng.integers(count, size=(block, count)) + count * np.arange(block)[:, None]
        times = np.bincount(drawn.reshape(-1), minlength=block * count).reshape(block, count)
        yield times[:, numbers].astype(np.float64)
