"""Preference pairs from pairwise comparisons of two responses to a prompt, labeled by the annotator's probability."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import sha256
from statistics import fmean
from typing import Any, Literal, get_args

from uptake.errors import InputError
from uptake.ops.verdicts import UNSURE, is_tie, order_gap, orders_agree, position_bias
from uptake.signal.pair import pair_of
from uptake.signal.summary import summarize
from uptake.types import Dropped, Group, Pair, Rollout, RoundData, Verdict

Label = Literal["hard", "sampled", "soft"]


@dataclass(frozen=True)
class ComparisonPairs:
    """Preference pairs of two responses each, from the verdict over them.

    `label` says what becomes of its probability p: "hard" prefers the likelier side, "sampled" draws the side with
    probability p, "soft" keeps p as the label of the pair. Hard labels have no finite optimum; sampled and soft ones
    have the same. Two equal responses are dropped, an invalid verdict drops the pair under its reason, and an even one
    under "tie" for hard labels.
    Raises InputError for an unknown label. Source: arXiv 2402.04792 (hard labels).
    """

    label: Label = "hard"
    seed: int = 0

    def __post_init__(self) -> None:
        if self.label not in get_args(Label):
            raise InputError(repr(self.label), field="label", allowed=", ".join(get_args(Label)))

    def __call__(self, groups: Sequence[Group], verdicts: Sequence[Verdict]) -> RoundData:
        pairs: list[Pair] = []
        dropped = Counter[Dropped]()
        for (first, second), verdict in zip(groups, verdicts, strict=True):
            equal = first.response_ids == second.response_ids
            reason = Dropped.EQUAL_RESPONSES if equal else verdict.reason or self._tie(verdict)
            if reason is None:
                pairs.append(self._pair(first, second, verdict.p))
            else:
                dropped[reason] += 1
        samples = sum(map(len, groups))
        counts = {"prompts": len(groups), "samples": samples, "pairs": len(pairs), "dropped": dict(dropped)}
        return RoundData(tuple(pairs), counts | summarize(pairs) | _verdicts(verdicts))

    def _tie(self, verdict: Verdict) -> Dropped | None:
        """A hard label has no side for a tie."""
        return Dropped.TIE if self.label == "hard" and is_tie(verdict.p) else None

    def _pair(self, first: Rollout, second: Rollout, p: float) -> Pair:
        wins = self._draw(first, second) < p if self.label == "sampled" else p >= 0.5
        chosen, rejected = (first, second) if wins else (second, first)
        return pair_of(chosen, rejected, abs(2 * p - 1), max(p, 1 - p) if self.label == "soft" else 1.0)

    def _draw(self, first: Rollout, second: Rollout) -> float:
        """A uniform number that depends on the two responses alone, so that a resumed run draws the same."""
        content = repr((self.seed, first.prompt.key, first.version, first.response_ids, second.response_ids))
        return int.from_bytes(sha256(content.encode()).digest()[:7], "big") / 2**56


def _verdicts(verdicts: Sequence[Verdict]) -> dict[str, Any]:
    """How the annotator judged: what depends on the order it was shown, how often it was unsure, what it cost."""
    valid = [each for each in verdicts if each.valid]
    told = [each for each in valid if each.by_order != (0.5, 0.5)]
    return {
        "orders_agree": float(fmean(orders_agree(*each.by_order) for each in told)) if told else None,
        "order_gap": fmean(order_gap(*each.by_order) for each in valid) if valid else None,
        "position_bias": fmean(position_bias(*each.by_order) for each in valid) if valid else None,
        "unsure": fmean(abs(each.p - 0.5) < UNSURE for each in valid) if valid else None,
        "annotator_tokens": sum(each.tokens for each in verdicts),
        "annotator_cost": sum(each.cost for each in verdicts),
    }
