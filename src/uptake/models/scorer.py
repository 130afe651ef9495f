"""The one scorer: log-probabilities of the wanted tokens of packed trees, each distinct token computed once.

Hidden states are projected to the vocabulary only where a log-probability is asked for, in chunks, in fp32; training
holds the last chunk and recomputes the others in the backward pass, so `[tokens, vocabulary]` is never held for the
whole batch.
"""

from collections.abc import Callable, Sequence
from functools import partial
from importlib.util import find_spec
from itertools import pairwise

import numpy as np
import torch
from jaxtyping import Float, Shaped
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from uptake.errors import ModelError
from uptake.models.attention import NAME, Attend, TreeAttention
from uptake.models.flex import FlexAttend
from uptake.models.language_model import LanguageModel
from uptake.models.packing import batches, side_by_side
from uptake.models.products import fast_products
from uptake.models.rope import apart, joined
from uptake.models.rows import row_logps, row_states
from uptake.models.tree import Packed, Segment, TokenTree

# Logits held at once, in floats. Scoring wants them in the processor's cache (16 MB); training adds a gradient of the
# whole vocabulary matrix per chunk, so fewer and larger chunks (64 MB) are faster there.
SCORING_CHUNK = 1 << 22
TRAINING_CHUNK = 1 << 24

# What sees the logits of some sources: the number of the first, and a row for each.
Watch = Callable[[int, Tensor], None]


def token_logps(lm: LanguageModel, packed: Packed, temperature: float = 1.0) -> Float[Tensor, " wanted"]:
    """Log-probability of every wanted token, in the order of `packed.targets`, in fp32 (float64 for float64 models).

    With a `temperature`, that of the distribution softmax(logits / temperature). Differentiable; wrap in
    `torch.no_grad()` to score only.
    """
    return by_table(lm, packed, lambda part: _part_logps(lm, part, temperature))


def by_table(
    lm: LanguageModel, packed: Packed, compute: Callable[[Packed], Shaped[Tensor, "_ *rest"]]
) -> Shaped[Tensor, "wanted *rest"]:
    """What `compute` gives for the wanted tokens of a packed row, where only rows of one rotary table share a call."""
    if lm.rope is None:
        return compute(packed)
    parts = apart(packed, lm.rope)
    return joined(parts, [compute(part) for part, _ in parts])


def _part_logps(lm: LanguageModel, packed: Packed, temperature: float) -> Float[Tensor, " wanted"]:
    if lm.attention == "rows":
        return row_logps(lm, packed, temperature)
    return tree_logps(lm, packed, attend_for(packed.segments, lm.device), temperature)


def tree_logps(lm: LanguageModel, packed: Packed, attend: Attend, temperature: float = 1.0) -> Float[Tensor, " wanted"]:
    """What `token_logps` gives, from one forward call under the given attention."""
    states = hidden_states(lm, packed.ids.to(lm.device), packed.positions.to(lm.device), attend)
    return project(lm, states, packed, temperature)


def packed_states(lm: LanguageModel, packed: Packed) -> Float[Tensor, "tokens width"]:
    """Final hidden state of every token of the packed row; differentiable.

    Where the model's rope keeps rows apart, only the sources and the wanted tokens have a state, and a source of
    several nodes that of the shortest row.
    """
    if lm.rope is None or (parts := apart(packed, lm.rope))[0][0] is packed:
        return _part_states(lm, packed)
    sources = packed.sources[packed.target_source]
    places, found = [], []
    for part, wanted in parts:
        states = _part_states(lm, part)
        mine = torch.cat((part.sources[part.target_source], part.target_positions))
        theirs = torch.cat((sources[wanted], packed.target_positions[wanted]))
        places.append(theirs[theirs >= 0])
        found.append(states[mine[theirs >= 0].to(lm.device)])
    position, once = np.unique(torch.cat(places), return_index=True)
    states = torch.cat(found)[torch.from_numpy(once).to(lm.device)]
    return states.new_zeros(len(packed), states.shape[1]).index_copy(
        0, torch.from_numpy(position).to(lm.device), states
    )


def _part_states(lm: LanguageModel, packed: Packed) -> Float[Tensor, "tokens width"]:
    if lm.attention == "rows":
        return row_states(lm, packed)
    attend = attend_for(packed.segments, lm.device)
    return hidden_states(lm, packed.ids.to(lm.device), packed.positions.to(lm.device), attend)


def attend_for(segments: Sequence[Segment], device: torch.device) -> Attend:
    """FlexAttention on CUDA where Triton is there to compile it, matrix products elsewhere."""
    if device.type == "cuda" and find_spec("triton") is not None:
        return FlexAttend(segments, device)
    return TreeAttention(segments, device)


