"""Pairwise accuracy: how often a scorer prefers the response that people (or an oracle) prefer."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from uptake.evaluate.interval import Share, share
from uptake.evaluate.numbers import columns, points

MATCHED_RATIO = 1.2
QUINTILES = 5


@dataclass(frozen=True, slots=True)
class Accuracy:
    """Pairwise accuracy, always beside what length alone explains.

    `length_matched` counts only pairs whose lengths differ by a factor of at most 1.2 (None where there is no such
    pair); `longer_wins` is the accuracy of preferring the longer response; `by_margin` goes from the fifth of the pairs
    with the smallest score difference, whichever its sign, to the fifth with the largest.
    """

    plain: Share
    length_matched: Share | None
    longer_wins: Share
    by_margin: tuple[Share, ...]


def pairwise_accuracy(
    chosen_scores: Sequence[float],
    rejected_scores: Sequence[float],
    chosen_lengths: Sequence[float],
    rejected_lengths: Sequence[float],
    clusters: Sequence[int] | None = None,
) -> Accuracy:
    """Pairwise accuracy, the share of pairs where the chosen response scores higher; ties count half. Wilson intervals.

    Lengths are in any one unit. `clusters` numbers the prompts, where a prompt may have several pairs (see `share`).
    Fewer than five pairs give fewer than five groups by margin. Raises `InputError` for no pairs, unequal lengths of
    the sequences and a number that is not finite, naming its index.
    """
    chosen, rejected, chosen_length, rejected_length = columns(
        chosen_scores=chosen_scores,
        rejected_scores=rejected_scores,
        chosen_lengths=chosen_lengths,
        rejected_lengths=rejected_lengths,
    )
    outcomes = points(chosen, rejected)
    prompts = np.arange(len(outcomes)) if clusters is None else np.asarray(clusters)
    longest, shortest = np.maximum(chosen_length, rejected_length), np.minimum(chosen_length, rejected_length)
    matched = np.flatnonzero(longest <= MATCHED_RATIO * shortest)
    return Accuracy(
        plain=share(outcomes, prompts),
        length_matched=share(outcomes[matched], prompts[matched]) if len(matched) else None,
        longer_wins=share(points(chosen_length, rejected_length), prompts),
        by_margin=tuple(share(outcomes[rows], prompts[rows]) for rows in fifths(np.abs(chosen - rejected))),
    )


def fifths(values: NDArray[np.float64]) -> list[NDArray[np.intp]]:
    """Indices of the values in five groups of equal size, from the smallest values to the largest."""
    groups = np.array_split(np.argsort(values, kind="stable"), QUINTILES)
    return [rows for rows in groups if len(rows)]
