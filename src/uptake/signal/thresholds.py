"""Good and bad examples from judged responses, each by its own score: two thresholds with nothing in between."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Literal, get_args

import numpy as np

from uptake.errors import InputError
from uptake.signal import filters
from uptake.signal.filters import Candidate
from uptake.signal.length_residual import without_length
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
        if self.length_residual:
            usable = without_length(usable, lambda each: None)
        low, high = self._levels([each.judgement.score for each in usable])
        clear, between = filters.apply(usable, {Dropped.BETWEEN_THRESHOLDS: partial(_outside, low=low, high=high)})
        examples = tuple((rollout, judgement.score >= high) for rollout, judgement in clear)
        good = sum(good for _, good in examples)
        prompts = {rollout.prompt.key for group in groups for rollout in group}
        counts = {"prompts": len(prompts), "samples": sum(map(len, groups))}
        labels = {"low": low, "high": high, "good": good, "bad": len(examples) - good}
        return RoundData(examples, {**counts, **labels, "dropped": filters.added(cut, unjudged, between)})

    def _levels(self, scores: Sequence[float]) -> tuple[float, float]:
        """The thresholds as scores."""
        if self.threshold_unit == "score" or not scores:
            return self.low, self.high
        low, high = np.quantile(scores, (self.low, self.high)).tolist()
        return low, high


def _outside(candidates: Sequence[Candidate], low: float, high: float) -> list[Candidate]:
    return [each for each in candidates if low < high and not low < each.judgement.score < high]
