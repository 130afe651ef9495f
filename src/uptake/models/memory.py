"""Memory that is free for a model, and how many tokens of it fit at once."""

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor
from transformers import PreTrainedModel

from uptake.models.language_model import Limits
from uptake.support.memory import free_memory

# Tokens below which a limit does not go, and the share of what is free that the tokens of one may take.
FEWEST, SHARE = 256, 0.25


def free_bytes(device: torch.device) -> int:
    """Bytes of memory that are free on a device."""
    if device.type != "cuda":
        return free_memory()
    held = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
    return int(torch.cuda.mem_get_info(device)[0]) + held


def weights_bytes(weights: Iterable[Tensor]) -> int:
    """Bytes of some weights."""
    return sum(weight.numel() * weight.element_size() for weight in weights)


def fitting_limits(model: PreTrainedModel, free: int | None = None) -> Limits:
    """The largest limits whose tokens fit what is free, up to the usual ones; each is a power of two."""
    room = SHARE * (free_bytes(model.device) if free is None else free)
    usual, (called, cached) = Limits(), token_bytes(model)
    return Limits(_fitting(usual.call, called, room), _fitting(usual.cache, cached, room))


def token_bytes(model: PreTrainedModel) -> tuple[int, int]:
    """Bytes that a token takes in a call without gradient, and in a cache of keys and values.

    A call holds the states of one layer at a time: the residual stream and its norm, queries, keys and values twice,
    and what is within the feed-forward network. Copies and scores of attention, and logits, come on top: for those the
    share of what is free is small.
    """
    config: Any = model.config.get_text_config(decoder=True)
    width, heads = config.hidden_size, getattr(config, "num_attention_heads", None) or 1
    inner = getattr(config, "intermediate_size", None) or 4 * width
    size = getattr(config, "head_dim", None) or width // heads
    shared = getattr(config, "num_key_value_heads", None) or heads
    cached = 2 * config.num_hidden_layers * shared * size
    return (10 * width + 3 * inner) * model.dtype.itemsize, cached * model.dtype.itemsize


def _fitting(tokens: int, size: int, room: float) -> int:
    while tokens > FEWEST and tokens * size > room:
        tokens //= 2
    return tokens
