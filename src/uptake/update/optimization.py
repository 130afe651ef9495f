"""How weights move: optimizer, learning-rate schedule, clipping, precision, batch."""

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal, get_args

import torch
from torch import nn

from uptake.errors import InputError

Schedule = Literal["constant", "linear", "cosine"]
Kind = Literal["adamw", "rmsprop", "adafactor"]
Precision = Literal["fp32", "bf16"]


@dataclass(frozen=True)
class Optimization:
    """The settings of the update.

    `batch_size` examples make one optimizer step whatever the memory: they are cut into micro-batches of at most
    `micro_tokens` distinct tokens. The learning rate rises linearly over `warmup` (a share of all steps below 1, a
    number of steps from 1 on) and then follows `schedule`. `precision` "bf16" computes in bfloat16 under autocast and
    keeps weights, log-softmax and optimizer in fp32.
    """

    lr: float
    batch_size: int = 64
    epochs: int = 1
    warmup: float = 0.1
    schedule: Schedule = "cosine"
    optimizer: Kind = "adamw"
    betas: tuple[float, float] = (0.9, 0.999)
    weight_decay: float = 0.0
    clip: float | None = 1.0
    precision: Precision = "fp32"
    micro_tokens: int = 8192

    def __post_init__(self) -> None:
        for name, low in (("lr", 0.0), ("warmup", 0.0), ("weight_decay", 0.0)):
            if not (math.isfinite(getattr(self, name)) and getattr(self, name) >= low):
                raise InputError(f"{getattr(self, name)}", field=name, allowed=f"a number from {low:g} up")
        for name in ("batch_size", "epochs", "micro_tokens"):
            if getattr(self, name) < 1:
                raise InputError(f"{getattr(self, name)}", field=name, allowed="a whole number from 1 up")
        if self.clip is not None and not self.clip > 0:
            raise InputError(f"{self.clip}", field="clip", allowed="a number above 0, or null for none")

        for name, known in (("schedule", Schedule), ("optimizer", Kind), ("precision", Precision)):
            if getattr(self, name) not in get_args(known):
                raise InputError(f"{getattr(self, name)!r}", field=name, allowed=", ".join(get_args(known)))

    def rate(self, step: int, total: int) -> float:
        """The learning rate of optimizer step `step` (from 0) of `total`."""
        warmup = self.warmup if self.warmup >= 1 else self.warmup * total
        if step < warmup:
            return self.lr * (step + 1) / (math.ceil(warmup) + 1)
        progress = (step - warmup) / max(1.0, total - warmup)
        if self.schedule == "linear":
            return self.lr * (1 - progress)
        if self.schedule == "cosine":
            return self.lr * 0.5 * (1 + math.cos(math.pi * progress))
        return self.lr


def build_optimizer(settings: Optimization, weights: Iterable[nn.Parameter]) -> torch.optim.Optimizer:
    """The optimizer over the given weights; its learning rate is set anew at every step."""
    kept = list(weights)
    if settings.optimizer == "rmsprop":
        return torch.optim.RMSprop(kept, lr=settings.lr, weight_decay=settings.weight_decay)
    if settings.optimizer == "adafactor":
        return torch.optim.Adafactor(kept, lr=settings.lr, weight_decay=settings.weight_decay)
    return torch.optim.AdamW(kept, lr=settings.lr, betas=settings.betas, weight_decay=settings.weight_decay, fused=True)
