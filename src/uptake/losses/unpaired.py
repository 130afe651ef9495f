"""Unpaired preference losses, of single responses that are good or bad: one per response, unreduced."""

from dataclasses import dataclass
from math import inf
from typing import Protocol

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from uptake.errors import InputError

LogRatios = Float[Tensor, " responses"]


class UnpairedKernel(Protocol):
    """Unpaired loss of log-ratios of policy to reference, of which are good, and of the KL divergence in nats."""

    @property
    def beta(self) -> float: ...

    def __call__(self, ratio: LogRatios, good: Bool[Tensor, " responses"], kl: float) -> LogRatios: ...


def kto(ratio: LogRatios, good: Bool[Tensor, " responses"], kl: float, beta: float) -> LogRatios:
    """KTO loss, `1 - sigmoid(beta (h - z))` for good responses and `1 - sigmoid(beta (z - h))` for bad ones.

    `h` is the log-ratio and `z` the divergence `kl`. Bounded: a response far on either side gives no signal. Raises
    `InputError` for `beta <= 0`. Source: Ethayarajh et al. 2024 (arXiv 2402.01306).
    """
    _check("beta", beta)
    ahead = torch.where(good, ratio - kl, kl - ratio)
    return torch.sigmoid(-beta * ahead)


@dataclass(frozen=True)
class KTO:
    """KTO loss (`kto`) as a part, times `desirable_weight` for good responses and `undesirable_weight` for bad ones."""

    beta: float = 0.1
    desirable_weight: float = 1.0
    undesirable_weight: float = 1.0

    def __post_init__(self) -> None:
        for name in ("beta", "desirable_weight", "undesirable_weight"):
            _check(name, getattr(self, name))

    def __call__(self, ratio: LogRatios, good: Bool[Tensor, " responses"], kl: float) -> LogRatios:
        losses = kto(ratio, good, kl, self.beta)
        return torch.where(good, self.desirable_weight * losses, self.undesirable_weight * losses)


def _check(name: str, value: float) -> None:
    if not 0 < value < inf:
        raise InputError(f"{value}", field=name, allowed="a number above 0")
