"""How often a scorer prefers the response that people (or an oracle) prefer."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

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
) -> Accuracy:
    """Share of pairs where the chosen response scores higher; ties count half; 95 % Wilson score intervals.

    Lengths are in any one unit. Fewer than five pairs give fewer than five groups by margin. Raises `InputError` for no
    pairs, unequal lengths of the sequences and a number that is not finite, naming its index.
    """
    chosen, rejected, chosen_length, rejected_length = columns(
        chosen_scores=chosen_scores,
        rejected_scores=rejected_scores,
        chosen_lengths=chosen_lengths,
        rejected_lengths=rejected_lengths,
    )
    outcomes = points(chosen, rejected)
    longest, shortest = np.maximum(chosen_length, rejected_length), np.minimum(chosen_length, rejected_length)
    matched = outcomes[longest <= MATCHED_RATIO * shortest]
    ranked = outcomes[np.argsort(np.abs(chosen - rejected), kind="stable")]
    return Accuracy(
        plain=share(outcomes),
        length_matched=share(matched) if len(matched) else None,
        longer_wins=share(points(chosen_length, rejected_length)),
        by_margin=tuple(share(group) for group in np.array_split(ranked, QUINTILES) if len(group)),
    )
