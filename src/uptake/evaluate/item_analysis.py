"""Item analysis: which follow-ups tell better from worse responses, and which are no better than a coin."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from uptake.errors import InputError
from uptake.evaluate.interval import Share, share
from uptake.evaluate.numbers import points
from uptake.follow_up.calibration import LabeledPairs, gains, signs


@dataclass(frozen=True, slots=True)
class FollowUpItem:
    """Item statistics of one follow-up on labeled pairs.

    `accuracy` is that of its own log-probability, with its sign; `even` the share of pairs where it does not differ.
    `effect` is the mean difference over the root mean square, which is the point-biserial correlation with the label
    over responses less their pair's mean. `with_category` and `with_total` are correlations, over the same, with what
    the other follow-ups of its category, and all others, make of the reward; None where either is constant. An item is
    `dead` where the interval of its accuracy contains one half: it may as well be a coin.
    """

    text: str
    category: str
    positive: bool
    accuracy: Share
    effect: float | None
    with_category: float | None
    with_total: float | None
    even: float
    dead: bool


def item_analysis(pairs: LabeledPairs) -> tuple[FollowUpItem, ...]:
    """Item analysis, one item for each follow-up in the order of the set; raises InputError for no pairs."""
    if not pairs.prompts:
        raise InputError("no pairs", field="pairs", allowed="at least one")
    differences, approve = pairs.differences, signs(pairs.followups) > 0
    parts, items = differences * np.abs(gains(pairs.followups)), []
    for category, columns in zip(pairs.followups.categories, pairs.followups.columns, strict=True):
        start, stop = columns.positive.start, columns.negative.stop
        for column in range(start, stop):
            difference = differences[:, column]
            accuracy = share(points(difference, np.zeros_like(difference)))
            items.append(
                FollowUpItem(
                    pairs.followups.sentences[column],
                    category.name,
                    bool(approve[column]),
                    accuracy,
                    _correlation(difference, np.ones_like(difference)),
                    _correlation(difference, _others(parts[:, start:stop], column - start)),
                    _correlation(difference, _others(parts, column)),
                    float((difference == 0).mean()),
                    accuracy.low <= 0.5 <= accuracy.high,
                )
            )
    return tuple(items)


def by_effect(items: Sequence[FollowUpItem]) -> list[FollowUpItem]:
    """Items by effect, the most telling follow-up first; those that never differ last."""
    return sorted(items, key=lambda item: -2.0 if item.effect is None else item.effect, reverse=True)


def _others(parts: NDArray[np.float64], column: int) -> NDArray[np.float64]:
    """The sum of all columns but one."""
    rest: NDArray[np.float64] = np.delete(parts, column, axis=1).sum(axis=1)
    return rest


def _correlation(one: NDArray[np.float64], other: NDArray[np.float64]) -> float | None:
    """Pearson's correlation over both responses of all pairs, less the mean of their pair.

    That is the cosine of the differences: the mean over a pair and its mirror image is 0.
    """
    scale = float(np.linalg.norm(one) * np.linalg.norm(other))
    return float(one @ other) / scale if scale else None
