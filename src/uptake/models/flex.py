"""Tree attention through FlexAttention: one kernel that skips the blocks of keys which no query of a block sees.

Segments are numbered by a depth-first walk: `enter` when the walk reaches a segment, `exit` the count of segments seen
when it leaves the subtree. A token then sees the tokens at or before it whose `[enter, exit)` holds its own `enter`:
those of its segment's ancestors, all of which stand earlier in the row, and the earlier ones of its own segment. The
order of the row does not matter beyond that, so trees laid out breadth first are served too.
"""

from collections.abc import Callable, Sequence
from functools import cache
from typing import Any, Final, final

import torch
from jaxtyping import Int
from torch import Tensor
from torch.nn.attention.flex_attention import BlockMask, create_block_mask, flex_attention
from torch.nn.functional import pad

from uptake.models.attention import Scores
from uptake.models.tree import Segment

# Rows are padded to a multiple of FlexAttention's block of keys, so that few lengths are compiled for.
BLOCK: Final = 128


@final
class FlexAttend:
    """Attention of a packed row under a block mask made from its segments; the forward pass was checked uncompiled.

    Holds one block mask per sliding window, made when a layer first asks. `compiled` is off for devices that
    FlexAttention has no kernel for, where it holds all scores of the row at once and has no backward pass on a CPU.
    """

    def __init__(self, segments: Sequence[Segment], device: torch.device, compiled: bool = True) -> None:
        self.tokens = max(segment.stop for segment in segments)
        self.padding = -self.tokens % BLOCK
        self.enter, self.exit, self.depth = (table.to(device) for table in _tables(segments, self.padding))
        self.kernel = _compiled() if compiled else _uncompiled
        self.masks: dict[int | None, BlockMask] = {}

    def __call__(self, layer: int, query: Tensor, key: Tensor, value: Tensor, scores: Scores) -> Tensor:
        # Mixed precision may leave rotated queries and keys wider than values; the kernel takes one dtype only.
        query, key, value = (pad(states.to(value.dtype), (0, 0, 0, self.padding)) for states in (query, key, value))
        out = self.kernel(
            query,
            key,
            value,
            score_mod=None if scores.softcap is None else _capped(scores.softcap),
            block_mask=self._mask(scores.window),
            scale=scores.scale,
            enable_gqa=query.shape[1] != key.shape[1],
        )
        return out[:, :, : self.tokens]

    def _mask(self, window: int | None) -> BlockMask:
        if window not in self.masks:
            size = self.tokens + self.padding
            sees = _sees(self.enter, self.exit, self.depth, window)
            self.masks[window] = create_block_mask(sees, None, None, size, size, str(self.enter.device), BLOCK)
        return self.masks[window]


# FlexAttention tells the two kinds of function below apart by counting parameters, hence lambdas, which nothing wraps.


def _sees(enter: Tensor, leave: Tensor, depth: Tensor, window: int | None) -> Callable[..., Tensor]:
    """The mask function: does the query at one row position see the key at another?"""
    # One constant for "no window", so that its compiled kernel serves rows of every length.
    reach = torch.iinfo(torch.int32).max if window is None else window

    return lambda batch, head, query, key: (
        (key <= query)
        & (enter[key] <= enter[query])
        & (enter[query] < leave[key])
        & (depth[query] - depth[key] < reach)
    )


def _capped(softcap: float) -> Callable[..., Tensor]:
    return lambda score, batch, head, query, key: softcap * torch.tanh(score / softcap)


def _uncompiled(query: Tensor, key: Tensor, value: Tensor, **options: Any) -> Tensor:
    out: Tensor = flex_attention(query, key, value, **options)
    return out


@cache
def _compiled() -> Callable[..., Tensor]:
    kernel: Callable[..., Tensor] = torch.compile(flex_attention)
    return kernel


def _tables(segments: Sequence[Segment], padding: int) -> tuple[Int[Tensor, " padded"], ...]:
    """Of every row position: its segment's `enter` and `exit`, and how many tokens come before it in its sequence.

    Padding is one more root, so that its queries see something too.
    """
    end = max(segment.stop for segment in segments)
    padded = [*segments, Segment(end, end + padding, ())]
    enter, leave = _walk(padded)
    table = torch.empty(3, end + padding, dtype=torch.long)
    for index, segment in enumerate(padded):
        before = sum(len(padded[ancestor]) for ancestor in segment.path)
        table[0, segment.start : segment.stop] = enter[index]
        table[1, segment.start : segment.stop] = leave[index]
        table[2, segment.start : segment.stop] = torch.arange(before, before + len(segment))
    return tuple(table)


def _walk(segments: Sequence[Segment]) -> tuple[list[int], list[int]]:
    """`enter` and `exit` of every segment, by depth-first order: a subtree takes as many numbers as it has segments."""
    within = [1] * len(segments)
    for segment in segments:
        for ancestor in segment.path:
            within[ancestor] += 1
    enter: list[int] = []
    roots, after = 0, [0] * len(segments)  # the next free number at top level, and inside each segment
    for index, segment in enumerate(segments):
        if segment.path:
            parent = segment.path[-1]
            enter.append(after[parent])
            after[parent] += within[index]
        else:
            enter.append(roots)
            roots += within[index]
        after[index] = enter[index] + 1
    return enter, [first + count for first, count in zip(enter, within, strict=True)]
