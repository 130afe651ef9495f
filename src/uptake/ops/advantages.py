"""Advantages and value targets of response tokens, whitening, and the explained variance of a critic."""

from typing import Literal

import torch

from uptake.ops.axes import PerResponse, PerToken, ResponseMask, TokenTable

# How advantages are whitened: not at all, or by a variance that divides by their number N, or by N - 1.
Whitening = Literal["none", "population", "sample"]

# Added to a variance before its root is taken, so that equal values give zeros.
TINY = 1e-8


def gae(
    rewards: TokenTable,
    values: TokenTable,
    mask: ResponseMask,
    gamma: float,
    lam: float,
    after: PerResponse | None = None,
) -> TokenTable:
    """Generalized advantage estimates: `A_t = sum_l (gamma lam)^l (r_t+l + gamma V_t+l+1 - V_t+l)`; 0 outside the mask.

    `values[:, t]` is the value before token t. `after` is the value after a row's last token, 0 where none is given: a
    response ends there. Source: Schulman et al. 2016 (arXiv 1506.02438).
    """
    following = torch.zeros_like(values[:, 0]) if after is None else after
    ahead = torch.zeros_like(following)
    found = torch.zeros_like(values)
    for t in reversed(range(values.shape[1])):
        here = mask[:, t]
        delta = rewards[:, t] + gamma * following - values[:, t]
        # A row that is not there yet carries nothing but the value after its end.
        ahead = torch.where(here, delta + gamma * lam * ahead, ahead)
        following = torch.where(here, values[:, t], following)
        found[:, t] = torch.where(here, ahead, found[:, t])
    return found


def value_targets(
    rewards: TokenTable,
    values: TokenTable,
    mask: ResponseMask,
    gamma: float,
    lam: float,
    after: PerResponse | None = None,
) -> TokenTable:
    """Lambda-returns, the targets of a critic: `gae` plus the value; 0 outside the mask."""
    return torch.where(mask, gae(rewards, values, mask, gamma, lam, after) + values, torch.zeros_like(values))


def whiten(advantages: TokenTable, mask: ResponseMask, variance: Whitening = "sample") -> TokenTable:
    """Whitened advantages: zero mean and unit variance over the places of the mask, 0 elsewhere; "none" leaves them.

    The "population" variance divides by their number N, the "sample" variance by N - 1, as those of trl and verl do;
    of a single one both are 0.
    """
    if variance == "none":
        return advantages
    values = advantages[mask]
    correction = int(variance == "sample" and len(values) > 1)
    scale = (values.var(correction=correction) + TINY).rsqrt()
    return torch.where(mask, (advantages - values.mean()) * scale, torch.zeros_like(advantages))


def explained_variance(values: PerToken, returns: PerToken) -> float:
    """Explained variance of a critic, `1 - Var(returns - values) / Var(returns)`: 1 is perfect, 0 as a constant.

    It is 0 for equal returns.
    """
    spread = float(returns.var(correction=0))
    return 1 - float((returns - values).var(correction=0)) / spread if spread > 0 else 0.0
