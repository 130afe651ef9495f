"""How far a policy is from its reference: estimators by sample, the exact sum over a vocabulary, and its control.

With `d = log pi(y) - log pi_ref(y)` of a token y drawn from pi, k1 and k3 have the expectation KL(pi || pi_ref).
Source of k1, k2, k3: Schulman 2020, Approximating KL divergence.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from math import inf
from typing import Literal, get_args

from jaxtyping import Float
from torch import Tensor

from uptake.errors import InputError

Estimator = Literal["k1", "k2", "k3", "full"]
Logps = Float[Tensor, "*places vocabulary"]


def k1(d: Tensor) -> Tensor:
    """`d`: unbiased, and negative for some tokens."""
    return d


def k2(d: Tensor) -> Tensor:
    """`d^2 / 2`: biased, never negative."""
    return d**2 / 2


def k3(d: Tensor) -> Tensor:
    """`exp(-d) - 1 + d`: unbiased and never negative."""
    return (-d).exp() - 1 + d


ESTIMATORS: Mapping[str, Callable[[Tensor], Tensor]] = {"k1": k1, "k2": k2, "k3": k3}


def full_kl(policy: Logps, reference: Logps) -> Float[Tensor, "*places"]:
    """`sum_v pi(v) (log pi(v) - log pi_ref(v))`: exact, from the log-probabilities of the whole vocabulary."""
    return (policy.exp() * (policy - reference)).sum(-1)


def adapt(beta: float, kl: float, target: float, horizon: float, samples: int) -> float:
    """The next coefficient: `beta (1 + clip(kl / target - 1, -0.2, 0.2) samples / horizon)`.

    `kl` and `target` are in one unit, a sum per response or a mean per token. Source: Ziegler et al. 2019 (arXiv
    1909.08593), section 2.2.
    """
    error = min(max(kl / target - 1, -0.2), 0.2)
    return beta * (1 + error * samples / horizon)


@dataclass(frozen=True)
class Leash:
    """What drifting from the reference costs a token, `beta k_t`, and how `beta` follows the divergence.

    Without `target` beta is fixed. `unit` says what the target means: "sum" per response, or "mean" per token. Raises
    InputError for a setting out of its range.
    """

    beta: float = 0.05
    estimator: Estimator = "k1"
    target: float | None = None
    horizon: float = 10_000
    unit: Literal["sum", "mean"] = "sum"

    def __post_init__(self) -> None:
        for name, known in (("estimator", get_args(Estimator)), ("unit", ("sum", "mean"))):
            if getattr(self, name) not in known:
                raise InputError(repr(getattr(self, name)), field=name, allowed=", ".join(known))
        positive = {"target": self.target, "horizon": self.horizon}
        for name, value in positive.items():
            if value is not None and not 0 < value < inf:
                raise InputError(f"{value}", field=name, allowed="a number above 0")
        if not 0 <= self.beta < inf:
            raise InputError(f"{self.beta}", field="beta", allowed="a number from 0 up")

    def next(self, beta: float, kl: Mapping[str, float], samples: int) -> float:
        """The coefficient of the next round, from the divergence of this one by unit."""
        return beta if self.target is None else adapt(beta, kl[self.unit], self.target, self.horizon, samples)
