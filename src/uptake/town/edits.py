"""Distance of two texts in words, and how far they agree."""

from collections.abc import Sequence
from itertools import accumulate


def distance(source: Sequence[str], target: Sequence[str]) -> int:
    """Return the least number of words to substitute, delete or insert."""
    above = list(range(len(target) + 1))
    for i, word in enumerate(source, 1):
        row = [i]
        for j, wanted in enumerate(target, 1):
            row.append(above[j - 1] if word == wanted else 1 + min(above[j - 1], above[j], row[-1]))
        above = row
    return above[-1]


def shared(one: Sequence[str], other: Sequence[str]) -> int:
    """Return the number of words with which both texts begin."""
    return sum(accumulate((word == like for word, like in zip(one, other, strict=False)), min))
