"""Preference pairs from pairwise comparisons of two responses to a prompt, labeled by the annotator's probability."""

from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import sha256
from statistics import fmean
from typing import Any, Literal, get_args

from uptake.errors import InputError
from uptake.ops.verdicts import UNSURE, is_tie, order_gap, position_bias
from uptake.signal.as_given import Examples
from uptake.signal.summary import summarize
from uptake.types import Judgement, Pair, Rollout

Label = Literal["hard", "sampled", "soft"]


@dataclass(frozen=True)
class ComparisonPairs:
    """Every two consecutive rollouts become a pair; the score of each is the probability that it is the better one.

    `label` says what becomes of that probability p: "hard" prefers the likelier side, "sampled" draws the side with
    probability p, "soft" keeps p as the label of the pair. Hard labels have no finite optimum; sampled and soft ones
    have the same. An invalid judgement drops the pair under its reason, an even one under "tie" for hard labels.
    Raises InputError for an unknown label. Source: arXiv 2402.04792 (hard labels).
    """

    label: Label = "hard"
    seed: int = 0

    def __post_init__(self) -> None:
        if self.label not in get_args(Label):
            raise InputError(repr(self.label), field="label", allowed=", ".join(get_args(Label)))

    def __call__(self, rollouts: Sequence[Rollout], judgements: Sequence[Judgement]) -> Examples:
        judged = list(zip(rollouts[::2], rollouts[1::2], judgements[::2], strict=True))
        pairs: list[Pair] = []
        dropped: dict[str, int] = {}
        for first, second, judgement in judged:
            reason = self._unusable(judgement)
            if reason:
                dropped[reason] = dropped.get(reason, 0) + 1
            else:
                pairs.append(self._pair(first, second, judgement))
        counts = {"prompts": len(judged), "samples": len(rollouts), "pairs": len(pairs), "dropped": dropped}
        return Examples(tuple(pairs), counts | summarize(pairs, pairs) | _verdicts([each[2] for each in judged]))

    def _unusable(self, judgement: Judgement) -> str:
        if not judgement.valid:
            return judgement.reason or "invalid judgement"
        return "tie" if self.label == "hard" and is_tie(judgement.score) else ""

    def _pair(self, first: Rollout, second: Rollout, judgement: Judgement) -> Pair:
        p = judgement.score
        wins = self._draw(first, second) < p if self.label == "sampled" else p >= 0.5
        chosen, rejected = (first, second) if wins else (second, first)
        return Pair(chosen, rejected, abs(2 * p - 1), p=max(p, 1 - p) if self.label == "soft" else 1.0)

    def _draw(self, first: Rollout, second: Rollout) -> float:
        """A uniform number that depends on the two responses alone, so that a resumed run draws the same."""
        content = repr((self.seed, first.prompt.key, first.version, first.response_ids, second.response_ids))
        return int.from_bytes(sha256(content.encode()).digest()[:7], "big") / 2**56


def _verdicts(judgements: Sequence[Judgement]) -> dict[str, Any]:
    """How the annotator judged: what depends on the order it was shown, how often it was unsure, what it cost."""
    valid = [each for each in judgements if each.valid]
    orders = [(each.parts["shown_first"], each.parts["shown_second"]) for each in valid if "shown_first" in each.parts]
    return {
        "order_gap": fmean(order_gap(*each) for each in orders) if orders else None,
        "position_bias": fmean(position_bias(*each) for each in orders) if orders else None,
        "unsure": fmean(abs(each.score - 0.5) < UNSURE for each in valid) if valid else None,
        "annotator_tokens": int(sum(each.parts.get("tokens", 0.0) for each in judgements)),
        "annotator_cost": sum(each.parts.get("cost", 0.0) for each in judgements),
    }
