"""Annotator statistics: invalid verdicts, agreement of both orders, position bias, preference for length, cost."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from uptake.evaluate.interval import Share, share
from uptake.evaluate.numbers import columns, points
from uptake.ops.verdicts import UNSURE, order_gap, orders_agree, position_bias
from uptake.types import Dropped, Verdict


@dataclass(frozen=True, slots=True)
class AnnotatorStats:
    """Annotator statistics over `pairs` verdicts; None where no verdict can tell.

    `reasons` counts the invalid ones by reason. Both orders agree where they prefer the same response; one that is
    even agrees by half. `position_bias` is the mean probability of whatever is shown first, minus one half; `order_gap`
    the mean distance of the two readings. `unsure` is the share nearer to one half than 0.05, `longer_wins` how often
    the longer response is preferred, where lengths differ. `tokens` and `cost` are those of all verdicts.
    """

    pairs: int
    invalid: Share
    reasons: Mapping[Dropped, int]
    agreement: Share | None
    position_bias: float | None
    order_gap: float | None
    unsure: Share | None
    longer_wins: Share | None
    tokens: int
    cost: float


# Orders that agree less often say that a judge goes by place: one that guesses in every order agrees with itself in
# half of the pairs.
AGREEMENT = 0.5


def position_bias_warning(stats: AnnotatorStats) -> str:
    """A sentence on an annotator whose orders agree in fewer than half of the pairs; else nothing."""
    if stats.agreement is None or stats.agreement.rate >= AGREEMENT:
        return ""
    told = f"both orders agree in {stats.agreement.rate:.0%} of {stats.agreement.n} pairs"
    return f"this judge goes by the place of a response, not by its text: {told}, where guessing gives 50%"


def annotator_stats(
    verdicts: Sequence[Verdict], first_lengths: Sequence[float], second_lengths: Sequence[float]
) -> AnnotatorStats:
    """Annotator statistics of verdicts, with the lengths of the responses in any one unit.

    A verdict that is exactly even in both orders, as that on equal responses is, says nothing of order. Raises
    `InputError` for no verdicts, unequal lengths of the sequences and a number that is not finite, naming its index.
    """
    p, one, other, first, second = columns(
        p=[verdict.p for verdict in verdicts],
        shown_first=[verdict.by_order[0] for verdict in verdicts],
        shown_second=[verdict.by_order[1] for verdict in verdicts],
        first_lengths=first_lengths,
        second_lengths=second_lengths,
    )
    valid = np.array([verdict.valid for verdict in verdicts])
    told = valid & ((one != 0.5) | (other != 0.5))
    uneven = valid & (first != second)
    longer = np.where(first > second, p, 1 - p)
    return AnnotatorStats(
        pairs=len(verdicts),
        invalid=share(1.0 - valid),
        reasons=dict(Counter(verdict.reason for verdict in verdicts if verdict.reason)),
        agreement=_share(orders_agree(one, other), told),
        position_bias=_mean(position_bias(one, other), told),
        order_gap=_mean(order_gap(one, other), told),
        unsure=_share(np.abs(p - 0.5) < UNSURE, valid),
        longer_wins=_share(points(longer, 1 - longer), uneven),
        tokens=sum(verdict.tokens for verdict in verdicts),
        cost=float(sum(verdict.cost for verdict in verdicts)),
    )


def _share(points: NDArray[Any], among: NDArray[np.bool_]) -> Share | None:
    return share(points[among].astype(np.float64)) if among.any() else None


def _mean(values: NDArray[np.float64], among: NDArray[np.bool_]) -> float | None:
    return float(values[among].mean()) if among.any() else None
