"""Good and bad examples from judged responses, each by its own score: two thresholds with nothing in between."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal, get_args

import numpy as np
from numpy.typing import NDArray

from uptake.errors import InputError
from uptake.signal import filters
from uptake.signal.length_residual import residuals
from uptake.support.token_ids import compact
from uptake.types import Dropped, Group, Judgement, Labeled, RoundData

ThresholdUnit = Literal["score", "quantile"]


@dataclass(frozen=True)
class Thresholds:
    """Responses that score `high` or more are good, `low` or less bad; those between are left out and counted.

    Needs no second response to a prompt, but scores that mean the same from prompt to prompt. `threshold_unit` says
    whether `low` and `high` are scores or quantiles of the usable scores of a round; where both quantiles are the same
    score, nothing is labeled. Dropped first, in this order, each counted once: responses that are unfinished (unless
    `keep_unfinished`) or have no valid judgement. With `length_residual`, scores are what length leaves of them over
    the whole round (`signal.length_residual`). Raises InputError unless `low` is below `high` and, as quantiles,
    both are from 0 to 1.
    """

    low: float
    high: float
    threshold_unit: ThresholdUnit = "score"
    keep_unfinished: bool = False
    length_residual: bool = False

    def __post_init__(self) -> None:
        if self.threshold_unit not in get_args(ThresholdUnit):
            allowed = ", ".join(get_args(ThresholdUnit))
            raise InputError(repr(self.threshold_unit), field="threshold_unit", allowed=allowed)
        if not self.low < self.high:
            raise InputError(f"{self.low}", field="low", allowed=f"a number below high, which is {self.high}")
        if self.threshold_unit == "quantile" and not (self.low >= 0 and self.high <= 1):
            name = "low" if self.low < 0 else "high"
            raise InputError(f"{getattr(self, name)}", field=name, allowed="a quantile from 0 to 1")

    def __call__(self, groups: Sequence[Group], judgements: Sequence[Sequence[Judgement]]) -> RoundData:
        labeled = self.label(groups, judgements)
        examples = ((compact(each.prompt_ids), compact(each.response_ids), good) for each, good in labeled.examples)
        return replace(labeled, examples=tuple(Labeled(*each) for each in examples))

    def label(self, groups: Sequence[Group], judgements: Sequence[Sequence[Judgement]]) -> RoundData:
        """Label all responses of a round: a rollout, and whether it is good, for an example."""
        finished, cut = filters.apply(
            filters.candidates(groups, judgements),
            {Dropped.UNFINISHED: list if self.keep_unfinished else filters.finished},
        )
        usable, unjudged = filters.judged(finished)
        scores, lengths = (
            np.array(column, dtype=np.float64)
            for column in ([each.judgement.score for each in usable], [len(each.rollout.response) for each in usable])
        )
        sides = self.sides(scores, lengths)
        found = zip(usable, sides.clear.tolist(), sides.good.tolist(), strict=True)
        examples = tuple((each.rollout, good) for each, clear, good in found if clear)
        between = {Dropped.BETWEEN_THRESHOLDS: len(usable) - len(examples)}
        good = sum(good for _, good in examples)
        prompts = {rollout.prompt.key for group in groups for rollout in group}
        counts = {"prompts": len(prompts), "samples": sum(map(len, groups))}
        labels = {"low": sides.low, "high": sides.high, "good": good, "bad": len(examples) - good}
        return RoundData(examples, {**counts, **labels, "dropped": filters.added(cut, unjudged, between)})

    def sides(self, scores: NDArray[np.float64], lengths: NDArray[np.float64]) -> "Sides":
        """The sides of the thresholds on which the usable scores of a round lie, from their responses' lengths too."""
        if self.length_residual and len(scores):
            scores = residuals(scores, lengths, np.zeros(len(scores), dtype=np.int64))
        low, high = self.low, self.high
        if self.threshold_unit == "quantile" and len(scores):
            low, high = np.quantile(scores, (low, high)).tolist()
        outside = (scores <= low) | (scores >= high)
        return Sides(low, high, outside if low < high else np.zeros_like(outside), scores >= high)


@dataclass(frozen=True)
class Sides:
    """Scores beside two thresholds, which are scores too: whether each is `clear` of both, and whether it is `good`."""

    low: float
    high: float
    clear: NDArray[np.bool_]
    good: NDArray[np.bool_]
