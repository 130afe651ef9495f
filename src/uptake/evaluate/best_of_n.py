"""Best of n: the quality of the response that a scorer picks out of several."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from uptake.errors import InputError
from uptake.evaluate.bootstrap import Estimate, FloatArray, estimate
from uptake.evaluate.interval import Share, share, share_by_group
from uptake.evaluate.numbers import columns


@dataclass(frozen=True, slots=True)
class BestOfN:
    """Quality of the response with the highest score, over prompts whose responses are not all equally good.

    `best` is how often the pick is (one of) the best, `chance` the same for a pick at random. `picked`, `random` and
    `top` are the mean quality of the pick, of a pick at random, and of the best; `gain` is the part of the way from
    random to top, 1 for perfect picks and 0 for random ones. `even` counts the prompts left out, where any pick is as
    good. `by_group` has `best` for the parts of a benchmark that has several.
    """

    best: Share
    chance: float
    picked: Estimate
    random: float
    top: float
    gain: Estimate
    even: int
    by_group: Mapping[str, Share]


def best_of_n(
    scores: Sequence[Sequence[float]],
    qualities: Sequence[Sequence[float]],
    *,
    groups: Sequence[str] = (),
    clusters: Sequence[int] | None = None,
    seed: int = 0,
) -> BestOfN:
    """Best of n by score against the qualities of the responses, a row a prompt; equal scores share the pick.

    Raises `InputError` where no prompt has responses that differ in quality, and as `columns` does for any row.
    """
    rows = [_row(*columns(scores=given, qualities=known)) for given, known in zip(scores, qualities, strict=True)]
    uneven = [index for index, row in enumerate(rows) if row is not None]
    if not uneven:
        raise InputError("no prompt has responses that differ in quality", field="qualities", allowed="at least one")
    table = np.array([row for row in rows if row is not None])
    best, chance, picked, random, top = table.T
    together = np.array(uneven) if clusters is None else np.asarray(clusters)[uneven]
    return BestOfN(
        best=share(best, together),
        chance=float(chance.mean()),
        picked=estimate(lambda weights: weights @ picked / weights.sum(axis=1), together, seed),
        random=float(random.mean()),
        top=float(top.mean()),
        gain=estimate(lambda weights: weights @ (picked - random) / (weights @ (top - random)), together, seed),
        even=len(rows) - len(table),
        by_group=share_by_group(best, [groups[index] for index in uneven] if groups else [], together),
    )


def _row(scores: FloatArray, qualities: FloatArray) -> tuple[float, ...] | None:
    """Whether the pick is best, how often a random one is, and the quality of pick, mean and best; None if even."""
    top = qualities.max()
    if top == qualities.min():
        return None
    best, picks = qualities == top, scores == scores.max()
    shares = (best[picks].mean(), best.mean(), qualities[picks].mean(), qualities.mean(), top)
    return tuple(float(each) for each in shares)
