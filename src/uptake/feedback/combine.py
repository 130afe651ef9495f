"""From the log-probabilities of follow-ups to rewards: one per category and one in total."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import fsum, sqrt
from typing import Literal, NamedTuple, get_args

import torch
from jaxtyping import Float, Float64, Int
from torch import Tensor

from uptake.errors import InputError
from uptake.feedback.followup_set import Columns, FollowUpSet

Polarity = Literal["both", "negative_only", "positive_only"]
Standardize = Literal["none", "within_prompt"]


class Rewards(NamedTuple):
    """The rewards of some responses, in total and by the name of the category; float64, on the CPU."""

    total: Float64[Tensor, " rows"]
    by_category: Mapping[str, Float64[Tensor, " rows"]]


@dataclass(frozen=True)
class Combine:
    """Reward of a category: mean of its positives minus mean of its negatives; total: their mean by weight.

    An empty side counts 0, and so does the side that `polarity` leaves out. `standardize="within_prompt"` first turns
    each follow-up into its z-score (population standard deviation) among the responses to one prompt, 0 where there are
    fewer than two or all are equal. Every sum is rounded once, so no order of follow-ups, categories or rows shows in
    the result, and swapping positives and negatives negates it exactly. Raises `InputError` for an unknown option.
    Source: arXiv 2409.13948, whose own way of combining is not published; this one is Uptake's.
    """

    followups: FollowUpSet
    polarity: Polarity = "both"
    standardize: Standardize = "none"

    def __post_init__(self) -> None:
        if self.polarity not in get_args(Polarity):
            raise InputError(repr(self.polarity), field="polarity", allowed=", ".join(get_args(Polarity)))
        if self.standardize not in get_args(Standardize):
            raise InputError(repr(self.standardize), field="standardize", allowed=", ".join(get_args(Standardize)))

    def __call__(self, logps: Float[Tensor, "rows followups"], groups: Int[Tensor, " rows"] | None = None) -> Rewards:
        """Combine a row per response and a column per follow-up in the set's order, in nats, sums or means over tokens.

        `groups` numbers the prompt of every row; only standardizing needs it. Raises `InputError` for a table that does
        not fit the set and for groups that are missing or do not fit the table.
        """
        self._check(logps, groups)
        table = logps.detach().double().tolist()
        if self.standardize == "within_prompt" and groups is not None:
            table = _standardized(table, groups.tolist())
        columns = self.followups.columns
        contrasts = [[_contrast(row, each, self.polarity) for each in columns] for row in table]
        weights = [category.weight for category in self.followups.categories]
        total = [fsum(w * r for w, r in zip(weights, row, strict=True)) / fsum(weights) for row in contrasts]
        by_category = torch.tensor(contrasts, dtype=torch.float64).reshape(len(table), len(weights)).unbind(1)
        names = (category.name for category in self.followups.categories)
        return Rewards(torch.tensor(total, dtype=torch.float64), dict(zip(names, by_category, strict=True)))

    def _check(self, logps: Tensor, groups: Tensor | None) -> None:
        count = len(self.followups.sentences)
        if logps.ndim != 2 or logps.shape[1] != count:
            raise InputError(
                f"shape {tuple(logps.shape)}", field="logps", allowed=f"a column per follow-up: (*, {count})"
            )
        if not logps.isfinite().all():
            raise InputError("a log-probability that is not finite", field="logps", allowed="finite numbers")
        if self.standardize == "within_prompt" and (groups is None or groups.shape != logps.shape[:1]):
            raise InputError("no prompt for every row", field="groups", allowed="as many numbers as rows of logps")


def _contrast(row: Sequence[float], columns: Columns, polarity: Polarity) -> float:
    positive = 0.0 if polarity == "negative_only" else _mean(row[columns.positive])
    negative = 0.0 if polarity == "positive_only" else _mean(row[columns.negative])
    return positive - negative


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
