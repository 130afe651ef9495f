"""Figures about mined pairs that belong in every log: margins, lengths, and how far the categories agree."""

from collections.abc import Mapping, Sequence
from itertools import combinations
from statistics import fmean
from typing import Any

import numpy as np

from uptake.types import Pair

BINS = 10


def summarize(pairs: Sequence[Pair], categories: Sequence[Mapping[str, float]] = ()) -> dict[str, Any]:
    """Describe the pairs that were kept, as plain data; None where there is no pair.

    Lengths are in tokens; `longer_wins` counts equal lengths half. `categories` holds, for every pair that was
    proposed, by how much each category prefers the chosen response: before the filters, which would select for
    agreement. `category_agreement` is the share of these pairs in which a category prefers the chosen response,
    `winner_agreement` that in which two categories prefer the same one, or neither prefers any.
    """
    chosen = [len(pair.chosen_ids) for pair in pairs]
    rejected = [len(pair.rejected_ids) for pair in pairs]
    wins = [0.5 if c == r else float(c > r) for c, r in zip(chosen, rejected, strict=True)]
    return {
        "margin_histogram": _histogram([pair.margin for pair in pairs]),
        "mean_length_chosen": _mean(chosen),
        "mean_length_rejected": _mean(rejected),
        "longer_wins": _mean(wins),
        **_agreement(categories),
    }


def _mean(values: Sequence[float]) -> float | None:
    return fmean(values) if values else None


def _histogram(margins: Sequence[float]) -> dict[str, list[float]] | None:
    if not margins:
        return None
    # From 0, not from the smallest: margins that differ by a rounding only have no room for bins between them.
    counts, edges = np.histogram(margins, bins=BINS, range=(0, max(margins)))
    return {"edges": edges.tolist(), "counts": counts.tolist()}


def _agreement(categories: Sequence[Mapping[str, float]]) -> dict[str, dict[str, Any]]:
    names = list(dict.fromkeys(name for margins in categories for name in margins))
    signs = {name: [float(np.sign(margins.get(name, 0.0))) for margins in categories] for name in names}
    between: dict[str, dict[str, float]] = {}
    for one, other in combinations(names, 2):
        between.setdefault(one, {})[other] = fmean(map(float.__eq__, signs[one], signs[other]))
    return {
        "category_agreement": {name: fmean(sign > 0 for sign in signs[name]) for name in names},
        "winner_agreement": between,
    }
