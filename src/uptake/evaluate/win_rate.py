"""Win rate of A against B on the same prompts."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from uptake.errors import InputError
from uptake.evaluate.interval import share
from uptake.evaluate.numbers import columns, points


@dataclass(frozen=True, slots=True)
class WinRate:
    """Win rate over `n` pairs: `WinRate(wins=2, losses=1, ties=1, rate=0.625, low=0.23, high=0.90, n=4)`."""

    wins: int
    losses: int
    ties: int
    rate: float
    low: float
    high: float
    n: int


def win_rate(
    a_scores: Sequence[float],
    b_scores: Sequence[float],
    *,
    tie_margin: float = 0.0,
    clusters: Sequence[int] | None = None,
) -> WinRate:
    """Win rate: share of pairs where A scores higher; a difference of at most `tie_margin` is a tie and counts half.

    `low` and `high` are the 95 % Wilson score interval on wins plus half the ties. `clusters` numbers the prompts,
    where a prompt may have several pairs (see `share`). Raises `InputError` for no scores, unequal lengths, a score
    that is not finite (naming its index) and a negative margin.
    """
    if not tie_margin >= 0:
        raise InputError(f"{tie_margin}", field="tie_margin", allowed="a number from 0 up")
    a, b = columns(a_scores=a_scores, b_scores=b_scores)
    outcomes = points(a, b, tie_margin)
    wins, losses, ties = (int((outcomes == point).sum()) for point in (1, 0, 0.5))
    total = share(outcomes, None if clusters is None else np.asarray(clusters))
    return WinRate(wins, losses, ties, total.rate, total.low, total.high, total.n)
