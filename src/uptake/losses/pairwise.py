"""Losses on the margin of a pair: how much more the policy prefers the better response than its reference does.

The margin `h` is the log-ratio of policy to reference of the chosen response minus that of the rejected one, in nats.
Every kernel is a formula (a function) and a part of a recipe (a frozen dataclass that calls it). Losses come one per
pair, unreduced.
"""

from collections.abc import Callable
from dataclasses import dataclass
from math import inf
from typing import ClassVar, Literal, Protocol, get_args

from torch import Tensor
from torch.nn.functional import logsigmoid

from uptake.errors import InputError
from uptake.ops.axes import PerPair

Normalize = Literal["sum", "token_mean"]


class PairKernel(Protocol):
    """A loss of the margin; `normalize` says whether log-ratios are summed over a response's tokens or averaged."""

    @property
    def beta(self) -> float: ...

    @property
    def normalize(self) -> Normalize: ...

    def __call__(self, margin: PerPair) -> PerPair: ...


def soft_label(kernel: Callable[[PerPair], PerPair], margin: PerPair, p: float | PerPair) -> PerPair:
    """`p l(h) + (1 - p) l(-h)`: the loss expected when the chosen response is the better one with probability `p`.

    Source: Mitchell 2023, A note on DPO with noisy preferences.
    """
    return p * kernel(margin) + (1 - p) * kernel(-margin)


def logistic(margin: PerPair, beta: float, label_smoothing: float | PerPair = 0.0) -> PerPair:
    """DPO, `-log sigmoid(beta h)`; with `label_smoothing` e, per run or per pair, conservative DPO.

    Conservative DPO stops at `h = log((1 - e) / e) / beta`. Raises `InputError` for `beta <= 0` and for a number of
    label smoothing outside [0, 0.5); a tensor is taken as it is, because looking would stall a GPU.
    Source: Rafailov et al. 2023 (arXiv 2305.18290), eq. 7; Mitchell 2023.
    """
    _check(beta, 0.0 if isinstance(label_smoothing, Tensor) else label_smoothing)
    return soft_label(lambda h: -logsigmoid(beta * h), margin, 1 - label_smoothing)


def robust(margin: PerPair, beta: float, label_smoothing: float) -> PerPair:
    """Robust DPO, `((1 - e) l(h) - e l(-h)) / (1 - 2e)`: the DPO loss, unbiased when a share `e` of labels is flipped.

    Differs from conservative DPO: it is unbounded below, so it runs away on separable pairs. Raises `InputError` for
    `beta <= 0` and for `label_smoothing` outside [0, 0.5). Source: Chowdhury et al. 2024 (arXiv 2403.00409).
    """
    _check(beta, label_smoothing)
    plain, flipped = -logsigmoid(beta * margin), -logsigmoid(-beta * margin)
    return ((1 - label_smoothing) * plain - label_smoothing * flipped) / (1 - 2 * label_smoothing)


def ipo(margin: PerPair, beta: float) -> PerPair:
    """Identity PO, `(h - 1 / (2 beta))^2`; the paper calls `beta` tau. Raises `InputError` for `beta <= 0`.

    The same `beta` means very different strengths for summed and token-mean margins: at equal length T the token mean
    equals the sum with `beta / T`, over `T^2`. Source: Azar et al. 2023 (arXiv 2310.12036).
    """
    _check(beta)
    return (margin - 1 / (2 * beta)) ** 2


def hinge(margin: PerPair, beta: float) -> PerPair:
    """SLiC's hinge on log-ratios, `max(0, 1 - beta h)`; no signal from `h = 1 / beta` on.

    Raises `InputError` for `beta <= 0`. Source: Zhao et al. 2023 (arXiv 2305.10425), normalized by the reference.
    """
    _check(beta)
    return (1 - beta * margin).relu()


@dataclass(frozen=True)
class Logistic:
    """`logistic` as a part: DPO, and conservative DPO with `label_smoothing` above 0."""

    beta: float = 0.1
    label_smoothing: float = 0.0
    normalize: ClassVar[Normalize] = "sum"

    def __post_init__(self) -> None:
        _check(self.beta, self.label_smoothing)

    def __call__(self, margin: PerPair) -> PerPair:
        return logistic(margin, self.beta, self.label_smoothing)


@dataclass(frozen=True)
class Robust:
    """`robust` as a part: robust DPO."""

    beta: float = 0.1
    label_smoothing: float = 0.1
    normalize: ClassVar[Normalize] = "sum"

    def __post_init__(self) -> None:
        _check(self.beta, self.label_smoothing)

    def __call__(self, margin: PerPair) -> PerPair:
        return robust(margin, self.beta, self.label_smoothing)


@dataclass(frozen=True)
class IPO:
    """`ipo` as a part, on margins of sums or of token means: the published codes disagree, so the choice is printed."""

    beta: float = 0.1
    normalize: Normalize = "sum"

    def __post_init__(self) -> None:
        _check(self.beta)
        if self.normalize not in get_args(Normalize):
            raise InputError(repr(self.normalize), field="normalize", allowed=", ".join(get_args(Normalize)))

    def __call__(self, margin: PerPair) -> PerPair:
        return ipo(margin, self.beta)


@dataclass(frozen=True)
class Hinge:
    """`hinge` as a part: SLiC without its cross-entropy term."""

    beta: float = 0.1
    normalize: ClassVar[Normalize] = "sum"

    def __post_init__(self) -> None:
        _check(self.beta)

    def __call__(self, margin: PerPair) -> PerPair:
        return hinge(margin, self.beta)


def _check(beta: float, label_smoothing: float = 0.0) -> None:
    if not 0 < beta < inf:
        raise InputError(f"{beta}", field="beta", allowed="a number above 0")
    if not 0 <= label_smoothing < 0.5:
        raise InputError(f"{label_smoothing}", field="label_smoothing", allowed="a number from 0 to below 0.5")
