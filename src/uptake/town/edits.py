"""Word-level edits between two texts, with a fixed choice among equally short ones."""

from collections.abc import Sequence
from itertools import accumulate
from typing import Literal

Operation = Literal["keep", "substitute", "delete", "insert"]


def distances(source: Sequence[str], target: Sequence[str]) -> list[list[int]]:
    """Return the Levenshtein table: entry `[i][j]` turns the first `i` words of `source` into `j` of `target`."""
    table = [list(range(len(target) + 1))]
    for i, word in enumerate(source, 1):
        above, row = table[-1], [i]
        for j, wanted in enumerate(target, 1):
            row.append(above[j - 1] if word == wanted else 1 + min(above[j - 1], above[j], row[-1]))
        table.append(row)
    return table


def distance(source: Sequence[str], target: Sequence[str]) -> int:
    """Return the least number of words to substitute, delete or insert."""
    return distances(source, target)[-1][-1]


def shared(one: Sequence[str], other: Sequence[str]) -> int:
    """Return the number of words with which both texts begin."""
    return sum(accumulate((word == like for word, like in zip(one, other, strict=False)), min))


def align(source: Sequence[str], target: Sequence[str]) -> tuple[Operation, ...]:
    """Return the edits from left to right.

    Among equally short alignments the one found from the left end that prefers keep, then substitute, then delete, then
    insert: a change that fits in several places stands in the last, where one who reads word by word can first tell.
    """
    # Of both texts turned around, the table says what is left to do.
    table, i, j = distances(source[::-1], target[::-1]), len(source), len(target)
    operations: list[Operation] = []
    while i or j:
        if i and j and source[-i] == target[-j]:
            operations.append("keep")
            i, j = i - 1, j - 1
        elif i and j and table[i][j] == table[i - 1][j - 1] + 1:
            operations.append("substitute")
            i, j = i - 1, j - 1
        elif i and table[i][j] == table[i - 1][j] + 1:
            operations.append("delete")
            i -= 1
        else:
            operations.append("insert")
            j -= 1
    return tuple(operations)
