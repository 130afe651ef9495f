"""Preference pairs of ranked responses, labeled by how far their scores are apart."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from math import exp

from uptake.signal.pair import pair_of
from uptake.signal.summary import summarize
from uptake.types import Dropped, Group, Judgement, Pair, RoundData


@dataclass(frozen=True)
class RankedPairs:
    """Preference pairs of the responses to a prompt by rank: best with worst, second best with second worst, inward.

    Scores are log-odds, so the label of a pair is the logistic function of their difference. Of equal scores the
    earlier response ranks higher. Invalid judgements are dropped under their reason, pairs of equal responses too.
    """

    def __call__(self, groups: Sequence[Group], judgements: Sequence[Sequence[Judgement]]) -> RoundData:
        pairs: list[Pair] = []
        dropped = Counter(each.reason for judged in judgements for each in judged if each.reason)
        for group, judged in zip(groups, judgements, strict=True):
            valid = [(each.score, rollout) for each, rollout in zip(judged, group, strict=True) if each.valid]
            ranked = sorted(valid, key=lambda each: -each[0])
            for (high, better), (low, worse) in zip(ranked[: len(ranked) // 2], reversed(ranked), strict=False):
                if better.response_ids == worse.response_ids:
                    dropped[Dropped.EQUAL_RESPONSES] += 1
                else:
                    pairs.append(pair_of(better, worse, high - low, 1 / (1 + exp(low - high))))
        samples = sum(map(len, groups))
        counts = {"prompts": len(groups), "samples": samples, "pairs": len(pairs), "dropped": dict(dropped)}
        return RoundData(tuple(pairs), counts | summarize(pairs))
