"""Keys and values of the sequences being sampled: one copy of a prompt for all its samples, a fixed place for each row.

Nothing is copied from step to step. A row writes its new key into its own place and attends to two blocks, its prompt's
and its own, whose scores meet in one softmax. A row that leaves is overwritten by the last one.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Self, final

import torch
from jaxtyping import Bool, Int
from torch import Tensor

from uptake.models.attention import Attend, Scores, cap
from uptake.models.tree import Segment

KeyValue = tuple[Tensor, Tensor]
Moves = Sequence[tuple[int, int]]  # (from, to)


@final
@dataclass
class KeyValueStore:
    """Per layer, keys and values of `slots` prompts and of `rows` samples, made at a layer's first use.

    `prompts[layer]` are `[slots, kv_heads, prompt_tokens, dim]`, `samples[layer]` `[rows, kv_heads, new_tokens, dim]`.
    """

    slots: int
    rows: int
    prompt_tokens: int
    new_tokens: int
    prompts: dict[int, KeyValue] = field(default_factory=dict)
    samples: dict[int, KeyValue] = field(default_factory=dict)

    def fill(self, layer: int, slots: Sequence[int], segments: Sequence[Segment], new: KeyValue) -> None:
        """Write prompts, which lie in segments of one packed row, into their slots."""
        if layer not in self.prompts:
            # Zeros, because a masked place still enters a product with weight zero.
            self.prompts[layer] = _zeros(self.slots, self.prompt_tokens, new)
            self.samples[layer] = _zeros(self.rows, self.new_tokens, new)
        for states, source in zip(self.prompts[layer], new, strict=True):
            for slot, segment in zip(slots, segments, strict=True):
                states[slot, :, : len(segment)] = source[0, :, segment.start : segment.stop]

    def append(self, layer: int, step: Int[Tensor, " rows"], new: KeyValue) -> None:
        """Write each row's next key and value at its step."""
        rows = torch.arange(len(step), device=step.device)
        for states, source in zip(self.samples[layer], new, strict=True):
            states[rows, :, step] = source[0].transpose(0, 1)

    def move_slots(self, moves: Moves) -> None:
        """Copy prompts over others."""
        _move(self.prompts, moves, self.prompt_tokens)

    def move_rows(self, moves: Moves, columns: int) -> None:
        """Copy the first `columns` tokens of samples over others."""
        _move(self.samples, moves, columns)


@dataclass(frozen=True)
class Prefill:
    """Attention of a packed row of prompts, which leaves their keys and values in the store."""

    store: KeyValueStore
    slots: Sequence[int]
    segments: Sequence[Segment]
    attend: Attend

    def __call__(self, layer: int, query: Tensor, key: Tensor, value: Tensor, scores: Scores) -> Tensor:
        self.store.fill(layer, self.slots, self.segments, (key, value))
        return self.attend(layer, query, key, value, scores)


@dataclass(frozen=True)
class Layout:
    """Layout of rows by the prompt each continues. `cell` is a row's cell in a padded grid of `width` rows a prompt.

    `cell` is None where the rows fill the grid in order.
    """

    slot: Int[Tensor, " rows"]
    length: Int[Tensor, " slots"]
    longest: int
    even: bool  # all prompts are of one length
    width: int
    cell: Int[Tensor, " rows"] | None

    @classmethod
    def of(cls, slots: Sequence[int], lengths: Sequence[int], device: torch.device) -> Self:
        """The layout of rows in `slots`, whose prompts have `lengths` tokens."""
        filled = [0] * len(lengths)
        ranks = []
        for slot in slots:
            ranks.append(filled[slot])
            filled[slot] += 1
        width = max(filled)
        cell = [slot * width + rank for slot, rank in zip(slots, ranks, strict=True)]
        in_order = cell == list(range(len(lengths) * width))
        return cls(
            slot=torch.tensor(slots, device=device),
            length=torch.tensor(lengths, device=device),
            longest=max(lengths),
            even=min(lengths) == max(lengths),
            width=width,
            cell=None if in_order else torch.tensor(cell, device=device),
        )

    def by_prompt(self, rows: Tensor) -> Tensor:
        """Rows `[rows, heads, repeats, x]` as `[slots, heads, width * repeats, x]`, padded with zeros."""
        if self.cell is not None:
            grid = rows.new_zeros(len(self.length) * self.width, *rows.shape[1:])
            rows = grid.index_copy_(0, self.cell, rows)
        return rows.reshape(-1, self.width, *rows.shape[1:]).transpose(1, 2).flatten(2, 3)

    def by_row(self, grid: Tensor) -> Tensor:
        """The inverse of `by_prompt`."""
        slots, heads, _, size = grid.shape
        rows = grid.view(slots, heads, self.width, -1, size).transpose(1, 2).flatten(0, 1)
        return rows if self.cell is None else rows[self.cell]


