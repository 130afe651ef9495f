"""Length residual: what is left of the scores of a round without what the length of a response explains of them."""

from collections.abc import Callable, Hashable, Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from uptake.signal.filters import Candidate

# The share of the largest deviation of a score below which its residual is rounding.
ROUNDING = 1e-9


def without_length(candidates: Sequence[Candidate], of: Callable[[Candidate], Hashable]) -> list[Candidate]:
    """Candidates with `residuals` as scores, and their parts likewise; those with the same `of` are of one group."""
    if not candidates:
        return []
    index: dict[Hashable, int] = {}
    group = np.array([index.setdefault(of(each), len(index)) for each in candidates])
    lengths = np.array([len(each.rollout.response) for each in candidates], dtype=np.float64)
    given = np.array([each.judgement.score for each in candidates], dtype=np.float64)
    scores = residuals(given, lengths, group).tolist()
    parts: list[dict[str, float]] = [{} for _ in candidates]
    for name in dict.fromkeys(name for each in candidates for name in each.judgement.parts):
        rows = [row for row, each in enumerate(candidates) if name in each.judgement.parts]
        given = np.array([candidates[row].judgement.parts[name] for row in rows], dtype=np.float64)
        for row, value in zip(rows, residuals(given, lengths[rows], group[rows]).tolist(), strict=True):
            parts[row][name] = value
    return [
        Candidate(each.rollout, replace(each.judgement, score=score, parts=part))
        for each, score, part in zip(candidates, scores, parts, strict=True)
    ]


def residuals(
    scores: NDArray[np.float64], lengths: NDArray[np.float64], group: NDArray[np.int64]
) -> NDArray[np.float64]:
    """Length residuals of scores, which are compared with each other within a numbered group.

    One least-squares slope, in score a character, is fitted to the deviations of scores and lengths from their means
    over the group. A residual is the score less the slope times the deviation of the length. Where lengths do not
    differ, scores stay.
    """
    level = _means(scores, group)
    ahead, longer = scores - level, lengths - _means(lengths, group)
    spread = float(longer @ longer)
    if spread == 0:
        return scores
    left = ahead - float(longer @ ahead) / spread * longer
    return level + np.where(np.abs(left) < ROUNDING * np.abs(ahead).max(), 0.0, left)


def _means(values: NDArray[np.float64], group: NDArray[np.int64]) -> NDArray[np.float64]:
    """The mean of its group at the place of every value."""
    means: NDArray[np.float64] = (np.bincount(group, values) / np.maximum(np.bincount(group), 1))[group]
    return means
