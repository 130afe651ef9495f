"""Rating regression on actual follow-ups as reward: how did users rate who said the like?

No language model is needed, only some ratings in the log: those of a few users read the words of all.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
from sklearn.model_selection import GroupKFold
from sklearn.neighbors import KNeighborsRegressor

from uptake.errors import InputError
from uptake.follow_up.discovery import first_sentence, vectors

NEIGHBORS, FOLDS = 10, 5


def rating_regression(
    follow_ups: Sequence[str], ratings: Sequence[float | None], conversations: Sequence[int], *, seed: int = 0
) -> list[float]:
    """For every turn the mean rating of the ten rated turns most like it, none of them from its own fold of five.

    A fold holds whole conversations, so no rating is read off itself. Raises InputError for ratings from fewer than
    twenty turns outside any of the folds.
    """
    places = vectors([first_sentence(text) or text for text in follow_ups])
    rated = np.array([rating is not None for rating in ratings])
    values = np.array([rating or 0.0 for rating in ratings])
    found = np.full(len(follow_ups), np.nan)
    if len(set(conversations)) < FOLDS:
        raise InputError(f"{len(set(conversations))} conversations", field="ratings", allowed=f"at least {FOLDS}")
    folds: Any = GroupKFold(FOLDS, shuffle=True, random_state=seed)
    for known, held_out in folds.split(places, groups=conversations):
        witnesses = known[rated[known]]
        if len(witnesses) < 2 * NEIGHBORS:
            problem = f"{len(witnesses)} rated turns to read the others by"
            raise InputError(problem, field="ratings", allowed=f"at least {2 * NEIGHBORS}")
        model: Any = KNeighborsRegressor(NEIGHBORS).fit(places[witnesses], values[witnesses])
        found[held_out] = model.predict(places[held_out])
    return [float(each) for each in found]