@dataclass(frozen=True)
class Decode:
    """Attention of one new token per row, at `step` of its response, to its prompt and its own earlier tokens."""

    store: KeyValueStore
    layout: Layout
    step: Int[Tensor, " rows"]
    columns: int  # own tokens of the longest row, with the new one
    even: bool  # all prompts are of one length, and all responses
    masks: dict[int | None, Bool[Tensor, "rows keys"] | None] = field(default_factory=dict)

    def __call__(self, layer: int, query: Tensor, key: Tensor, value: Tensor, scores: Scores) -> Tensor:
        self.store.append(layer, self.step, (key, value))
        layout, rows = self.layout, len(self.step)
        far_key, far_value = (far[: len(layout.length), :, : layout.longest] for far in self.store.prompts[layer])
        sample_key, sample_value = (sampled[:rows, :, : self.columns] for sampled in self.store.samples[layer])
        # [rows, kv_heads, repeats, dim]: query heads that share keys are rows of one product.
        query = query[0].transpose(0, 1).reshape(rows, key.shape[1], -1, query.shape[-1]) * scores.scale
        far = layout.by_row(layout.by_prompt(query) @ far_key.transpose(-1, -2))
        weights = cap(torch.cat((far, query @ sample_key.transpose(-1, -2)), -1), scores.softcap)
        mask = self._mask(scores.window)
        if mask is not None:
            weights = weights.masked_fill_(~mask[:, None, None], -torch.inf)
        weights = weights.softmax(-1, dtype=torch.float32).to(value.dtype)
        far, sampled = weights[..., : layout.longest], weights[..., layout.longest :]
        out: Tensor = layout.by_row(layout.by_prompt(far) @ far_value) + sampled @ sample_value
        return out.flatten(1, 2).transpose(0, 1)[None]

    def _mask(self, window: int | None) -> Bool[Tensor, "rows keys"] | None:
        """Which keys each row sees, made once a step for each sliding window; None where it sees all."""
        if window is not None and window >= self.layout.longest + self.columns:
            window = None
        if window not in self.masks:
            self.masks[window] = None if self.even and window is None else self._visible(window)
        return self.masks[window]

    def _visible(self, window: int | None) -> Bool[Tensor, "rows keys"]:
        layout, step = self.layout, self.step[:, None]
        length = layout.length[layout.slot][:, None]
        far = torch.arange(layout.longest, device=step.device)
        columns = torch.arange(self.columns, device=step.device)
        seen = torch.cat((far < length, columns <= step), 1)
        if window is None:
            return seen
        return seen & (torch.cat((length + step - far, step - columns), 1) < window)


def _zeros(places: int, tokens: int, like: KeyValue) -> KeyValue:
    key, value = (states.new_zeros(places, states.shape[1], tokens, states.shape[3]) for states in like)
    return key, value


def _move(states: dict[int, KeyValue], moves: Moves, columns: int) -> None:
    if moves:
        source, target = (list(side) for side in zip(*moves, strict=True))
        for pair in states.values():
            for one in pair:
                one[target, :, :columns] = one[source, :, :columns]
