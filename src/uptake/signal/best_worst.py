"""Pairs from several judged responses per prompt: the best against the worst."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from uptake.errors import InputError
from uptake.signal import filters
from uptake.signal.filters import Candidate
from uptake.signal.summary import summarize
from uptake.types import Judgement, Pair, Rollout


@dataclass(frozen=True)
class Mined:
    """Pairs, at most one per prompt, with the count of everything that was dropped and figures that go into the log."""

    pairs: tuple[Pair, ...]
    dropped: Mapping[str, int]
    summary: Mapping[str, Any]

    @property
    def examples(self) -> tuple[Pair, ...]:
        """The pairs, by the name under which every signal hands over its training examples."""
        return self.pairs


@dataclass(frozen=True)
class BestWorst:
    """For every prompt the response with the highest score against the one with the lowest.

    Dropped, in this order, each counted once: responses that are unfinished (unless `keep_unfinished`), have no valid
    judgement, are empty or repeat another's text; prompts with fewer than two responses left or with equal scores
    only; pairs with a margin below `min_margin`, with a longer response of more than `max_length_ratio` times the
    tokens of the shorter, with fewer than `min_category_agreement` of the categories on the side of the total, and
    last the share `min_margin_quantile` of all pairs left that has the smallest margins. Of equal scores, and of equal
    texts, the lowest sample number stands. Raises `InputError` for a setting out of its range.
    Source: arXiv 2409.13948 contrasts most and least preferred responses; the filters are Uptake's.
    """

    min_margin: float = 0.0
    min_margin_quantile: float = 0.2
    max_length_ratio: float = 2.0
    min_category_agreement: float = 2 / 3
    keep_unfinished: bool = False

    def __post_init__(self) -> None:
        ranges = {
            "min_margin": (self.min_margin >= 0, "a number from 0 up"),
            "min_margin_quantile": (0 <= self.min_margin_quantile < 1, "a number from 0 to below 1"),
            "max_length_ratio": (self.max_length_ratio >= 1, "a number from 1 up"),
            "min_category_agreement": (0 <= self.min_category_agreement <= 1, "a number from 0 to 1"),
        }
        for name, (fits, allowed) in ranges.items():
            if not fits:
                raise InputError(f"{getattr(self, name)}", field=name, allowed=allowed)

    def __call__(self, rollouts: Sequence[Rollout], judgements: Sequence[Judgement]) -> Mined:
        """Mine all rollouts of a round, in any order; raises `InputError` unless there is a judgement for each."""
        candidates, lost = filters.apply(
            _candidates(rollouts, judgements),
            {
                "unfinished": list if self.keep_unfinished else filters.finished,
                "invalid judgement": filters.valid,
                "empty": filters.nonempty,
                "duplicate": filters.distinct,
            },
        )
        groups: dict[str, list[Candidate]] = {rollout.prompt.key: [] for rollout in rollouts}
        for each in candidates:
            groups[each.rollout.prompt.key].append(each)
        contests, undecided = filters.apply(
            list(groups.values()),
            {"fewer than two candidates": filters.at_least_two, "no contrast": filters.with_contrast},
        )
        proposed = [_pair(group) for group in contests]
        pairs, refused = filters.apply(
            proposed,
            {
                "below margin": partial(filters.above_margin, min_margin=self.min_margin),
                "length ratio": partial(filters.similar_length, max_ratio=self.max_length_ratio),
                "category agreement": partial(filters.agreeing, min_share=self.min_category_agreement),
                "below margin quantile": partial(filters.above_margin_quantile, quantile=self.min_margin_quantile),
            },
        )
        dropped = lost | undecided | refused
        counts = {"prompts": len(groups), "samples": len(rollouts), "pairs": len(pairs), "dropped": dropped}
        return Mined(tuple(pairs), dropped, counts | summarize(pairs, proposed))


def _candidates(rollouts: Sequence[Rollout], judgements: Sequence[Judgement]) -> list[Candidate]:
    if len(rollouts) != len(judgements):
        raise InputError(f"{len(judgements)} judgements of {len(rollouts)} rollouts", allowed="one for each, in order")
    both = map(Candidate, rollouts, judgements)
    # Ties go to the lowest sample number, not to a row's place or to the wording, neither of which should matter.
    return sorted(both, key=lambda c: (c.rollout.sample, c.rollout.version, c.rollout.source, c.rollout.response_ids))


def _pair(group: Sequence[Candidate]) -> Pair:
    best = max(group, key=lambda each: each.judgement.score)
    worst = min(group, key=lambda each: each.judgement.score)
    shared = [name for name in best.judgement.parts if name in worst.judgement.parts]
    parts = {name: best.judgement.parts[name] - worst.judgement.parts[name] for name in shared}
    return Pair(best.rollout, worst.rollout, best.judgement.score - worst.judgement.score, parts)
