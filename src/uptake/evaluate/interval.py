"""Shares with their 95 % interval."""

from dataclasses import dataclass
from math import sqrt
from statistics import NormalDist

import numpy as np
from numpy.typing import NDArray

Z95 = NormalDist().inv_cdf(0.975)


@dataclass(frozen=True, slots=True)
class Share:
    """A share of `n` rows between 0 and 1 and its 95 % interval: `Share(rate=0.75, low=0.30, high=0.95, n=4)`."""

    rate: float
    low: float
    high: float
    n: int


def share(points: NDArray[np.float64]) -> Share:
    """Share of 1s among points of 1 (right), 0.5 (tie) and 0 (wrong), with the Wilson score interval.

    Ties enter as half a success, which widens the interval a little. Wilson rather than a bootstrap, because resampling
    rows that are all right claims certainty ([1, 1]) from however few rows.
    Source: Wilson (1927), JASA 22:209-212.
    """
    n, rate = len(points), float(points.mean())
    spread = Z95**2 / n
    center = (rate + spread / 2) / (1 + spread)
    half = Z95 * sqrt(rate * (1 - rate) / n + spread / (4 * n)) / (1 + spread)
    return Share(rate, max(0.0, center - half), min(1.0, center + half), n)
