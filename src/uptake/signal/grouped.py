"""Groups of judged responses as they are, those to one prompt together: examples for a loss of rewards."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import chain
from math import isfinite
from statistics import fmean
from typing import Literal

from uptake.data.where import bad_row
from uptake.types import Dropped, Group, Judgement, Rollout, RoundData


@dataclass(frozen=True)
class Grouped:
    """Groups of all responses to a prompt that can be learned from, with their rewards, as one example each.

    An invalid judgement drops its response under the judge's reason, a response without a token under "empty", and one
    that was cut off under "unfinished" where `keep_unfinished` is false. With `level` "token" every response needs one
    value a token, with "sequence" such values are left out. Raises InputError, naming the row, for values that are too
    few, too many or not finite.
    """

    level: Literal["sequence", "token"] = "sequence"
    keep_unfinished: bool = True

    def __call__(self, sampled: Sequence[Group], judgements: Sequence[Sequence[Judgement]]) -> RoundData:
        groups: dict[str, list[tuple[Rollout, Judgement]]] = {}
        dropped: Counter[Dropped] = Counter()
        for rollout, judgement in zip(chain(*sampled), chain(*judgements), strict=True):
            reason = self._unusable(rollout, judgement)
            if reason:
                dropped[reason] += 1
            else:
                self._check(rollout, judgement)
                leveled = judgement if self.level == "token" else replace(judgement, tokens=())
                groups.setdefault(rollout.prompt.key, []).append((rollout, leveled))
        examples = tuple(map(tuple, groups.values()))
        pairs = [pair for group in groups.values() for pair in group]
        figures = {
            "mean_score": fmean(judgement.score for _, judgement in pairs) if pairs else None,
            "mean_length": fmean(len(rollout.response_ids) for rollout, _ in pairs) if pairs else None,
        }
        counts = {
            "prompts": len(groups),
            "samples": sum(map(len, sampled)),
            "kept": len(pairs),
            "dropped": dict(dropped),
        }
        return RoundData(examples, counts | figures)

    def _unusable(self, rollout: Rollout, judgement: Judgement) -> Dropped | None:
        if not judgement.valid:
            return judgement.reason
        if not rollout.response_ids:
            return Dropped.EMPTY
        return None if rollout.finished or self.keep_unfinished else Dropped.UNFINISHED

    def _check(self, rollout: Rollout, judgement: Judgement) -> None:
        values = judgement.tokens if self.level == "token" else (judgement.score,)
        wanted = len(rollout.response_ids) if self.level == "token" else 1
        at = f"sample {rollout.sample} of prompt {rollout.prompt.key}"
        if len(values) != wanted:
            problem = f"{at}: {len(values)} rewards for {wanted} tokens"
            raise bad_row(problem, rollout.prompt.where, field="tokens", allowed="one for every token of the response")
        if not all(map(isfinite, values)):
            bad = next(value for value in values if not isfinite(value))
            raise bad_row(f"{at}: a reward of {bad}", rollout.prompt.where, field="reward", allowed="finite numbers")
