"""Attention over token trees: a token sees its ancestors and the earlier tokens of its own segment, and pays for no more.

Transformers lets a program register an attention function. Ours hands queries, keys and values to whatever `attend`
object came along with the forward call: a `TreeAttention` for packed trees, or a sampler's key-value store. Without one
it is plain attention under the mask that Transformers made, so the model keeps working everywhere else.
"""

from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Protocol, TypeVar

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention
from transformers import AttentionInterface, AttentionMaskInterface
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import sdpa_mask

from uptake.models.tree import Segment

T = TypeVar("T")

NAME = "uptake_tree"

# Scores of one block, in queries x keys, beyond which siblings are split: bounds memory at about 8 MB a head.
MAX_SCORES = 1 << 21
# Padded work over real work that grouping may cost.
MAX_WASTE = 1.25


@dataclass(frozen=True, slots=True)
class Scores:
    """How a layer turns query-key products into scores: scale, soft cap (Gemma 2), sliding window (Mistral, Gemma)."""

    scale: float
    softcap: float | None = None
    window: int | None = None


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
        mask = _own_mask(query.shape[2], None, query.device) if attention_mask is None else attention_mask
        return _attend_capped(query, key, value, mask, scores).transpose(1, 2), None
    layer: int = module.layer_idx  # type: ignore[assignment]
    return attend(layer, query, key, value, scores).transpose(1, 2), None


@dataclass(frozen=True, slots=True)
class Roots:
    """Segments without ancestors, as rows of packed positions, padded on the right with position 0."""

    index: Int[Tensor, "rows length"]
    flat: Int[Tensor, " tokens"]  # where in (rows * length) each real token is
    home: Int[Tensor, " tokens"]  # its packed position


@dataclass(frozen=True, slots=True)
class Branches:
    """Sibling segments that share a context: `groups` parents, `width` children each, children padded to `length`."""

    queries: Int[Tensor, "groups width length"]
    context: Int[Tensor, "groups context"]
    visible: Bool[Tensor, "groups context"] | None  # None: no context is padded
    depth: Int[Tensor, " groups"]  # tokens of context, hence the depth of a child's first token
    flat: Int[Tensor, " tokens"]
    home: Int[Tensor, " tokens"]


class TreeAttention:
    """Exact attention of a packed row through SDPA on the roots and two matrix products on the branches."""

    def __init__(self, segments: Sequence[Segment], device: torch.device) -> None:
        self.tokens = max(segment.stop for segment in segments)
        self.roots = [_roots(group, device) for group in _group_roots(segments)]
        self.branches = [_branches(group, segments, device) for group in _group_branches(segments)]

    def __call__(self, layer: int, query: Tensor, key: Tensor, value: Tensor, scores: Scores) -> Tensor:
        # Token-major rows make every gather below a copy of contiguous memory.
        q, k, v = (states[0].transpose(0, 1) for states in (query, key, value))
        if len(self.roots) == 1 and not self.branches and self.roots[0].index.shape[0] == 1:
            return attend_causal(query, key, value, scores)
        parts, homes = [], []
        for roots in self.roots:
            out = attend_causal(*(_rows(states[roots.index]) for states in (q, k, v)), scores)
            parts.append(out.transpose(1, 2).flatten(0, 1)[roots.flat])
            homes.append(roots.home)
        for block in self.branches:
            parts.append(_attend_branches(q, k, v, block, scores)[block.flat])
            homes.append(block.home)
        order = torch.argsort(torch.cat(homes))
        return torch.cat(parts)[order].transpose(0, 1)[None]


def attend_causal(query: Tensor, key: Tensor, value: Tensor, scores: Scores) -> Float[Tensor, "rows heads length vdim"]:
    """Plain causal attention over rows `[rows, heads, length, dim]`, with grouped key-value heads."""
    length = query.shape[2]
    windowed = scores.window is not None and scores.window < length
    mask = _own_mask(length, scores.window, query.device) if windowed or scores.softcap is not None else None
    if scores.softcap is not None and mask is not None:
        return _attend_capped(query, key, value, mask, scores)
    shared = query.shape[1] != key.shape[1]
    return scaled_dot_product_attention(
        query, key, value, attn_mask=mask, is_causal=mask is None, scale=scores.scale, enable_gqa=shared
    )


