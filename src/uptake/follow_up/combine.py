"""From the log-probabilities of follow-ups to rewards: one per category and one in total."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from math import exp, fsum, sqrt
from typing import Literal, NamedTuple, get_args

import torch
from jaxtyping import Float, Float64, Int
from torch import Tensor

from uptake.errors import InputError
from uptake.follow_up.set import Columns, FollowUpSet

Polarity = Literal["both", "negative_only", "positive_only"]
Standardize = Literal["none", "within_prompt"]
RewardForm = Literal["contrast", "full", "fed"]

# exp(-l) of anything lower is beyond a floating-point number.
LEAST = -700


class CombinedRewards(NamedTuple):
    """The rewards of some responses, in total and by the name of the category; float64, on the CPU."""

    total: Float64[Tensor, " rows"]
    by_category: Mapping[str, Float64[Tensor, " rows"]]


@dataclass(frozen=True)
class Combine:
    """From the follow-ups of a category to its reward, by `form`, and from there to the total.

    | form | reward of a category | total | source |
    |---|---|---|---|
    | `contrast` | mean of positives minus mean of negatives | mean of categories by weight | arXiv 2409.13948 |
    | `fed` | sum of positives minus sum of negatives | mean of categories by weight | arXiv 2006.12719 |
    | `full` | mean over negatives of exp(-l); positives do not count | mean over all negatives | arXiv 2209.05185 |

    In `full` a negative has the weight of its category. How 2409.13948 combines follow-ups is not published; `contrast`
    is Uptake's way. An empty side counts 0, and so does the side that `polarity` leaves out. Where follow-ups have
    weights of their own, a follow-up's l (in `full` its exp(-l)) is multiplied by its weight before sum or mean.
    `standardize="within_prompt"` first turns each follow-up into its z-score (population standard deviation) among the
    responses to one prompt, 0 where there are fewer than two or all are equal. Every sum is rounded once, so no order
    of follow-ups, categories or rows shows in the result, and swapping positives and negatives negates `contrast` and
    `fed` exactly. Raises `InputError` for an unknown option, and for `full` without negatives.
    """

    followups: FollowUpSet
    polarity: Polarity = "both"
    standardize: Standardize = "none"
    form: RewardForm = "contrast"

    def __post_init__(self) -> None:
        for name, known in (("polarity", Polarity), ("standardize", Standardize), ("form", RewardForm)):
            if getattr(self, name) not in get_args(known):
                raise InputError(repr(getattr(self, name)), field=name, allowed=", ".join(get_args(known)))
        if self.form == "full" and (self.polarity == "positive_only" or not any(self._weights)):
            raise InputError("no negatives to score by", field="form", allowed="full, of a set with negatives")

    def __call__(
        self, logps: Float[Tensor, "rows followups"], groups: Int[Tensor, " rows"] | None = None
    ) -> CombinedRewards:
        """Combine a row per response and a column per follow-up in the set's order, in nats, sums or means over tokens.

        `groups` numbers the prompt of every row; only standardizing needs it. Raises `InputError` for a table that does
        not fit the set and for groups that are missing or do not fit the table.
        """
        self._check(logps, groups)
        table = logps.detach().double().tolist()
        if self.standardize == "within_prompt" and groups is not None:
            table = _standardized(table, groups.tolist())
        if self.form == "full":
            table = [[exp(-logp) for logp in row] for row in table]
        table = [[count * value for count, value in zip(self._counts, row, strict=True)] for row in table]
        rewards = [[self._category(row, each) for each in self._columns] for row in table]
        weights = self._weights
        total = [fsum(w * r for w, r in zip(weights, row, strict=True)) / fsum(weights) for row in rewards]
        by_category = torch.tensor(rewards, dtype=torch.float64).reshape(len(table), len(weights)).unbind(1)
        names = (category.name for category in self.followups.categories)
        return CombinedRewards(torch.tensor(total, dtype=torch.float64), dict(zip(names, by_category, strict=True)))

    @cached_property
    def _counts(self) -> tuple[float, ...]:
        """What every follow-up counts."""
        return self.followups.weights

    @cached_property
    def _columns(self) -> tuple[Columns, ...]:
        return self.followups.columns

    @cached_property
    def _weights(self) -> list[float]:
        """What every category weighs in the total."""
        if self.form == "full":
            return [category.weight * len(category.negative) for category in self.followups.categories]
        return [category.weight for category in self.followups.categories]

    def _category(self, row: Sequence[float], columns: Columns) -> float:
        positive, negative = row[columns.positive], row[columns.negative]
        if self.form == "full":
            return _mean(negative)
        side = fsum if self.form == "fed" else _mean
        left = 0.0 if self.polarity == "negative_only" else side(positive)
        return left - (0.0 if self.polarity == "positive_only" else side(negative))

    def _check(self, logps: Tensor, groups: Tensor | None) -> None:
        count = len(self._counts)
        if logps.ndim != 2 or logps.shape[1] != count:
            raise InputError(
                f"shape {tuple(logps.shape)}", field="logps", allowed=f"a column per follow-up: (*, {count})"
            )
        if not logps.isfinite().all():
            raise InputError("a log-probability that is not finite", field="logps", allowed="finite numbers")
        if self.form == "full" and bool((logps < LEAST).any()):
            raise InputError("a perplexity beyond floating point", field="logps", allowed=f"means from {LEAST} nats up")
        if self.standardize == "within_prompt" and (groups is None or groups.shape != logps.shape[:1]):
            raise InputError("no prompt for every row", field="groups", allowed="as many numbers as rows of logps")


def _mean(values: Sequence[float]) -> float:
    return fsum(values) / len(values) if values else 0.0


def _standardized(table: Sequence[Sequence[float]], groups: Sequence[int]) -> list[list[float]]:
    members: dict[int, list[int]] = {}
    for row, group in enumerate(groups):
        members.setdefault(group, []).append(row)
    result: list[list[float]] = [[] for _ in table]
    for rows in members.values():
        for column in zip(*(table[row] for row in rows), strict=True):
            for row, score in zip(rows, _z_scores(column), strict=True):
                result[row].append(score)
    return result


def _z_scores(values: Sequence[float]) -> list[float]:
    # Equality, not a deviation of 0: the mean of equal numbers can be off by a rounding, which would come out as +-1.
    if min(values) == max(values):
        return [0.0] * len(values)
    center = _mean(values)
    spread = sqrt(_mean([(value - center) ** 2 for value in values]))
    return [(value - center) / spread for value in values]