def score_trees(lm: LanguageModel, trees: Sequence[TokenTree], budget: int) -> list[tuple[Tensor, ...]]:
    """Per tree, the token log-probabilities of each scored node, without gradient, on the CPU.

    `budget` bounds the tokens of one forward call, where the model's limits are not lower. Trees that begin alike are
    scored together, in whatever order they come.
    """
    results: list[tuple[Tensor, ...]] = [()] * len(trees)
    order = side_by_side(trees)
    with torch.no_grad():
        for row, packed in batches([trees[index] for index in order], min(budget, lm.limits.call)):
            nodes = iter(packed.per_node(token_logps(lm, packed).cpu()))
            for index in order[row.start : row.stop]:
                results[index] = tuple(next(nodes) for node in trees[index].nodes if node.scored)
    return results


def hidden_states(lm: LanguageModel, ids: Tensor, positions: Tensor, attend: Attend) -> Float[Tensor, "tokens width"]:
    """Final hidden states of one row of tokens under the given attention."""
    if lm.base.config._attn_implementation != NAME:
        # The model would read the row as one sequence and give wrong numbers without an error.
        raise ModelError(f"{lm.name}: its attention was exchanged after loading; load or prepare the model again")
    # A 4-D mask tells Transformers that the caller has taken care of masking; `attend` has.
    handled = torch.ones(1, 1, 1, 1, dtype=torch.bool, device=ids.device)
    with fast_products(ids.device), lm.computing():
        output = lm.decoder(
            input_ids=ids[None], position_ids=positions[None], attention_mask=handled, use_cache=False, attend=attend
        )
    states: Tensor = output.last_hidden_state[0]
    return states


def logits(
    lm: LanguageModel, states: Float[Tensor, "rows width"], temperature: float = 1.0
) -> Float[Tensor, "rows vocabulary"]:
    """Vocabulary logits of hidden states, in fp32 or better, with the model's own scaling and soft cap.

    They are divided by the temperature last, as the sampler does.
    """
    config = lm.config
    with fast_products(states.device), lm.computing():
        out: Tensor = lm.head(states)
    out = out.to(torch.promote_types(out.dtype, torch.float32))
    scale = getattr(config, "logit_scale", None) or 1.0 / (getattr(config, "logits_scaling", None) or 1.0)
    softcap = getattr(config, "final_logit_softcapping", None)
    out = out if scale == 1.0 else out * scale
    out = out if softcap is None else torch.tanh(out / softcap) * softcap
    return out if temperature == 1.0 else out / temperature


def project(
    lm: LanguageModel,
    states: Float[Tensor, "tokens width"],
    packed: Packed,
    temperature: float = 1.0,
    watch: Watch | None = None,
) -> Float[Tensor, " wanted"]:
    """Log-probabilities of the targets, from one log-sum-exp per distinct source, chunk by chunk.

    `watch` sees the logits of every chunk, without gradient, as they are computed: once in the forward pass, and again
    where the backward pass computes them anew.
    """
    states = states.index_select(0, packed.sources.to(states.device))
    order = torch.argsort(packed.target_source, stable=True)
    rows, targets = packed.target_source[order], packed.targets[order].to(states.device)
    chunk = TRAINING_CHUNK if torch.is_grad_enabled() else SCORING_CHUNK
    step = max(1, chunk // lm.vocabulary)
    bounds = torch.searchsorted(rows, torch.arange(0, len(states) + step, step)).tolist()
    parts = []
    for first, (low, high) in zip(range(0, len(states), step), pairwise(bounds), strict=False):
        local = (rows[low:high] - first).to(states.device)
        seen = None if watch is None else partial(watch, first)
        arguments = lm, states[first : first + step], local, targets[low:high], temperature, seen
        # The backward pass begins with the last chunk, which may as well wait for it.
        last = first + step >= len(states)
        parts.append(_chunk_logps(*arguments) if last else _recomputed(_chunk_logps, *arguments))
    inverse = torch.empty_like(order).scatter_(0, order, torch.arange(len(order)))
    return torch.cat(parts)[inverse.to(states.device)] if parts else states.new_zeros(0)


def _chunk_logps(
    lm: LanguageModel,
    states: Tensor,
    rows: Tensor,
    targets: Tensor,
    temperature: float,
    seen: Callable[[Tensor], None] | None,
) -> Float[Tensor, " wanted"]:
    found = logits(lm, states, temperature)
    if seen is not None:
        seen(found.detach())
    return found.log_softmax(-1)[rows, targets]


def _recomputed(function: Callable[..., Tensor], *arguments: object) -> Tensor:
    """Call a function; if gradients are on, keep its inputs only and recompute it in the backward pass."""
    if not torch.is_grad_enabled():
        return function(*arguments)
    result: Tensor = checkpoint(function, *arguments, use_reentrant=False, preserve_rng_state=False)
    return result