def _attend_capped(query: Tensor, key: Tensor, value: Tensor, mask: Tensor, scores: Scores) -> Tensor:
    """Attention with soft-capped scores, which SDPA does not offer; `mask` is true where a key is seen."""
    grouped = query.unflatten(1, (key.shape[1], -1))
    weights = cap(grouped @ key.unsqueeze(2).transpose(-1, -2) * scores.scale, scores.softcap)
    mask = mask if mask.ndim == 2 else mask.unsqueeze(2)
    # Finite, because a padded query may see nothing and its not-a-number would spread through its values.
    weights = weights.masked_fill(~mask, torch.finfo(weights.dtype).min).softmax(-1, dtype=torch.float32).to(value.dtype)
    return (weights @ value.unsqueeze(2)).flatten(1, 2)


def cap(scores: Tensor, softcap: float | None) -> Tensor:
    """Soft-capped scores, `c * tanh(s / c)` (Gemma 2)."""
    return scores if softcap is None else torch.tanh(scores / softcap) * softcap


def _attend_branches(q: Tensor, k: Tensor, v: Tensor, block: Branches, scores: Scores) -> Float[Tensor, "flat heads vdim"]:
    """Queries of children against their shared context (one matrix product a group) and against their own tokens."""
    groups, width, length = block.queries.shape
    context, kv_heads = block.context.shape[1], k.shape[1]
    # [groups, kv_heads, repeats, width * length, dim]: children of a parent are rows of one product.
    query = q[block.queries.flatten(1)].unflatten(2, (kv_heads, -1)).permute(0, 2, 3, 1, 4) * scores.scale
    own_key, own_value = (_siblings(states[block.queries]) for states in (k, v))
    far_key, far_value = (states[block.context].transpose(1, 2) for states in (k, v))
    far = query.flatten(2, 3) @ far_key.transpose(-1, -2)
    own = _by_child(query, width) @ own_key.transpose(-1, -2)
    shape = (groups, kv_heads, query.shape[2], width, length)
    far = cap(far.view(*shape, context), scores.softcap)
    own = cap(own.view(groups, kv_heads, width, -1, length, length).transpose(2, 3), scores.softcap)
    if block.visible is not None or scores.window is not None:
        far = far.masked_fill(~_context_mask(block, scores.window), -torch.inf)
    own = own.masked_fill(~_own_mask(length, scores.window, q.device), -torch.inf)
    weights = torch.cat((far, own), -1).softmax(-1, dtype=torch.float32).to(v.dtype)
    far_weights, own_weights = weights.split((context, length), -1)
    out = (far_weights.flatten(2, 4) @ far_value).view(*shape, -1)
    near = own_weights.transpose(2, 3).flatten(3, 4) @ own_value
    out = out + near.view(groups, kv_heads, width, -1, length, near.shape[-1]).transpose(2, 3)
    return out.permute(0, 3, 4, 1, 2, 5).flatten(0, 2).flatten(1, 2)


def _rows(states: Float[Tensor, "rows length heads dim"]) -> Float[Tensor, "rows heads length dim"]:
    return states.transpose(1, 2)


def _siblings(states: Float[Tensor, "groups width length heads dim"]) -> Float[Tensor, "groups heads width length dim"]:
    return states.permute(0, 3, 1, 2, 4)


def _by_child(query: Float[Tensor, "groups heads repeats queries dim"], width: int) -> Tensor:
    """Regroup queries so that each child's meet its own keys: `[groups, heads, width, repeats * length, dim]`."""
    return query.unflatten(3, (width, -1)).transpose(2, 3).flatten(3, 4)


def _own_mask(length: int, window: int | None, device: torch.device) -> Bool[Tensor, "length length"]:
    steps = torch.arange(length, device=device)
    distance = steps[:, None] - steps
    return (distance >= 0) if window is None else (distance >= 0) & (distance < window)


