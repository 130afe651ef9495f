"""A causal language model as the rest of Uptake sees it."""

from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Literal

import torch
from torch import nn
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from uptake.errors import ModelError
from uptake.models.rope import RopeTables

MOST_POSITIONS = 1 << 31


@dataclass(frozen=True)
class Limits:
    """Limits of what a model computes at once, in tokens; they change no number by more than rounding.

    `call` bounds a forward call without gradient, and `cache` the keys and values that a sampler holds.
    """

    call: int = 1 << 13
    cache: int = 1 << 16


@dataclass(frozen=True, eq=False)
class LanguageModel:
    """A model with its tokenizer, and how its trees are scored.

    `attention` is "tree" where the load-time self-check found tree attention exact, else "rows" (padded rows, slower,
    same numbers), with the reason in `note`. `rope` is there where rows of unlike length must not share a call, and
    `autocast` where products are computed in another precision than that of the weights. `model` may be wrapped by a
    PEFT adapter. `limits` are what fitted the memory when the model was loaded. `heads` are trainable modules beside
    the model, by name (a value head, say). `card` is what must be known of how it was trained, for whoever loads it
    again.
    """

    name: str
    model: nn.Module
    tokenizer: PreTrainedTokenizerBase
    attention: Literal["tree", "rows"] = "tree"
    note: str = ""
    rope: RopeTables | None = None
    autocast: torch.dtype | None = None
    limits: Limits = Limits()
    heads: Mapping[str, nn.Module] = field(default_factory=dict)
    card: Mapping[str, Any] = field(default_factory=dict)

    @property
    def base(self) -> PreTrainedModel:
        """The Transformers model itself, adapters injected, wrapper off."""
        model: Any = self.model
        base: PreTrainedModel = model.get_base_model() if hasattr(model, "get_base_model") else model
        return base

    @property
    def source(self) -> str:
        """The folder or Hub name that holds the base as it is; empty where its weights have changed or lie nowhere."""
        return self.base.name_or_path or ""

    @property
    def decoder(self) -> nn.Module:
        """The model without its vocabulary projection."""
        return self.base.base_model

    @property
    def head(self) -> nn.Module:
        """The vocabulary projection."""
        head: nn.Module | None = self.base.get_output_embeddings()
        if head is None:
            raise ModelError(f"{self.name}: the model has no vocabulary projection; a causal language model is needed")
        return head

    @property
    def config(self) -> Any:
        """The configuration of the text model."""
        return self.base.config.get_text_config(decoder=True)

    @property
    def device(self) -> torch.device:
        return self.base.device

    @property
    def dtype(self) -> torch.dtype:
        return self.base.dtype

    @property
    def compute_dtype(self) -> torch.dtype:
        """What its products are computed in; `dtype` is that of its weights."""
        return self.autocast or self.dtype

    def computing(self) -> AbstractContextManager[Any]:
        """The block in which the model is called."""
        return nullcontext() if self.autocast is None else torch.autocast(self.device.type, self.autocast)

    @property
    def vocabulary(self) -> int:
        """Rows of the vocabulary projection."""
        return int(self.config.vocab_size)

    @cached_property
    def tokens(self) -> int:
        """Rows up to the last that is a token of the tokenizer; many models have more, to make a rounder number."""
        return 1 + max(self.tokenizer.get_vocab().values())

    @property
    def end_ids(self) -> frozenset[int]:
        """The tokens that end a text, as its configurations name them: Llama 3 has three, its tokenizer knows one."""
        configs = (getattr(self.base, "generation_config", None), self.base.config, self.config)
        named = [getattr(each, "eos_token_id", None) for each in configs]
        ids = {id_ for each in named for id_ in (each if isinstance(each, list | tuple) else (each,))}
        return frozenset(id_ for id_ in ids if id_ is not None and 0 <= id_ < self.vocabulary)

    @property
    def window(self) -> int | None:
        """The longest sequence the model has positions for, in tokens; None where it has no limit.

        ModelError for a configuration that names more than can be counted.
        """
        size = getattr(self.config, "max_position_embeddings", None) or getattr(self.config, "n_positions", None)
        if size and not 0 < size < MOST_POSITIONS:
            raise ModelError(
                f"{self.name}: a window of {str(size)[:20]} positions (allowed: 1 to {MOST_POSITIONS - 1})"
            )
        return int(size) if size else None
