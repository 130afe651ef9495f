"""Rating regression on actual follow-ups as reward: how did users rate who said the like?

No language model is needed, only some ratings in the log: those of a few users read the words of all.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.model_selection import GroupKFold
from sklearn.neighbors import KNeighborsRegressor

from uptake.data.text_file import Texts
from uptake.errors import InputError
from uptake.follow_up.calibration import Floats
from uptake.follow_up.discovery import first_sentence, space

NEIGHBORS, FOLDS = 10, 5

# Turns that the others are compared with, and that are looked at together: with more, memory would grow with the log.
MOST = 20_000


def rating_regression(
    follow_ups: Texts,
    ratings: Sequence[float | None] | Floats,
    conversations: Sequence[int] | NDArray[np.int64],
) -> Floats:
    """For every turn the mean rating of the ten rated turns most like it, none of them from its own fold of five.

    A fold holds whole conversations, so no rating is read off itself. A turn without a rating has None, or
    not-a-number. In a log of more than 20,000 turns, so many, spread evenly over it, say which words matter, and so
    many of the rated ones are compared with. Raises InputError for ratings from fewer than twenty turns outside any of
    the folds.
    """
    count, values = len(follow_ups), np.array(ratings, dtype=np.float64)
    read = _spread(np.arange(count))
    places, placed = space(_reaction(follow_ups[row]) for row in read)

    def at(rows: NDArray[np.int64]) -> Floats:
        return places[rows] if count <= MOST else placed(_reaction(follow_ups[row]) for row in rows)

    talks = len(np.unique(np.asarray(conversations)))
    if talks < FOLDS:
        raise InputError(f"{talks} conversations", field="ratings", allowed=f"at least {FOLDS}")
    rated, found = ~np.isnan(values), np.full(count, np.nan)
    folds: Any = GroupKFold(FOLDS, shuffle=True, random_state=0)
    for known, held_out in folds.split(np.empty(count), groups=conversations):
        witnesses = _spread(known[rated[known]])
        if len(witnesses) < 2 * NEIGHBORS:
            problem = f"{len(witnesses)} rated turns to read the others by"
            raise InputError(problem, field="ratings", allowed=f"at least {2 * NEIGHBORS}")
        model: Any = KNeighborsRegressor(NEIGHBORS).fit(at(witnesses), values[witnesses])
        for start in range(0, len(held_out), MOST):
            rows = held_out[start : start + MOST]
            found[rows] = model.predict(at(rows))
    return found


def _reaction(text: str) -> str:
    return first_sentence(text) or text


def _spread(rows: NDArray[np.int64]) -> NDArray[np.int64]:
    """The rows, or as many as may be, spread evenly over them."""
    if len(rows) <= MOST:
        return rows
    return rows[np.arange(MOST) * len(rows) // MOST]
