"""Wilson score interval of a share."""

from collections.abc import Sequence
from dataclasses import dataclass
from math import sqrt
from statistics import NormalDist

import numpy as np
from numpy.typing import NDArray

Z95 = NormalDist().inv_cdf(0.975)


@dataclass(frozen=True, slots=True)
class Share:
    """Share of `n` rows between 0 and 1 and its 95 % interval: `Share(rate=0.75, low=0.30, high=0.95, n=4)`."""

    rate: float
    low: float
    high: float
    n: int


def share(points: NDArray[np.float64], clusters: NDArray[np.intp] | None = None) -> Share:
    """Share of 1s among points of 1 (right), 0.5 (tie) and 0 (wrong), with the Wilson score interval.

    Ties enter as half a success, which widens the interval a little. Wilson rather than a bootstrap, because resampling
    rows that are all right claims certainty ([1, 1]) from however few rows. Rows of one cluster (one prompt, say) tell
    less than as many independent ones: `clusters` numbers them, and the interval is that of the effective sample size.
    Source: Wilson (1927), JASA 22:209-212; Korn and Graubard (1998), Survey Methodology 24:193-201.
    """
    n, rate = len(points), float(points.mean())
    size = n if clusters is None else _effective_size(points, clusters)
    spread = Z95**2 / size
    center = (rate + spread / 2) / (1 + spread)
    half = Z95 * sqrt(rate * (1 - rate) / size + spread / (4 * size)) / (1 + spread)
    return Share(rate, max(0.0, center - half), min(1.0, center + half), n)


def share_by_group(points: NDArray[np.float64], groups: Sequence[str], clusters: NDArray[np.intp]) -> dict[str, Share]:
    """Share of every group, where there are several."""
    labels, names = np.asarray(groups), list(dict.fromkeys(groups))
    rows = {name: np.flatnonzero(labels == name) for name in names if len(names) > 1}
    return {name: share(points[of], clusters[of]) for name, of in rows.items()}


def _effective_size(points: NDArray[np.float64], clusters: NDArray[np.intp]) -> float:
    """How many independent rows would vary as the mean of these does; as many as clusters where all are equal."""
    residuals = points - points.mean()
    by_cluster = np.bincount(clusters, weights=residuals)
    alone, together = float(residuals @ residuals), float(by_cluster @ by_cluster)
    return len(points) / max(1.0, together / alone) if alone else len(np.unique(clusters))
