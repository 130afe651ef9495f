"""Correlations of scores with ratings (Pearson, Spearman, Kendall), each with its bootstrap interval.

All three are written for rows with weights, so that a thousand resamples are a few operations on arrays.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
from numpy.typing import NDArray

from uptake.errors import InputError
from uptake.evaluate.bootstrap import Estimate, FloatArray, Statistic, estimate
from uptake.evaluate.numbers import columns

# Fewer rows than this have no correlation worth the name: two always lie on a line.
FEWEST_ROWS = 3

# What a variance of standardized values may be by rounding alone.
ROUNDING = 1e-20


@dataclass(frozen=True, slots=True)
class Correlations:
    """Pearson's r, Spearman's rho and Kendall's tau-b; None with a reason where scores or ratings are all equal."""

    pearson: Estimate
    spearman: Estimate
    kendall: Estimate


def correlations(
    scores: Sequence[float], ratings: Sequence[float], clusters: Sequence[int] | None = None, *, seed: int = 0
) -> Correlations:
    """Correlations of scores with ratings of the same rows; `clusters` numbers rows that are resampled together.

    Raises `InputError` for fewer than three rows, unequal lengths of the sequences and a number that is not finite.
    """
    kinds = (lambda x, y: partial(pearson, x, y), _spearman, lambda x, y: partial(kendall, x, y))
    return Correlations(*_correlated(scores, ratings, clusters, kinds, seed))


def rank_correlation(
    scores: Sequence[float] | FloatArray, ratings: Sequence[float] | FloatArray, clusters: NDArray[np.int64]
) -> Estimate:
    """Estimate of Spearman's rho, as `correlations` has it."""
    (found,) = _correlated(scores, ratings, clusters, (_spearman,), seed=0)
    return found


def _correlated(
    scores: Sequence[float] | FloatArray,
    ratings: Sequence[float] | FloatArray,
    clusters: Sequence[int] | NDArray[np.int64] | None,
    kinds: Sequence[Callable[[FloatArray, FloatArray], Statistic]],
    seed: int,
) -> list[Estimate]:
    x, y = columns(scores=scores, ratings=ratings)
    if len(x) < FEWEST_ROWS:
        raise InputError(f"{len(x)} rows", field="scores", allowed=f"at least {FEWEST_ROWS}, for a correlation")
    together = np.arange(len(x)) if clusters is None else np.asarray(clusters)
    for name, values in (("scores", x), ("ratings", y)):
        if np.ptp(values) == 0:
            return [Estimate(None, None, None, len(x), f"all {name} are equal") for _ in kinds]
    return [estimate(kind(_standard(x), _standard(y)), together, seed) for kind in kinds]


def pearson(x: FloatArray, y: FloatArray, weights: FloatArray) -> FloatArray:
    """Pearson's r by resample, of columns "rows" or "resamples rows" and weights "resamples rows"."""
    total = weights.sum(axis=1, keepdims=True)
    x, y = (each - (weights * each).sum(axis=1, keepdims=True) / total for each in (x, y))
    xx, yy, xy = ((weights * one * other).sum(axis=1) for one, other in ((x, x), (y, y), (x, y)))
    defined = (xx > ROUNDING * total[:, 0]) & (yy > ROUNDING * total[:, 0])
    r = xy / np.sqrt(np.where(defined, xx * yy, 1.0))
    return np.where(defined, r.clip(-1, 1), np.nan)


def spearman(x: FloatArray, y: FloatArray, weights: FloatArray) -> FloatArray:
    """Spearman's rho by resample, with mean ranks for ties: Pearson's r of the ranks, made small as its values are."""
    return _spearman(x, y)(weights)


def _spearman(x: FloatArray, y: FloatArray) -> Statistic:
    """Spearman's rho of two columns, which are sorted once for all resamples."""
    n, (x_ranks, y_ranks) = len(x), (_ranks(each) for each in (x, y))
    return lambda weights: pearson(x_ranks(weights) / n, y_ranks(weights) / n, weights)


def kendall(x: FloatArray, y: FloatArray, weights: FloatArray) -> FloatArray:
    """Kendall's tau-b by resample, for weights that count rows.

    Source: Knight (1966), JASA 61:436-439: with rows sorted by x, then y, the pairs out of order in y are the
    discordant ones.
    """
    order = np.lexsort((y, x))
    x_rank, y_rank = (np.unique(each[order], return_inverse=True)[1] for each in (x, y))
    weights = weights[:, order]
    # Ordered pairs, a row with itself and its copies among them: all, and those alike in x, in y, and in both.
    total = weights.sum(axis=1) ** 2
    x_ties, y_ties, ties = (
        (_grouped(rank)(weights) ** 2).sum(axis=1)
        for rank in (x_rank, y_rank, np.unique(x_rank * len(x) + y_rank, return_inverse=True)[1])
    )
    surplus = (total - x_ties - y_ties + ties) / 2 - 2 * _inversions(y_rank, weights)
    defined = (total > x_ties) & (total > y_ties)
    scale = np.sqrt(np.where(defined, (total - x_ties) * (total - y_ties), 1.0)) / 2
    return np.where(defined, surplus / scale, np.nan)


def _standard(values: FloatArray) -> FloatArray:
    """Mean 0 and standard deviation 1, from whatever scale."""
    centered = (values - values.mean()) / np.ptp(values)
    standard: FloatArray = centered / centered.std()
    return standard


def _ranks(values: FloatArray) -> Statistic:
    """The mean rank of every row by resample."""
    rank = np.unique(values, return_inverse=True)[1]
    grouped = _grouped(rank)

    def ranks(weights: FloatArray) -> FloatArray:
        sizes = grouped(weights)
        middle: FloatArray = sizes.cumsum(axis=1) - (sizes - 1) / 2
        return middle[:, rank]

    return ranks


def _grouped(rank: NDArray[np.intp]) -> Statistic:
    """The weight of all rows of each place, "resamples places"."""
    order = np.argsort(rank, kind="stable")
    starts = np.searchsorted(rank[order], np.arange(rank.max() + 1))
    return lambda weights: np.add.reduceat(weights[:, order], starts, axis=1)


def _inversions(rank: NDArray[np.intp], weights: FloatArray) -> FloatArray:
    """The pairs of rows of which the earlier has the larger place, by resample.

    Two places differ first at one bit; so bit by bit, among rows whose higher bits are alike, those with the bit that
    come before those without it.
    """
    total = np.zeros(len(weights))
    for bit in range(int(rank.max()).bit_length()):
        block = rank >> (bit + 1)
        order = np.argsort(block, kind="stable")
        ones, begins = rank[order] >> bit & 1, np.searchsorted(block[order], block[order])
        sorted_weights = weights[:, order]
        before = np.pad((sorted_weights * ones).cumsum(axis=1), ((0, 0), (1, 0)))
        total += (sorted_weights * (1 - ones) * (before[:, :-1] - before[:, begins])).sum(axis=1)
    return total
