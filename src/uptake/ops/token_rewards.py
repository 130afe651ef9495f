"""What a policy is paid for every token: the judge's word, centered, scaled and clipped, less its drift, and an end.

    r~_t = clip(kappa (r_t - mu [y_t is no end])) - beta k_t + [t is last] (w R + b [unfinished])

Rows are responses, padded on the right.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from math import sqrt
from typing import Literal, Self, get_args

import torch
from jaxtyping import Bool, Shaped
from torch import Tensor

from uptake.errors import InputError
from uptake.ops.advantages import Mask, Table

Rows = Shaped[Tensor, " rows"]
Credit = Literal["token", "end", "uniform"]

# Sums that vary less than this are not scaled: nothing can be read from their spread.
LEAST_SPREAD = 1e-6


@dataclass(frozen=True)
class Judged:
    """What a judge says of some responses: `tokens` one by one, `scores` as a whole, and which are `finished`."""

    tokens: Table
    scores: Rows
    finished: Bool[Tensor, " rows"]
    mask: Mask

    @property
    def ends(self) -> Mask:
        """The last token of every finished response."""
        return at_last(self.finished, self.mask)


@dataclass(frozen=True)
class Components:
    """The parts of a token's pay; they add up to `total`."""

    judged: Table
    drift: Table
    end: Table

    @property
    def total(self) -> Table:
        return self.judged + self.drift + self.end


@dataclass(frozen=True)
class Spread:
    """Mean and squared deviations of all sums so far, by Welford's recurrence: a running standard deviation."""

    count: float = 0.0
    mean: float = 0.0
    squares: float = 0.0

    @classmethod
    def of(cls, memory: Mapping[str, float]) -> Self:
        return cls(*(memory.get(f"sum_{name}", 0.0) for name in ("count", "mean", "squares")))

    def memory(self) -> dict[str, float]:
        return {"sum_count": self.count, "sum_mean": self.mean, "sum_squares": self.squares}

    def including(self, sums: Rows) -> "Spread":
        more, mean = float(len(sums)), float(sums.mean())
        count, step = self.count + more, mean - self.mean
        squares = self.squares + float(((sums - mean) ** 2).sum()) + step**2 * self.count * more / count
        return Spread(count, self.mean + step * more / count, squares)

    @property
    def deviation(self) -> float:
        """The standard deviation (biased) of all sums so far."""
        return sqrt(self.squares / self.count) if self.count else 0.0


def center_of(rewards: Table, mask: Mask, ends: Mask) -> float:
    """The mean reward of all tokens that do not end a response; 0 where there is none."""
    kept = rewards[mask & ~ends]
    return float(kept.mean()) if len(kept) else 0.0


def centered(rewards: Table, mask: Mask, ends: Mask, center: float) -> Table:
    """Rewards less the center; a token that ends a response keeps its own, so that stopping costs and earns nothing."""
    return torch.where(mask & ~ends, rewards - center, torch.where(mask, rewards, torch.zeros_like(rewards)))


def credited(rewards: Table, mask: Mask, credit: Credit) -> Table:
    """The same sum in every row, paid where `credit` says: by token, all at the last, or to all tokens alike."""
    if credit == "token":
        return rewards
    total = rewards.sum(1)
    if credit == "end":
        return at_last(total, mask)
    return torch.where(mask, (total / mask.sum(1))[:, None], torch.zeros_like(rewards))


def at_last(values: Rows, mask: Mask) -> Shaped[Tensor, "rows tokens"]:
    """A value for every row, at its last token."""
    last = mask.sum(1) - 1
    table = torch.zeros(mask.shape, dtype=values.dtype, device=values.device)
    return table.scatter(1, last[:, None], values[:, None])


def end_rewards(
    scores: Rows, finished: Bool[Tensor, " rows"], weight: float, penalty: float, *, replace: bool = False
) -> Rows:
    """`w R`, less `penalty` for a response that was cut off; with `replace`, that one gets minus `penalty` alone."""
    paid = weight * scores
    return torch.where(finished, paid, (torch.zeros_like(paid) if replace else paid) - penalty)


@dataclass(frozen=True)
class Pay:
    """The judge's part of the pay, before any drift; `figures` say how it was made, `memory` goes to the next round."""

    judged: Table
    end: Table
    figures: Mapping[str, float]
    memory: Mapping[str, float]


@dataclass(frozen=True)
class Shaping:
    """How a judge's word becomes pay.

    `center` "batch_non_eos" takes the mean over all other tokens of the round from every token but an end; "none"
    leaves an incentive for the length. `scale` "running_std_sum" divides by the running deviation of the sum over a
    response, times `kappa`. Then `clip` bounds a token, and `credit` says where the sum is paid. `weight` is that of
    the score of the whole response, less the mean score of the first round with `center_scores`. A response that was
    cut off pays `penalty` at its last token, or with `replace` has that for its score. Raises InputError for a setting
    that is unknown or out of its range.
    """

    weight: float = 0.0
    center_scores: bool = False
    center: Literal["batch_non_eos", "none"] = "batch_non_eos"
    scale: Literal["running_std_sum", "none"] = "running_std_sum"
    kappa: float = 1.0
    clip: float | None = 5.0
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
        if self.clip is not None and not self.clip > 0:
            raise InputError(f"{self.clip}", field="clip", allowed="a number above 0, or null for none")

    def __call__(self, given: Judged, memory: Mapping[str, float]) -> Pay:
        mask = given.mask
        mu = center_of(given.tokens, mask, given.ends) if self.center == "batch_non_eos" else 0.0
        level = centered(given.tokens, mask, given.ends, mu)
        spread = Spread.of(memory).including(level.sum(1))
        scaled = self.scale == "running_std_sum" and spread.deviation > LEAST_SPREAD
        kappa = self.kappa / spread.deviation if scaled else self.kappa
        paid = kappa * level
        clipped = paid if self.clip is None else paid.clamp(-self.clip, self.clip)
        first = memory.get("first_score", float(given.scores.mean()))
        scores = given.scores - first if self.center_scores else given.scores
        end = end_rewards(scores, given.finished, self.weight, self.penalty, replace=self.replace)
        figures = {"mu": mu, "kappa": kappa, "clipped_tokens": float((clipped != paid)[mask].float().mean())}
        return Pay(
            credited(clipped, mask, self.credit), at_last(end, mask), figures, spread.memory() | {"first_score": first}
        )
