"""KL divergence of a policy from its reference: estimators by sample, the exact sum, and the penalty in the reward.

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
from uptake.ops.axes import TokenTable

Estimator = Literal["k1", "k2", "k3", "full"]
# The largest relative error of the divergence that the controller answers to.
CLIP = 0.2

Logps = Float[Tensor, "*places vocabulary"]


def k1(d: Tensor) -> Tensor:
    """KL estimator `d`: unbiased, and negative for some tokens."""
    return d


def k2(d: Tensor) -> Tensor:
    """KL estimator `d^2 / 2`: biased, never negative."""
    return d**2 / 2


def k3(d: Tensor) -> Tensor:
    """KL estimator `exp(-d) - 1 + d`: unbiased and never negative."""
    return (-d).exp() - 1 + d


ESTIMATORS: Mapping[str, Callable[[Tensor], Tensor]] = {"k1": k1, "k2": k2, "k3": k3}


def full_kl(policy: Logps, reference: Logps) -> Float[Tensor, "*places"]:
    """KL divergence `sum_v pi(v) (log pi(v) - log pi_ref(v))`, exact, from those of the whole vocabulary."""
    return (policy.exp() * (policy - reference)).sum(-1)


def shortest_horizon(samples: int) -> float:
    """Horizon of the controller at which a round of so many samples can take the whole coefficient away."""
    return CLIP * samples


def adaptive_beta(beta: float, kl: float, target: float, horizon: float, samples: int) -> float:
    """KL coefficient of the next round: `beta (1 + clip(kl / target - 1, -0.2, 0.2) samples / horizon)`.

    `kl` and `target` are in one unit, a sum per response or a mean per token. Source: Ziegler et al. 2019 (arXiv
    1909.08593), section 2.2. Raises InputError for a horizon that is no longer than a fifth of the samples: the
    coefficient would fall to 0, or below it, where divergence is paid for.
    """
    if horizon <= (shortest := shortest_horizon(samples)):
        problem = f"{horizon:g}, with {samples} samples a round"
        raise InputError(problem, field="horizon", allowed=f"a number above {shortest:g}")
    error = min(max(kl / target - 1, -CLIP), CLIP)
    return beta * (1 + error * samples / horizon)


@dataclass(frozen=True)
class KLPenalty:
    """KL penalty in the reward, `-beta k_t` at every token, and its controller: how `beta` follows the divergence.

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

    def next_beta(self, beta: float, kl: TokenTable, samples: int, tokens: int) -> float:
        """KL coefficient of the next round, from this one's and its divergence at every token, 0 in the padding."""
        if self.target is None:
            return beta
        found = float(kl.sum()) / (samples if self.unit == "sum" else tokens)
        return adaptive_beta(beta, found, self.target, self.horizon, samples)
