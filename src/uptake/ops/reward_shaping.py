"""Shaped rewards of response tokens: a reward model's, centered, scaled and clipped, a KL penalty, and an end reward.

    r~_t = clip(kappa (r_t - mu [y_t is no end])) - beta k_t + [t is last] (w R - penalty [unfinished])

Rows are responses, padded on the right; `ends` marks the last token of every finished one.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from math import inf, sqrt
from typing import Literal, get_args

import torch
from jaxtyping import Bool, Shaped
from torch import Tensor

from uptake.errors import InputError
from uptake.ops.axes import PerResponse, ResponseMask, TokenTable

Credit = Literal["token", "end", "uniform"]

# Sums that vary less than this are not scaled: nothing can be read from their spread.
LEAST_STD = 1e-6


def at_last_token(values: PerResponse, mask: ResponseMask) -> Shaped[Tensor, "responses columns"]:
    """Table with a value for every response, at its last token; 0 elsewhere."""
    last = mask.sum(1) - 1
    table = torch.zeros(mask.shape, dtype=values.dtype, device=values.device)
    return table.scatter(1, last[:, None], values[:, None])


def reward_mean(rewards: TokenTable, mask: ResponseMask, ends: ResponseMask) -> float:
    """Mean reward of all tokens that do not end a response; 0 where there is none."""
    plain = rewards[mask & ~ends]
    return float(plain.mean()) if len(plain) else 0.0


def center_rewards(rewards: TokenTable, mask: ResponseMask, ends: ResponseMask, center: float) -> TokenTable:
    """Rewards less the center; a token that ends a response keeps its own, so that stopping costs and earns nothing."""
    return torch.where(mask & ~ends, rewards - center, torch.where(mask, rewards, torch.zeros_like(rewards)))


def assign_credit(rewards: TokenTable, mask: ResponseMask, credit: Credit) -> TokenTable:
    """Rewards of the same sum in every row: by "token", all at the last ("end"), or to all tokens alike ("uniform")."""
    if credit == "token":
        return rewards
    total = rewards.sum(1)
    if credit == "end":
        return at_last_token(total, mask)
    return torch.where(mask, (total / mask.sum(1))[:, None], torch.zeros_like(rewards))


def end_rewards(
    scores: PerResponse, finished: Bool[Tensor, " responses"], weight: float, penalty: float, *, replace: bool = False
) -> PerResponse:
    """End rewards `w R`, less `penalty` for a response that was cut off; with `replace`, that one's is `-penalty`."""
    weighted = weight * scores
    return torch.where(finished, weighted, (torch.zeros_like(weighted) if replace else weighted) - penalty)


def running_moments(memory: Mapping[str, float], sums: PerResponse) -> dict[str, float]:
    """Running count, mean and summed squared deviations of all sums so far, by Welford's recurrence over rounds."""
    count, mean, squares = (memory.get(f"sum_{name}", 0.0) for name in ("count", "mean", "squares"))
    more, center = float(len(sums)), float(sums.mean())
    total, step = count + more, center - mean
    spread = squares + float(((sums - center) ** 2).sum()) + step**2 * count * more / total
    return {"sum_count": total, "sum_mean": mean + step * more / total, "sum_squares": spread}


def running_std(memory: Mapping[str, float]) -> float:
    """Running standard deviation of `running_moments`; it divides by their number."""
    return sqrt(memory["sum_squares"] / memory["sum_count"])


@dataclass(frozen=True)
class RewardShaping:
    """Reward shaping: how token rewards and scores of whole responses become rewards to learn from.

    `center` "batch_non_eos" takes the mean over all other tokens of the round from every token but an end; "none"
    leaves an incentive for the length. `scale` "running_std_sum" divides by the running deviation of the sum over a
    response, times `kappa`. Then `clip_reward` bounds a token, and `credit` says where the sum stands. `weight` is that
    of the score of the whole response, less the mean score of the first round with `center_scores`. A response that was
    cut off loses `penalty` at its last token, or with `replace` has that for its score. Raises InputError for a setting
    that is unknown or out of its range.
    """

    weight: float = 0.0
    center_scores: bool = False
    center: Literal["batch_non_eos", "none"] = "batch_non_eos"
    scale: Literal["running_std_sum", "none"] = "running_std_sum"
    kappa: float = 1.0
    clip_reward: float | None = 5.0
    credit: Credit = "token"
    penalty: float = 1.0
    replace: bool = False

    def __post_init__(self) -> None:
        choices = {
            "center": ("batch_non_eos", "none"),
            "scale": ("running_std_sum", "none"),
            "credit": get_args(Credit),
        }
        for name, known in choices.items():
            if getattr(self, name) not in known:
                raise InputError(repr(getattr(self, name)), field=name, allowed=", ".join(known))
        if self.clip_reward is not None and not self.clip_reward > 0:
            raise InputError(f"{self.clip_reward}", field="clip_reward", allowed="a number above 0, or null for none")

    def statistics(
        self,
        rewards: TokenTable,
        scores: PerResponse,
        mask: ResponseMask,
        ends: ResponseMask,
        memory: Mapping[str, float],
    ) -> dict[str, float]:
        """Center, scale, running moments and share of clipped tokens of a round; `memory` is the last round's."""
        mu = reward_mean(rewards, mask, ends) if self.center == "batch_non_eos" else 0.0
        centered = center_rewards(rewards, mask, ends, mu)
        moments = running_moments(memory, centered.sum(1))
        std = running_std(moments)
        kappa = self.kappa / std if self.scale == "running_std_sum" and std > LEAST_STD else self.kappa
        beyond = (kappa * centered).abs() > (inf if self.clip_reward is None else self.clip_reward)
        first_score = memory.get("first_score", float(scores.mean()))
        clipped = float(beyond[mask].float().mean())
        return {"mu": mu, "kappa": kappa, "clipped_tokens": clipped, "first_score": first_score, **moments}

    def token_part(
        self, rewards: TokenTable, mask: ResponseMask, ends: ResponseMask, statistics: Mapping[str, float]
    ) -> TokenTable:
        """Shaped token rewards: centered, scaled, clipped, and placed by `credit`."""
        scaled = statistics["kappa"] * center_rewards(rewards, mask, ends, statistics["mu"])
        clipped = scaled if self.clip_reward is None else scaled.clamp(-self.clip_reward, self.clip_reward)
        return assign_credit(clipped, mask, self.credit)

    def end_part(
        self,
        scores: PerResponse,
        finished: Bool[Tensor, " responses"],
        mask: ResponseMask,
        statistics: Mapping[str, float],
    ) -> TokenTable:
        """End rewards at the last tokens, from the score of the whole response and for an end that is missing."""
        level = scores - statistics["first_score"] if self.center_scores else scores
        return at_last_token(end_rewards(level, finished, self.weight, self.penalty, replace=self.replace), mask)
