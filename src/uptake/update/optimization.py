"""Optimization settings: optimizer, learning-rate schedule, clipping, precision, batch."""

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, get_args

import torch
from torch import nn

from uptake.errors import InputError, ModelError
from uptake.models.upcast import HALVES
from uptake.support.options import OptimizerName, Precision, Schedule

# Tokens of a micro-batch beyond which none is faster.
MOST = 1 << 13


@dataclass(frozen=True)
class Optimization:
    """The settings of the update.

    `batch_size` examples make one optimizer step whatever the memory: they are cut into micro-batches of at most
    `micro_tokens` distinct tokens, by default as many as a run finds to fit; an example is never cut. With `recompute`
    the backward pass computes every layer anew, which costs a third of the time and keeps little of it in memory. The
    learning rate rises linearly over `warmup` (a share of all steps below 1, a number of steps from 1 on, of which a
    run takes no more than the share `warmup_cap` of its steps) and then follows `schedule`. `precision` "bf16" computes
    in bfloat16 under autocast and keeps weights, log-softmax and optimizer in fp32. Modules beside the policy learn at
    `module_lr`, on the same schedule and clipped by themselves, where it is given; else they are one group with the
    policy.
    """

    lr: float
    batch_size: int = 64
    epochs: int = 1
    warmup: float = 0.1
    warmup_cap: float | None = 0.1
    schedule: Schedule = "cosine"
    optimizer: OptimizerName = "adamw"
    betas: tuple[float, float] = (0.9, 0.999)
    weight_decay: float = 0.0
    clip: float | None = 1.0
    precision: Precision = "fp32"
    micro_tokens: int | None = None
    recompute: bool = False
    eps: float = 1e-8
    module_lr: float | None = None

    def __post_init__(self) -> None:
        for name, low in (("lr", 0.0), ("warmup", 0.0), ("weight_decay", 0.0)):
            if not (math.isfinite(getattr(self, name)) and getattr(self, name) >= low):
                raise InputError(f"{getattr(self, name)}", field=name, allowed=f"a number from {low:g} up")
        if not self.eps > 0:
            raise InputError(f"{self.eps}", field="eps", allowed="a number above 0")
        if self.module_lr is not None and not (self.lr > 0 and 0 < self.module_lr < math.inf):
            raise InputError(f"{self.module_lr}", field="module_lr", allowed="a number above 0, beside an lr above 0")
        for name in ("batch_size", "epochs", "micro_tokens"):
            if getattr(self, name) is not None and getattr(self, name) < 1:
                raise InputError(f"{getattr(self, name)}", field=name, allowed="a whole number from 1 up")
        for name in ("clip", "warmup_cap"):
            if getattr(self, name) is not None and not getattr(self, name) > 0:
                raise InputError(f"{getattr(self, name)}", field=name, allowed="a number above 0, or null for none")

        for name, known in (("schedule", Schedule), ("optimizer", OptimizerName), ("precision", Precision)):
            if getattr(self, name) not in get_args(known):
                raise InputError(f"{getattr(self, name)!r}", field=name, allowed=", ".join(get_args(known)))

    @property
    def budget(self) -> int:
        """Distinct tokens of a micro-batch."""
        return MOST if self.micro_tokens is None else self.micro_tokens

    def warmup_steps(self, total: int) -> float:
        """Length of the warm-up in a run of `total` steps; a number of steps stays below `warmup_cap`, rounded up."""
        if self.warmup < 1:
            return self.warmup * total
        return self.warmup if self.warmup_cap is None else min(self.warmup, math.ceil(self.warmup_cap * total))

    def rate(self, step: int, total: int) -> float:
        """The learning rate of optimizer step `step` (from 0) of `total`."""
        warmup = self.warmup_steps(total)
        if step < warmup:
            return self.lr * (step + 1) / (math.ceil(warmup) + 1)
        progress = (step - warmup) / max(1.0, total - warmup)
        if self.schedule == "linear":
            return self.lr * (1 - progress)
        if self.schedule == "cosine":
            return self.lr * 0.5 * (1 + math.cos(math.pi * progress))
        return self.lr


def build_optimizer(
    settings: Optimization,
    weights: Iterable[nn.Parameter],
    modules: Iterable[nn.Parameter] = (),
    others: Iterable[Iterable[nn.Parameter]] = (),
) -> torch.optim.Optimizer:
    """The optimizer over the policy's weights and those of modules beside it; rates are set anew at every step.

    `others` are the weights of further members of an ensemble, each clipped by themselves. Raises ModelError for
    weights in half precision, in whose rounding most of a step would be lost.
    """
    policy_weights, beside, apart = list(weights), list(modules), [list(member) for member in others]
    for weight in (*policy_weights, *beside, *(weight for member in apart for weight in member)):
        if weight.dtype in HALVES:
            problem = f"trained weights in {str(weight.dtype).removeprefix('torch.')} lose most of a step to rounding"
            raise ModelError(f"{problem} (allowed: fp32, as uptake.load(..., fp32_weights=True) gives them)")
    more: list[dict[str, Any]] = [{"params": member} for member in apart]
    if settings.module_lr is None or not beside:
        return _optimizer(settings, [{"params": policy_weights + beside}, *more])
    share = {"lr": settings.module_lr, "share": settings.module_lr / settings.lr}
    return _optimizer(settings, [{"params": policy_weights}, *more, {"params": beside, **share}])


def set_rate(optimizer: torch.optim.Optimizer, rate: float) -> None:
    """Set the learning rate of the next step; a group with a share gets that many times the rate."""
    for group in optimizer.param_groups:
        group["lr"] = rate * group.get("share", 1)


def _optimizer(settings: Optimization, groups: list[dict[str, Any]]) -> torch.optim.Optimizer:
    if settings.optimizer == "rmsprop":
        return torch.optim.RMSprop(groups, lr=settings.lr, eps=settings.eps, weight_decay=settings.weight_decay)
    if settings.optimizer == "adafactor":
        return torch.optim.Adafactor(groups, lr=settings.lr, weight_decay=settings.weight_decay)
    return torch.optim.AdamW(
        groups,
        lr=settings.lr,
        betas=settings.betas,
        eps=settings.eps,
        weight_decay=settings.weight_decay,
        fused=True,
    )
