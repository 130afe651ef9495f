"""Token-level losses of a head's outputs against labels from -1 (wrong) to 1 (better), one per token, unreduced.

A kernel says what its head's output is worth as a reward, too. `SquaredError` and `SoftCrossEntropy` are least at the
same rewards: the mean label of a token in its place.
"""

from dataclasses import dataclass
from typing import ClassVar, Protocol

import torch
from jaxtyping import Bool, Float
from torch import Tensor
from torch.nn.functional import binary_cross_entropy_with_logits

from uptake.ops.axes import PerToken


class TokenKernel(Protocol):
    """Token-level loss of outputs and labels; `counted` are those it learns from, `logit` is what an output means."""

    @property
    def logit(self) -> bool:
        """Whether outputs are log-odds of a good token, instead of rewards."""
        ...

    def __call__(self, outputs: PerToken, labels: PerToken) -> PerToken: ...

    def counted(self, labels: PerToken) -> Bool[Tensor, " tokens"]: ...


def squared_error(outputs: PerToken, labels: PerToken) -> PerToken:
    """Squared error `(r - g)^2`."""
    return (outputs - labels) ** 2


def soft_cross_entropy(outputs: PerToken, labels: PerToken) -> PerToken:
    """Cross-entropy of log-odds `d` with the target `(g + 1) / 2`, so that a kept token is good with probability 1/2.

    Equal to a softmax over two logits whose difference is `d`. Source: Yoon et al. 2024 (arXiv 2407.16574).
    """
    return binary_cross_entropy_with_logits(outputs, (labels + 1) / 2, reduction="none")


def token_rewards(outputs: Float[Tensor, "*tokens"], logit: bool) -> Float[Tensor, "*tokens"]:
    """Token rewards of outputs: themselves, or `2 p(good) - 1 = tanh(d / 2)` of log-odds `d`."""
    return torch.tanh(outputs / 2) if logit else outputs


@dataclass(frozen=True)
class SquaredError:
    """Squared error (`squared_error`) as a part."""

    logit: ClassVar[bool] = False

    def __call__(self, outputs: PerToken, labels: PerToken) -> PerToken:
        return squared_error(outputs, labels)

    def counted(self, labels: PerToken) -> Bool[Tensor, " tokens"]:
        return torch.ones_like(labels, dtype=torch.bool)


@dataclass(frozen=True)
class CrossEntropy:
    """Cross-entropy (`soft_cross_entropy`) as a part; where it is `hard`, tokens with the label 0 do not count."""

    hard: bool = False
    logit: ClassVar[bool] = True

    def __call__(self, outputs: PerToken, labels: PerToken) -> PerToken:
        return soft_cross_entropy(outputs, labels)

    def counted(self, labels: PerToken) -> Bool[Tensor, " tokens"]:
        return labels != 0 if self.hard else torch.ones_like(labels, dtype=torch.bool)
