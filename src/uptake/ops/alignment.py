"""Levenshtein alignment of two sequences with a fixed choice among equally short ones, so that labels are no accident.

No diff library is exact about ties: difflib minimizes nothing, and libraries that minimize prefer their own order.
"""

from collections.abc import Hashable, Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

IntArray = NDArray[np.int32]

UNCHANGED, SUBSTITUTED, DELETED, ADDED = "U", "S", "D", "A"
# The order in which equally good last operations are preferred, with the step back that each is.
_STEPS = ((UNCHANGED, 1, 1), (SUBSTITUTED, 1, 1), (DELETED, 1, 0), (ADDED, 0, 1))
_NEVER = 1 << 30


@dataclass(frozen=True, slots=True)
class Alignment:
    """Alignment of one sequence with another: `Alignment("USUU", 1, False)` for `abc$` to `aXc$`.

    `ops` are in reading order: U kept, S substituted, D deleted, A added. `distance` counts those that are not U.
    `ambiguous` says that there are other alignments as good.
    """

    ops: str
    distance: int
    ambiguous: bool

    @property
    def old(self) -> str:
        """The operation on every element of the old sequence: U, S or D."""
        return self.ops.replace(ADDED, "")

    @property
    def new(self) -> str:
        """The operation on every element of the new sequence: U, S or A."""
        return self.ops.replace(DELETED, "")


def align(
    old: Sequence[Hashable], new: Sequence[Hashable], *, affine_gap: bool = False, from_start: bool = False
) -> Alignment:
    """The alignment with the fewest operations; among equals, from the right end, U before S before D before A.

    With `affine_gap`, equally short alignments with fewer runs of changes go first. With `from_start`, equals are told
    apart from the left end instead, so that changes come as late as they can. Time and memory grow with the product of
    the lengths, at some bits a pair of elements; with `affine_gap` at eight bytes.
    """
    if from_start:
        turned = align(old[::-1], new[::-1], affine_gap=affine_gap)
        return replace(turned, ops=turned.ops[::-1])
    steps = list(_fewest_runs(old, new) if affine_gap else _fewest(old, new))
    ops = "".join(op for op, _ in reversed(steps))
    return Alignment(ops, len(ops) - ops.count(UNCHANGED), any(tied for _, tied in steps))


def _fewest(old: Sequence[Hashable], new: Sequence[Hashable]) -> Iterator[tuple[str, bool]]:
    """Operations from last to first, each with whether another one would have been as good there.

    One integer holds a whole column of the table of distances, a bit for each element of `old`: whether the distance is
    that of the cell diagonally before (`same`), and whether it is one more than that of the cell above (`below`) or to
    the left (`right`). Source: Hyyro 2003, "A bit-vector algorithm for computing Levenshtein and Damerau edit
    distances", after Myers 1999.
    """
    places: dict[Hashable, int] = {}
    for i, item in enumerate(old):
        places[item] = places.get(item, 0) | 1 << i
    whole = (1 << len(old)) - 1
    more, less = whole, 0
    columns: list[tuple[int, int, int]] = []
    for item in new:
        known = places.get(item, 0) | less
        same = (((known & more) + more) ^ more) | known
        right, left = less | ~(same | more), same & more
        across = right << 1 | 1
        more, less = (left << 1 | ~(same | across)) & whole, across & same & whole
        columns.append((same, right & whole, more))
    i, j = len(old), len(new)
    while i or j:
        same, right, below = (bits >> i - 1 & 1 for bits in columns[j - 1]) if i and j else (0, not i, not j)
        good = {SUBSTITUTED: i and j and not same, DELETED: below, ADDED: right}
        if i and j and old[i - 1] == new[j - 1]:
            good = {UNCHANGED: True, DELETED: below, ADDED: right}
        op = next(op for op, is_good in good.items() if is_good)
        yield op, sum(map(bool, good.values())) > 1
        i, j = i - (op != ADDED), j - (op != DELETED)


def _fewest_runs(old: Sequence[Hashable], new: Sequence[Hashable]) -> Iterator[tuple[str, bool]]:
    """The same, where of equally few operations those in the fewest runs are good."""
    one, other = _numbers(old, new)
    # A change costs more than all beginnings of runs together.
    price = max(len(one), len(other)) + 2
    return _trace(one, other, _tables(one, other, price), price)


def _numbers(old: Sequence[Hashable], new: Sequence[Hashable]) -> tuple[IntArray, IntArray]:
    """Both sequences as numbers that are equal where their elements are."""
    index: dict[Hashable, int] = {}
    one, other = ([index.setdefault(item, len(index)) for item in side] for side in (old, new))
    return np.array(one, dtype=np.int32), np.array(other, dtype=np.int32)


def _tables(one: IntArray, other: IntArray, price: int) -> tuple[IntArray, IntArray]:
    """Least cost of turning the first i elements into the first j, where the last operation keeps or changes.

    A cost is `price` a change and 1 a run of changes. The start counts as kept.
    """
    equal = np.full((len(one) + 1, len(other) + 1), _NEVER, dtype=np.int32)
    changed = equal.copy()
    equal[0, 0] = 0
    slope = price * np.arange(len(other) + 1, dtype=np.int32)
    changed[0, 1:] = slope[1:] + 1
    for i in range(1, len(one) + 1):
        best = np.minimum(equal[i - 1], changed[i - 1])
        before = np.minimum(equal[i - 1] + 1, changed[i - 1])
        equal[i, 1:] = np.where(other == one[i - 1], best[:-1], _NEVER)
        arrived = before.copy()
        arrived[1:] = np.minimum(np.minimum(arrived[1:], before[:-1]), equal[i, :-1] + 1)
        # An addition goes on from the left in the same row: the least over all columns where it can have begun.
        changed[i] = np.minimum.accumulate(arrived + price - slope) + slope
    return equal, changed


def _trace(one: IntArray, other: IntArray, tables: tuple[IntArray, IntArray], price: int) -> Iterator[tuple[str, bool]]:
    """Operations from last to first, each with whether another one would have been as good there."""
    equal, changed = tables
    i, j, after = len(one), len(other), UNCHANGED
    while i or j:
        costs: list[tuple[int, str, int, int]] = []
        for op, rows, columns in _STEPS:
            at = i - rows, j - columns
            if min(at) < 0 or (op in "US" and (one[i - 1] == other[j - 1]) != (op == UNCHANGED)):
                continue
            if op == UNCHANGED:
                cost = int(equal[i, j]) + (after != UNCHANGED)
            else:
                cost = price + min(int(equal[at]) + 1, int(changed[at]))
            costs.append((cost, op, *at))
        least = min(cost for cost, *_ in costs)
        _, after, i, j = next(each for each in costs if each[0] == least)
        yield after, sum(cost == least for cost, *_ in costs) > 1
