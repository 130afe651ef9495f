"""Token ids and labels in arrays: four bytes an id and eight a label, where a tuple of objects has up to 36."""

from array import array
from collections.abc import Iterable


def compact(ids: Iterable[int]) -> "array[int]":
    """Token ids as an array."""
    return array("i", ids)


def compact_labels(labels: Iterable[float]) -> "array[float]":
    """Numbers by token as an array, in double precision."""
    return array("d", labels)
