"""System ranking: rank correlations of the systems' mean scores with their mean ratings."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from scipy.stats import rankdata

from uptake.errors import InputError
from uptake.evaluate.bootstrap import Estimate, FloatArray, estimate
from uptake.evaluate.correlation import FEWEST_ROWS, pearson
from uptake.evaluate.numbers import columns


@dataclass(frozen=True, slots=True)
class SystemRanking:
    """Rank correlations of the systems' mean scores with their mean ratings; `means` are (score, rating) by system.

    The intervals are for other prompts and the same systems.
    """

    spearman: Estimate
    kendall: Estimate
    means: Mapping[str, tuple[float, float]]


def system_ranking(
    scores: Sequence[float],
    ratings: Sequence[float],
    systems: Sequence[str],
    clusters: Sequence[int] | None = None,
    *,
    seed: int = 0,
) -> SystemRanking:
    """System ranking by mean score against that by mean rating; `clusters` numbers rows that are resampled together.

    Raises `InputError` for fewer than three systems, unequal lengths of the sequences and a number that is not finite.
    """
    x, y = columns(scores=scores, ratings=ratings)
    names, system = np.unique(np.asarray(systems), return_inverse=True)
    if len(system) != len(x) or len(names) < FEWEST_ROWS:
        raise InputError(
            f"{len(names)} systems in {len(system)} rows of {len(x)}",
            field="systems",
            allowed=f"at least {FEWEST_ROWS}, one a row",
        )
    together = np.arange(len(x)) if clusters is None else np.asarray(clusters)
    members = (system[:, None] == np.arange(len(names))).astype(np.float64)

    def means(weights: FloatArray) -> tuple[FloatArray, FloatArray]:
        """Mean score and rating, "resamples systems"; not-a-number for a system that was not drawn."""
        sizes = weights @ members
        sizes[sizes == 0] = np.nan
        return (weights * x) @ members / sizes, (weights * y) @ members / sizes

    score_means, rating_means = (column[0].tolist() for column in means(np.ones((1, len(x)))))
    return SystemRanking(
        estimate(lambda weights: _spearman(*means(weights)), together, seed),
        estimate(lambda weights: _kendall(*means(weights)), together, seed),
        dict(zip(names.tolist(), zip(score_means, rating_means, strict=True), strict=True)),
    )


def _spearman(x: FloatArray, y: FloatArray) -> FloatArray:
    """Spearman's rho of each row."""
    return pearson(rankdata(x, axis=1), rankdata(y, axis=1), np.ones_like(x))


def _kendall(x: FloatArray, y: FloatArray) -> FloatArray:
    """Kendall's tau-b of each row."""
    one, other = (np.sign(each[:, :, None] - each[:, None, :]) for each in (x, y))
    agree, pairs = (one * other).sum(axis=(1, 2)), (one**2).sum(axis=(1, 2)) * (other**2).sum(axis=(1, 2))
    tau: FloatArray = agree / np.sqrt(np.where(pairs == 0, np.nan, pairs))
    return tau