def _context_mask(block: Branches, window: int | None) -> Bool[Tensor, "groups 1 1 1 #length context"]:
    """Which context tokens a child's token at each offset sees: not padding, and inside the sliding window."""
    groups, context = block.context.shape
    steps = torch.arange(context, device=block.context.device)
    mask = torch.ones(groups, 1, context, dtype=torch.bool, device=steps.device)
    if block.visible is not None:
        mask = block.visible[:, None]
    if window is not None:
        query_depth = block.depth[:, None] + torch.arange(block.queries.shape[2], device=steps.device)
        mask = mask & (query_depth[..., None] - steps < window)
    return mask[:, None, None, None]


# --- grouping -----------------------------------------------------------------------------------------------------


def _runs(items: Sequence[T], dims: Callable[[T], tuple[int, ...]], cost: Callable[..., int]) -> Iterator[list[T]]:
    """Cut a sorted sequence into runs that can be padded to one shape without much waste or memory."""
    run: list[T] = []
    largest: tuple[int, ...] = ()
    real = 0
    for item in items:
        shape = dims(item)
        grown = tuple(map(max, largest, shape)) if run else shape
        padded, exact = (len(run) + 1) * cost(*grown), real + cost(*shape)
        if run and (padded > MAX_WASTE * exact or padded > MAX_SCORES):
            yield run
            run, grown, exact = [], shape, cost(*shape)
        run.append(item)
        largest, real = grown, exact
    if run:
        yield run


def _group_roots(segments: Sequence[Segment]) -> Iterator[list[Segment]]:
    roots = sorted((segment for segment in segments if not segment.path), key=len)
    return _runs(roots, lambda root: (len(root),), lambda length: length)


def _group_branches(segments: Sequence[Segment]) -> Iterator[list[list[Segment]]]:
    """Groups of sibling lists: siblings of like length, then sibling lists of equal width and like shape."""
    siblings: defaultdict[tuple[int, ...], list[Segment]] = defaultdict(list)
    for segment in segments:
        if segment.path:
            siblings[segment.path].append(segment)
    by_width: defaultdict[int, list[list[Segment]]] = defaultdict(list)
    for path, children in siblings.items():
        context = sum(len(segments[index]) for index in path)
        cost = partial(_block_cost, context, 1)  # then called with the length
        for run in _runs(sorted(children, key=len), lambda child: (len(child),), cost):
            by_width[len(run)].append(run)

    def shape(run: list[Segment]) -> tuple[int, int]:
        return sum(len(segments[index]) for index in run[0].path), max(map(len, run))

    for width, runs in by_width.items():
        yield from _runs(sorted(runs, key=shape), shape, lambda context, length, width=width: _block_cost(context, width, length))


def _block_cost(context: int, width: int, length: int) -> int:
    return width * length * (context + length)


def _roots(group: Sequence[Segment], device: torch.device) -> Roots:
    index, real = _padded([list(range(root.start, root.stop)) for root in group])
    flat = real.flatten().nonzero()[:, 0]
    return Roots(index.to(device), flat.to(device), index.flatten()[flat].to(device))


def _branches(group: Sequence[Sequence[Segment]], segments: Sequence[Segment], device: torch.device) -> Branches:
    index, real = _padded([list(range(child.start, child.stop)) for run in group for child in run])
    flat = real.flatten().nonzero()[:, 0]
    paths = [[segments[i] for i in run[0].path] for run in group]
    context, visible = _padded([[t for part in path for t in range(part.start, part.stop)] for path in paths])
    return Branches(
        queries=index.unflatten(0, (len(group), -1)).to(device),
        context=context.to(device),
        visible=None if bool(visible.all()) else visible.to(device),
        depth=visible.sum(1).to(device),
        flat=flat.to(device),
        home=index.flatten()[flat].to(device),
    )


def _padded(rows: Sequence[Sequence[int]]) -> tuple[Int[Tensor, "rows length"], Bool[Tensor, "rows length"]]:
    """Rows of unequal length as one tensor, padded on the right with 0, and where the real entries are."""
    lengths = torch.tensor([len(row) for row in rows])
    real = torch.arange(int(lengths.max())) < lengths[:, None]
    index = torch.zeros(real.shape, dtype=torch.long)
    index[real] = torch.tensor([entry for row in rows for entry in row], dtype=torch.long)
    return index, real
