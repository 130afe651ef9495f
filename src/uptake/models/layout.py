"""Layout of the segments of a packed row in blocks of one shape, so that attention is a few large products."""

from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TypeVar

import torch
from jaxtyping import Bool, Int
from torch import Tensor

from uptake.models.tree import Segment

T = TypeVar("T")
Shape = tuple[int, int, int]

# From this many tokens on, a branch gets its own copy of its context's keys: the copy costs less than holding scores.
LONG = 64
# Scores of one block, in queries x keys, beyond which it is split: 1 MB a head in fp32, which stays in the cache.
MAX_SCORES = 1 << 18
# What padding to one shape may cost: padded work over real work, and scores that are cheaper than one more block.
MAX_WASTE = 1.25
FREE_WASTE = 1 << 14
# The work on a token that does not depend on how much it attends to, in scores.
TOKEN_COST = 128


@dataclass(frozen=True)
class Block:
    """Branches of one padded shape: `groups` contexts, `width` children of each, all of `length` tokens.

    Roots are branches of an empty context, alone in their group. Positions are those of the packed row; a padded entry
    holds position 0.
    """

    queries: Int[Tensor, "groups width length"]
    context: Int[Tensor, "groups context"]
    real: Bool[Tensor, "groups width length"]
    visible: Bool[Tensor, "groups context"] | None  # false where the context is padded; None: nowhere
    depth: Int[Tensor, " groups"]  # tokens of context, hence the depth of a child's first token

    @property
    def shared(self) -> bool:
        """Whether siblings meet their shared context in one matrix product, instead of each in a row of its own."""
        return self.context.shape[1] > 0 and self.queries.shape[2] < LONG

    @cached_property
    def keys(self) -> Int[Tensor, " keys"]:
        """The row positions of the keys that it meets: of siblings their context, then their own tokens, once each.

        Of children in rows of their own: context and own tokens, child after child.
        """
        if self.shared:
            return torch.cat((self.context.flatten(), self.queries.flatten()))
        return torch.cat((self.context, self.queries[:, 0]), 1).flatten()

    def context_mask(self, window: int | None) -> Bool[Tensor, "groups #length context"] | None:
        """Which context tokens a child's token sees: not padding, and inside the sliding window; None: all of them."""
        visible = None if self.visible is None else self.visible[:, None]
        if window is None:
            return visible
        offsets = torch.arange(self.queries.shape[2], device=self.depth.device)
        steps = torch.arange(self.context.shape[1], device=self.depth.device)
        near = (self.depth[:, None] + offsets)[..., None] - steps < window
        return near if visible is None else visible & near


def causal_mask(length: int, window: int | None, device: torch.device) -> Bool[Tensor, "length length"]:
    """What the tokens of one segment see of each other: themselves and the `window - 1` tokens before them."""
    steps = torch.arange(length, device=device)
    distance = steps[:, None] - steps
    return (distance >= 0) if window is None else (distance >= 0) & (distance < window)


def blocks(segments: Sequence[Segment], device: torch.device) -> list[Block]:
    """All segments in as few blocks as padding allows; every token of the row is a query of exactly one block."""
    kinds: defaultdict[tuple[int, bool], list[list[Segment]]] = defaultdict(list)
    for run in _sibling_runs(segments):
        kinds[len(run), bool(run[0].path)].append(run)
    return [
        _block(group, segments, device)
        for runs in kinds.values()
        for group in _alike(runs, lambda run: _shape(run, segments))
    ]


def _sibling_runs(segments: Sequence[Segment]) -> Iterator[list[Segment]]:
    """Siblings of like length together; roots and long branches one by one."""
    siblings: defaultdict[tuple[int, ...], list[Segment]] = defaultdict(list)
    for segment in segments:
        if not segment.path or len(segment) >= LONG:
            yield [segment]
        else:
            siblings[segment.path].append(segment)
    for children in siblings.values():
        yield from _alike(children, lambda child: _shape([child], segments))


def _shape(run: Sequence[Segment], segments: Sequence[Segment]) -> Shape:
    """Context, length and width of siblings."""
    return sum(len(segments[index]) for index in run[0].path), max(map(len, run)), len(run)


def _cost(shape: Shape) -> int:
    context, length, width = shape
    return width * length * (context + length + TOKEN_COST)


def _alike(items: Sequence[T], shape: Callable[[T], Shape]) -> Iterator[list[T]]:
    """Sort items and cut them into runs that can be padded to one shape without much waste or memory."""
    run: list[T] = []
    largest: Shape = (0, 0, 0)
    real = 0
    for item in sorted(items, key=shape):
        size = shape(item)
        context, length, width = map(max, largest, size)
        padded, exact = (len(run) + 1) * _cost((context, length, width)), real + _cost(size)
        if run and (padded > MAX_WASTE * exact + FREE_WASTE or padded > MAX_SCORES):
            yield run
            run, (context, length, width), exact = [], size, _cost(size)
        run.append(item)
        largest, real = (context, length, width), exact
    if run:
        yield run


def _block(group: Sequence[Sequence[Segment]], segments: Sequence[Segment], device: torch.device) -> Block:
    queries, real = _padded([list(range(child.start, child.stop)) for run in group for child in run])
    paths = [[segments[index] for index in run[0].path] for run in group]
    context, visible = _padded([[t for part in path for t in range(part.start, part.stop)] for path in paths])
    return Block(
        queries=queries.unflatten(0, (len(group), -1)).to(device),
        context=context.to(device),
        real=real.unflatten(0, (len(group), -1)).to(device),
        visible=None if bool(visible.all()) else visible.to(device),
        depth=visible.sum(1).to(device),
    )


def _padded(rows: Sequence[Sequence[int]]) -> tuple[Int[Tensor, "rows length"], Bool[Tensor, "rows length"]]:
    """Rows of unequal length as one tensor, padded on the right with 0, and where the real entries are."""
    lengths = torch.tensor([len(row) for row in rows])
    real = torch.arange(int(lengths.max())) < lengths[:, None]
    index = torch.zeros(real.shape, dtype=torch.long)
    index[real] = torch.tensor([entry for row in rows for entry in row], dtype=torch.long)
    return index, real
