"""Layout of the segments of a packed row in blocks of one shape, so that attention is a few large products."""

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
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
# One of so many times its context's tokens is read from the root on: the context's queries once more, for nothing, cost
# less than a mask.
MUCH_LONGER = 4
# Work of one block beyond which it is split, in scores: those alone are 1 MB a head in fp32, which stays in the cache.
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
    holds position 0. A lone context is read where it lies, in the segments of `path`, and so is a lone child that has a
    row of its own, in those of `row`; elsewhere both are empty.
    """

    queries: Int[Tensor, "groups width length"]
    context: Int[Tensor, "groups context"]
    real: Bool[Tensor, "groups width length"]
    visible: Bool[Tensor, "groups context"] | None  # false where the context is padded; None: nowhere
    depth: Int[Tensor, " groups"]  # tokens of context, hence the depth of a child's first token
    path: tuple[Segment, ...]
    row: tuple[Segment, ...]

    @property
    def shared(self) -> bool:
        """Whether siblings meet their shared context in one matrix product, instead of each in a row of its own."""
        return self.context.shape[1] > 0 and self.queries.shape[2] < LONG

    @cached_property
    def copied(self) -> tuple[Int[Tensor, " queries"], Int[Tensor, " keys"]]:
        """The row positions of the queries and keys that are copied, block after block, since they lie apart.

        The keys of siblings are those of their contexts, then their own, once each; those of children in rows of their
        own are context and own, child after child.
        """
        queries = self.queries.flatten()
        if self.row:
            return queries[:0], queries[:0]
        if self.path:
            return queries, queries
        if self.shared:
            return queries, torch.cat((self.context.flatten(), queries))
        return queries, torch.cat((self.context, self.queries[:, 0]), 1).flatten()

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


@dataclass(frozen=True, slots=True)
class _Siblings:
    """Children of one context, as runs of segments; the first `again` tokens of each have their queries elsewhere."""

    context: tuple[Segment, ...]
    children: tuple[tuple[Segment, ...], ...]
    again: int = 0

    def shape(self) -> Shape:
        return _tokens(self.context), max(map(_tokens, self.children)), len(self.children)


def _tokens(run: Iterable[Segment]) -> int:
    return sum(map(len, run))


def blocks(segments: Sequence[Segment], device: torch.device) -> list[Block]:
    """All segments in as few blocks as padding allows; every token of the row is a real query of exactly one block."""
    kinds: defaultdict[tuple[int, bool], list[_Siblings]] = defaultdict(list)
    for siblings in _siblings(segments):
        kinds[len(siblings.children), bool(siblings.context)].append(siblings)
    return [_block(alike, device) for kind in kinds.values() for alike in _alike(kind, _Siblings.shape)]


def _siblings(segments: Sequence[Segment]) -> Iterator[_Siblings]:
    """Siblings of like length together; roots and long branches one by one."""
    short: defaultdict[tuple[Segment, ...], list[Segment]] = defaultdict(list)
    for segment in segments:
        context = tuple(segments[index] for index in segment.path)
        before = _tokens(context)
        if not before or len(segment) >= max(LONG, MUCH_LONGER * before):
            yield _Siblings((), ((*context, segment),), before)
        elif len(segment) >= LONG:
            yield _Siblings(context, ((segment,),))
        else:
            short[context].append(segment)
    for context, children in short.items():
        one_by_one = [_Siblings(context, ((child,),)) for child in children]
        for alike in _alike(one_by_one, _Siblings.shape):
            yield _Siblings(context, tuple(each.children[0] for each in alike))


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


def _block(group: Sequence[_Siblings], device: torch.device) -> Block:
    queries, real = _padded([child for siblings in group for child in siblings.children])
    context, visible = _padded([siblings.context for siblings in group])
    again = torch.tensor([siblings.again for siblings in group for _ in siblings.children])
    real &= torch.arange(real.shape[1]) >= again[:, None]
    lone = group[0] if len(group) == 1 else _Siblings((), ((),))
    block = Block(
        queries=queries.unflatten(0, (len(group), -1)).to(device),
        context=context.to(device),
        real=real.unflatten(0, (len(group), -1)).to(device),
        visible=None if bool(visible.all()) else visible.to(device),
        depth=visible.sum(1).to(device),
        path=lone.context,
        row=(),
    )
    return block if block.shared else replace(block, row=lone.children[0])


def _padded(runs: Sequence[Sequence[Segment]]) -> tuple[Int[Tensor, "runs length"], Bool[Tensor, "runs length"]]:
    """Row positions of runs of unequal length, padded on the right with 0 to one tensor, and which of them are real."""
    lengths = torch.tensor(list(map(_tokens, runs)))
    real = torch.arange(int(lengths.max())) < lengths[:, None]
    index = torch.zeros(real.shape, dtype=torch.long)
    found = [position for run in runs for each in run for position in range(each.start, each.stop)]
    index[real] = torch.tensor(found, dtype=torch.long)
    return index, real
