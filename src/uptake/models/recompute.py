"""Activation recomputation: a layer keeps its input alone, and is computed a second time in the backward pass."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import torch
from torch.utils.checkpoint import checkpoint
from transformers.modeling_layers import GradientCheckpointingLayer

from uptake.errors import ModelError
from uptake.models.language_model import LanguageModel
from uptake.models.products import fast_products


@contextmanager
def recomputed_layers(lm: LanguageModel) -> Iterator[None]:
    """Within the block, every layer of a model and of the modules beside it is recomputed in the backward pass.

    The numbers are the same to the last bit. Transformers does this in training mode only, which is that of dropout.
    Raises ModelError for a model whose layers cannot be told.
    """
    parts = [lm.decoder, *lm.heads.values()]
    layers = [layer for part in parts for layer in part.modules() if isinstance(layer, GradientCheckpointingLayer)]
    if not layers:
        raise ModelError(f"{lm.name}: its layers cannot be told, so none is recomputed (allowed: recompute: false)")
    for layer in layers:
        layer.forward = partial(_recomputed, layer.forward)
    try:
        yield
    finally:
        for layer in layers:
            del layer.forward  # that of its class shows again


def _recomputed(forward: Callable[..., Any], states: torch.Tensor, *arguments: Any, **options: Any) -> Any:
    """What a layer gives; where gradients are on, it keeps nothing but the states that it is given."""
    if not torch.is_grad_enabled():
        return forward(states, *arguments, **options)
    return checkpoint(partial(_as_before, forward, states.device), states, *arguments, use_reentrant=False, **options)


def _as_before(forward: Callable[..., Any], device: torch.device, *arguments: Any, **options: Any) -> Any:
    # The second time, nobody around has chosen the library of the products; precision is kept by `checkpoint`.
    with fast_products(device):
        return forward(*arguments, **options)
