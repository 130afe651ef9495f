"""Runs of two sequences side by side: stretches that are the same in both, and stretches that are not."""

from collections.abc import Hashable, Iterator, Sequence
from dataclasses import replace
from itertools import groupby, takewhile
from operator import eq

from uptake.ops.alignment import UNCHANGED, Alignment, align

LARGEST = 1 << 28


def runs(old: Sequence[Hashable], new: Sequence[Hashable]) -> Iterator[tuple[bool, range, range]]:
    """Whether a stretch is kept, and where it stands in `old` and in `new`, from left to right.

    What both begin and end with alike is not aligned, so a local change of a long text costs little. Where more than
    `LARGEST` pairs of items are left between, the two are far apart, and all that is left counts as changed.
    """
    begin = _alike(old, new)
    end = _alike(old[begin:][::-1], new[begin:][::-1])
    middle = aligned(old[begin : len(old) - end], new[begin : len(new) - end]).ops
    i = j = 0
    for equal, run in groupby(UNCHANGED * begin + middle + UNCHANGED * end, key=lambda op: op == UNCHANGED):
        ops = "".join(run)
        i_end, j_end = i + len(ops) - ops.count("A"), j + len(ops) - ops.count("D")
        yield equal, range(i, i_end), range(j, j_end)
        i, j = i_end, j_end


def aligned(old: Sequence[Hashable], new: Sequence[Hashable]) -> Alignment:
    """The alignment of two sequences; of very long ones, what both end and begin with alike is kept before all else.

    Where more than `LARGEST` pairs are left between, the two are far apart, and nothing between is kept.
    """
    if len(old) * len(new) <= LARGEST:
        return align(old, new)
    end = _alike(old[::-1], new[::-1])
    begin = _alike(old[: len(old) - end], new[: len(new) - end])
    one, other = (side[begin : len(side) - end] for side in (old, new))
    if len(one) * len(other) <= LARGEST:
        middle = align(one, other)
    else:
        both, more, less = min(len(one), len(other)), len(one) - len(other), len(other) - len(one)
        middle = Alignment("S" * both + "D" * more + "A" * less, max(len(one), len(other)), True)
    return replace(middle, ops=UNCHANGED * begin + middle.ops + UNCHANGED * end)


def _alike(old: Sequence[Hashable], new: Sequence[Hashable]) -> int:
    """How many items both begin with alike."""
    return sum(takewhile(bool, map(eq, old, new)))
