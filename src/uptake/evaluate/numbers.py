"""Columns of numbers, checked, and the points of pairwise comparisons."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from uptake.errors import InputError


def columns(**given: Sequence[float] | NDArray[np.float64]) -> tuple[NDArray[np.float64], ...]:
    """Arrays of named sequences of equal length, in the order given.

    Raises `InputError` for no numbers at all, for sequences of unequal length, and for a number that is not finite,
    naming the sequence and the index.
    """
    arrays = {name: np.asarray(numbers, dtype=np.float64) for name, numbers in given.items()}
    sizes = {name: len(array) for name, array in arrays.items()}
    if len(set(sizes.values())) > 1:
        listed = ", ".join(f"{name} has {size}" for name, size in sizes.items())
        raise InputError(f"unequal lengths: {listed}", allowed="one number each per prompt")
    for name, array in arrays.items():
        if not len(array):
            raise InputError("no numbers", field=name, allowed="at least one")
        broken = np.flatnonzero(~np.isfinite(array))
        if len(broken):
            index = int(broken[0])
            raise InputError(f"{array[index]} at index {index}", field=name, allowed="finite numbers")
    return tuple(arrays.values())


def points(a: NDArray[np.float64], b: NDArray[np.float64], tie_margin: float = 0.0) -> NDArray[np.float64]:
    """Points of `a` against `b`: 1 where it is larger by more than `tie_margin`, 0 where smaller by more, else 0.5."""
    difference = a - b
    return np.where(np.abs(difference) <= tie_margin, 0.5, difference > 0)
