"""Numbers as people hand them over, checked once."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from uptake.errors import InputError


def columns(**given: Sequence[float]) -> tuple[NDArray[np.float64], ...]:
    """Turn named sequences of equal length into arrays, in the order given.

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
    """1 where `a` is larger than `b` by more than `tie_margin`, 0 where it is smaller by more, 0.5 between."""
    difference = a - b
    return np.where(np.abs(difference) <= tie_margin, 0.5, difference > 0)
