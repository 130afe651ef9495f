"""Agreement of a scorer with people on pairs of responses, with the pairs that people call a tie beside it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.stats import mannwhitneyu

from uptake.errors import InputError
from uptake.evaluate.accuracy import Accuracy, fifths, pairwise_accuracy
from uptake.evaluate.interval import Share, share, share_by_group
from uptake.evaluate.numbers import columns, points


@dataclass(frozen=True, slots=True)
class LengthFifth:
    """Accuracy on the pairs whose preferred response is about `ratio` times as long as the other."""

    ratio: float
    right: Share


@dataclass(frozen=True, slots=True)
class Agreement:
    """Accuracy over the pairs where people prefer a response; a scorer's tie counts half.

    `by_length` goes from the fifth of the pairs whose preferred response is shortest beside the other one to that where
    it is longest; `by_group` has the parts of a benchmark that has several. `human_ties` counts the pairs that people
    call even: they are in no accuracy. `ties_told` is how often a pair that people call even has the smaller margin,
    beside one where they prefer a response (the area under the ROC curve; half by chance); None without such pairs.
    """

    accuracy: Accuracy
    by_length: tuple[LengthFifth, ...]
    by_group: Mapping[str, Share]
    human_ties: int
    ties_told: float | None


def agreement(
    margins: Sequence[float],
    preferences: Sequence[float],
    first_lengths: Sequence[float],
    second_lengths: Sequence[float],
    *,
    groups: Sequence[str] = (),
    clusters: Sequence[int] | None = None,
) -> Agreement:
    """Agreement of margins (first response over the second) with what people prefer: 1 first, 0 second, 0.5 neither.

    A share of annotators between counts as what most of them say. Lengths are in any one unit. `clusters` numbers the
    prompts, where a prompt may have several pairs. Raises `InputError` where people prefer no response at all, and as
    `columns` does.
    """
    margin, preference, first, second = columns(
        margins=margins, preferences=preferences, first_lengths=first_lengths, second_lengths=second_lengths
    )
    if not (first > 0).all() or not (second > 0).all():
        raise InputError("a length of 0", field="lengths", allowed="numbers above 0")
    told = preference != 0.5
    rows = np.flatnonzero(told)
    if not len(rows):
        raise InputError("people call every pair even", field="preferences", allowed="at least one other than 0.5")
    for_first = preference[rows] > 0.5
    toward = np.where(for_first, margin[rows], -margin[rows])
    chosen = np.where(for_first, first[rows], second[rows])
    rejected = np.where(for_first, second[rows], first[rows])
    prompts = rows if clusters is None else np.asarray(clusters)[rows]
    outcomes = points(toward, np.zeros_like(toward))
    return Agreement(
        accuracy=pairwise_accuracy(
            toward.tolist(), [0.0] * len(rows), chosen.tolist(), rejected.tolist(), prompts.tolist()
        ),
        by_length=_by_length(outcomes, chosen / rejected, prompts),
        by_group=share_by_group(outcomes, [groups[int(row)] for row in rows] if groups else [], prompts),
        human_ties=len(margin) - len(rows),
        ties_told=_ties_told(np.abs(margin), told),
    )


def _by_length(
    outcomes: NDArray[np.float64], ratios: NDArray[np.float64], prompts: NDArray[np.intp]
) -> tuple[LengthFifth, ...]:
    return tuple(
        LengthFifth(float(np.median(ratios[rows])), share(outcomes[rows], prompts[rows])) for rows in fifths(ratios)
    )


def _ties_told(sizes: NDArray[np.float64], told: NDArray[np.bool_]) -> float | None:
    pairs = int(told.sum()) * int((~told).sum())
    return float(mannwhitneyu(sizes[told], sizes[~told]).statistic) / pairs if pairs else None
