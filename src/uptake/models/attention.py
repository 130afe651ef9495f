"""Attention over token trees: a token sees its ancestors and the earlier tokens of its own segment.

Transformers lets a program register an attention function. Ours hands queries, keys and values to whatever `attend`
object came along with the forward call: attention over packed trees, or a sampler's key-value store. Without one it is
plain attention under the mask that Transformers made, so the model keeps working everywhere else.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol, final

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention
from transformers import AttentionInterface, AttentionMaskInterface
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import sdpa_mask

from uptake.models.layout import Block, blocks, causal_mask
from uptake.models.tree import Segment

NAME = "uptake_tree"


@dataclass(frozen=True, slots=True)
class Scores:
    """Scores of a layer from query-key products: scale, soft cap (Gemma 2), sliding window (Mistral, Gemma)."""

    scale: float
    softcap: float | None = None
    window: int | None = None


# Queries, keys and values, or keys and values, of some tokens: [tokens, heads, dim].
States = tuple[Tensor, ...]


class Attend(Protocol):
    """Attention of one forward call, asked layer by layer."""

    def __call__(
        self,
        layer: int,
        query: Float[Tensor, "1 heads tokens dim"],
        key: Float[Tensor, "1 kv_heads tokens dim"],
        value: Float[Tensor, "1 kv_heads tokens vdim"],
        scores: Scores,
    ) -> Float[Tensor, "1 heads tokens vdim"]: ...


def register() -> None:
    """Make the attention implementation `uptake_tree` known to Transformers; calling it again changes nothing."""
    AttentionInterface.register(NAME, _attention)
    AttentionMaskInterface.register(NAME, sdpa_mask)


def _attention(
    module: torch.nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    *,
    attend: Attend | None = None,
    **options: Any,
) -> tuple[Tensor, None]:
    scale = options.get("scaling")
    scores = Scores(
        scale=query.shape[-1] ** -0.5 if scale is None else scale,
        softcap=options.get("softcap"),
        window=options.get("sliding_window"),
    )
    if attend is None and scores.softcap is None:
        plain: tuple[Tensor, None] = sdpa_attention_forward(module, query, key, value, attention_mask, **options)
        return plain
    if attend is None:
        mask = causal_mask(query.shape[2], None, query.device) if attention_mask is None else attention_mask
        return attend_capped(query, key, value, mask, scores).transpose(1, 2), None
    layer: int = module.layer_idx  # type: ignore[assignment]
    return attend(layer, query, key, value, scores).transpose(1, 2), None


@dataclass(frozen=True, slots=True)
class Masks:
    """Masks of what the queries of a block see; None stands for everything."""

    context: Bool[Tensor, "groups #length context"] | None
    causal: Bool[Tensor, "length length"]

    def rows(self, block: Block) -> Bool[Tensor, "groups 1 length keys"]:
        """One mask over context and own tokens, for children that have a row to themselves."""
        groups, length, context = len(block.depth), block.queries.shape[2], block.context.shape[1]
        far = self.causal.new_ones(groups, length, context) if self.context is None else self.context
        return torch.cat((far.expand(-1, length, -1), self.causal.expand(groups, -1, -1)), -1)[:, None]


@final
class TreeAttention:
    """Exact attention of a packed row, block by block.

    Roots and long branches are rows of SDPA; short siblings meet the context they share in one matrix product.
    """

    def __init__(self, segments: Sequence[Segment], device: torch.device) -> None:
        self.blocks = blocks(segments, device)
        self.queries = _Gather([block.queries.flatten() for block in self.blocks])
        self.keys = _Gather([block.keys for block in self.blocks])
        real = torch.cat([block.real.flatten() for block in self.blocks]).nonzero()[:, 0]
        # Where in the order of the blocks the token of each row position is.
        self.inverse = torch.empty_like(real).scatter_(0, self.queries.order[real], real)
        self.masks: dict[tuple[int, int | None], Masks] = {}
        self.row_masks: dict[tuple[int, int | None, torch.dtype], Tensor] = {}

    def __call__(self, layer: int, query: Tensor, key: Tensor, value: Tensor, scores: Scores) -> Tensor:
        if len(self.blocks) == 1 and len(self.blocks[0].depth) == 1:
            return attend_rows(query, key, value, self._row_mask(0, scores, query.dtype), scores)
        by_block = zip(self.queries(query), self.keys(key), self.keys(value), strict=True)
        parts = []
        for number, (block, states) in enumerate(zip(self.blocks, by_block, strict=True)):
            if block.shared:
                parts.append(_attend_siblings(states, block, self._masks(number, scores.window), scores))
            else:
                parts.append(_attend_alone(states, block, self._row_mask(number, scores, query.dtype), scores))
        return torch.cat(parts).index_select(0, self.inverse).transpose(0, 1)[None]

    def _masks(self, number: int, window: int | None) -> Masks:
        """The masks of a block, made once and kept for the other layers."""
        if (number, window) not in self.masks:
            block = self.blocks[number]
            causal = causal_mask(block.queries.shape[2], window, block.depth.device)
            self.masks[number, window] = Masks(block.context_mask(window), causal)
        return self.masks[number, window]

    def _row_mask(self, number: int, scores: Scores, dtype: torch.dtype) -> Tensor | None:
        """The mask of a block of rows, as `attend_rows` takes it; None: plain causal."""
        block = self.blocks[number]
        windowed = scores.window is not None and scores.window < block.queries.shape[2]
        if block.context.shape[1] == 0 and not windowed and scores.softcap is None:
            return None
        if scores.softcap is not None:
            return self._masks(number, scores.window).rows(block)
        kind = number, scores.window, dtype
        if kind not in self.row_masks:
            # SDPA adds its mask to the scores, and would make that of a boolean one anew in every layer.
            seen = self._masks(number, scores.window).rows(block)
            self.row_masks[kind] = torch.zeros_like(seen, dtype=dtype).masked_fill_(~seen, -torch.inf)
        return self.row_masks[kind]


@final
class _Gather:
    """Takes states from the positions of a row to those of blocks, all at once: one copy, and one in the gradient."""

    def __init__(self, places: Sequence[Int[Tensor, " _"]]) -> None:
        self.order = torch.cat(tuple(places))
        self.sizes = [len(each) for each in places]

    def __call__(self, states: Float[Tensor, "1 heads tokens dim"]) -> tuple[Float[Tensor, "_ heads dim"], ...]:
        # Token-major rows make a gather a copy of contiguous memory; `index_select` has the faster gradient.
        parts: tuple[Tensor, ...] = states[0].transpose(0, 1).index_select(0, self.order).split(self.sizes)
        return parts


def attend_rows(
    query: Float[Tensor, "rows heads length dim"],
    key: Float[Tensor, "rows kv_heads keys dim"],
    value: Float[Tensor, "rows kv_heads keys vdim"],
    mask: Bool[Tensor, "#rows 1 length keys"] | Float[Tensor, "#rows 1 length keys"] | None,
    scores: Scores,
) -> Float[Tensor, "rows heads length vdim"]:
    """Attention of rows under a mask that is true where a key is seen, or is added to the scores; None: plain causal.

    With a soft cap it has to be the former.
    """
    if scores.softcap is not None and mask is not None:
        return attend_capped(query, key, value, mask, scores)
    if query.device.type == "cpu" and torch.is_autocast_enabled("cpu"):
        # On a CPU the backward pass of SDPA takes up to twice as long in bf16 as in fp32. Without a gradient it is
        # the same, so that a reference rounds as the policy does.
        with torch.autocast("cpu", enabled=False):
            mask = mask if mask is None or mask.dtype == torch.bool else mask.float()
            return attend_rows(query.float(), key.float(), value.float(), mask, scores).to(value.dtype)
    grouped = query.shape[1] != key.shape[1]
    return scaled_dot_product_attention(
        query, key, value, attn_mask=mask, is_causal=mask is None, scale=scores.scale, enable_gqa=grouped
    )


def attend_capped(query: Tensor, key: Tensor, value: Tensor, mask: Tensor, scores: Scores) -> Tensor:
    """Attention with soft-capped scores, which SDPA does not offer."""
    grouped = query.unflatten(1, (key.shape[1], -1))
    weights = cap(grouped @ key.unsqueeze(2).transpose(-1, -2) * scores.scale, scores.softcap)
    mask = mask if mask.ndim == 2 else mask.unsqueeze(2)
    # Finite, because a padded query may see nothing and its not-a-number would spread through its values.
    weights = _softmax(weights.masked_fill(~mask, torch.finfo(weights.dtype).min), value.dtype)
    out: Tensor = weights @ value.unsqueeze(2)
    return out.flatten(1, 2)


def cap(scores: Tensor, softcap: float | None) -> Tensor:
    """Soft-capped scores, `c * tanh(s / c)` (Gemma 2)."""
    return scores if softcap is None else torch.tanh(scores / softcap) * softcap


def _softmax(scores: Tensor, dtype: torch.dtype) -> Tensor:
    """Softmax over keys, in fp32 at least, as `dtype`."""
    return scores.softmax(-1, dtype=torch.promote_types(scores.dtype, torch.float32)).to(dtype)


def _attend_alone(states: States, block: Block, mask: Tensor | None, scores: Scores) -> Tensor:
    """Children that have a row to themselves: their queries, and keys and values of their context and their own."""
    query, key, value = (each.unflatten(0, (len(block.depth), -1)).transpose(1, 2) for each in states)
    return attend_rows(query, key, value, mask, scores).transpose(1, 2).flatten(0, 1)


def _attend_siblings(states: States, block: Block, masks: Masks, scores: Scores) -> Tensor:
    """Queries of siblings against their shared context in one product a group, and against their own tokens."""
    (groups, width, length), context = block.queries.shape, block.context.shape[1]
    query, *seen = states
    heads = seen[0].shape[1]
    (far_key, key), (far_value, value) = (each.split((groups * context, groups * width * length)) for each in seen)
    # [groups, heads, width, repeats, length, dim]: the queries of a group are rows of one matrix, as are a child's.
    query = query.reshape(groups, width, length, heads, -1, query.shape[-1]).permute(0, 3, 1, 4, 2, 5).contiguous()
    query = query * scores.scale
    key, value = (each.unflatten(0, (groups, width, length)).permute(0, 3, 1, 2, 4) for each in (key, value))
    far_key, far_value = (each.unflatten(0, (groups, context)).transpose(1, 2) for each in (far_key, far_value))
    shape = query.shape[:-1]
    distant = cap((query.flatten(2, 4) @ far_key.transpose(-1, -2)).view(*shape, context), scores.softcap)
    near = cap((query.flatten(3, 4) @ key.transpose(-1, -2)).view(*shape, length), scores.softcap)
    if masks.context is not None:
        distant = distant.masked_fill(~masks.context[:, None, None, None], -torch.inf)
    near = near.masked_fill(~masks.causal, -torch.inf)
    weights = _softmax(torch.cat((distant, near), -1), value.dtype)
    distant, near = weights.split((context, length), -1)
    out: Tensor = (distant.flatten(2, 4) @ far_value).view(*shape, -1)
    out = out + (near.flatten(3, 4) @ value).view(*shape, -1)
    return out.permute(0, 2, 4, 1, 3, 5).flatten(0, 2).flatten(1, 2)
