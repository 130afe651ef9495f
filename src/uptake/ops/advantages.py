"""Advantages and returns of responses, token by token; rows are responses, padded on the right."""

import torch
from jaxtyping import Bool, Float
from torch import Tensor

Table = Float[Tensor, "rows tokens"]
Mask = Bool[Tensor, "rows tokens"]

# Added to a variance before its root is taken, so that equal values give zeros.
TINY = 1e-8


def gae(
    rewards: Table,
    values: Table,
    mask: Mask,
    gamma: float,
    lam: float,
    after: Float[Tensor, " rows"] | None = None,
) -> Table:
    """Generalized advantage estimates: `A_t = sum_l (gamma lam)^l (r_t+l + gamma V_t+l+1 - V_t+l)`; 0 outside the mask.

    `values[:, t]` is the value before token t. `after` is the value after a row's last token, 0 where none is given: a
    response ends there. Source: Schulman et al. 2016 (arXiv 1506.02438).
    """
    following = torch.zeros_like(values[:, 0]) if after is None else after
    ahead = torch.zeros_like(following)
    found = torch.zeros_like(values)
    for t in reversed(range(values.shape[1])):
        own = mask[:, t]
        delta = rewards[:, t] + gamma * following - values[:, t]
        # A row that is not there yet carries nothing but the value after its end.
        ahead = torch.where(own, delta + gamma * lam * ahead, ahead)
        following = torch.where(own, values[:, t], following)
        found[:, t] = torch.where(own, ahead, found[:, t])
    return found


def whiten(table: Table, mask: Mask) -> Table:
    """Zero mean and unit (biased) variance over the places of the mask, 0 elsewhere."""
    kept = table[mask]
    return torch.where(mask, (table - kept.mean()) * (kept.var(correction=0) + TINY).rsqrt(), torch.zeros_like(table))


def explained_variance(values: Float[Tensor, " tokens"], returns: Float[Tensor, " tokens"]) -> float:
    """`1 - Var(returns - values) / Var(returns)`: 1 for a perfect critic, 0 for a constant one; 0 for equal returns."""
    spread = float(returns.var(correction=0))
    return 1 - float((returns - values).var(correction=0)) / spread if spread > 0 else 0.0
