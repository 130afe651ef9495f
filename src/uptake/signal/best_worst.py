"""Pairs from several judged responses per prompt: the best against the worst."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

from uptake.errors import InputError
from uptake.signal import filters
from uptake.signal.filters import Candidate, MinedPair
from uptake.signal.length_residual import without_length
from uptake.signal.pair import pair_of
from uptake.signal.summary import summarize
from uptake.types import Dropped, Group, Judgement, RoundData


@dataclass(frozen=True)
class BestWorst:
    """For every prompt the response with the highest score against the one with the lowest.

    Dropped, in this order, each counted once: responses that are unfinished (unless `keep_unfinished`), have no valid
    judgement, are empty or repeat another's text; prompts with fewer than two responses left or with equal scores
    only; pairs with a margin below `min_margin`, with a longer response of more than `max_length_ratio` times the
    tokens of the shorter, with fewer than `min_category_agreement` of the categories on the side of the total, and
    last the share `min_margin_quantile` of all pairs left that has the smallest margins. Of equal scores, and of equal
    texts, the lowest sample number stands. With `length_residual`, scores and parts are what length leaves of them
    within a prompt (`signal.length_residual`). Raises `InputError` for a setting out of its range.
    Source: arXiv 2409.13948 contrasts most and least preferred responses; the filters are Uptake's.
    """

    min_margin: float = 0.0
    min_margin_quantile: float = 0.2
    max_length_ratio: float = 2.0
    min_category_agreement: float = 2 / 3
    keep_unfinished: bool = False
    length_residual: bool = False

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

    def __call__(self, groups: Sequence[Group], judgements: Sequence[Sequence[Judgement]]) -> RoundData:
        mined = self.mine(groups, judgements)
        return replace(mined, examples=tuple(each.pair for each in mined.examples))

    def mine(self, groups: Sequence[Group], judgements: Sequence[Sequence[Judgement]]) -> RoundData:
        """Mine all responses of a round, in any order: a `MinedPair` for an example.

        Groups of one prompt are taken together. Raises `InputError` unless there is a judgement for each response.
        """
        finished, cut = filters.apply(
            sorted(filters.candidates(groups, judgements), key=_order),
            {Dropped.UNFINISHED: list if self.keep_unfinished else filters.finished},
        )
        judged, unjudged = filters.judged(finished)
        usable, lost = filters.apply(judged, {Dropped.EMPTY: filters.nonempty, Dropped.DUPLICATE: filters.distinct})
        if self.length_residual:
            usable = without_length(usable, lambda each: each.rollout.prompt.key)
        by_prompt: dict[str, list[Candidate]] = {rollout.prompt.key: [] for group in groups for rollout in group}
        for each in usable:
            by_prompt[each.rollout.prompt.key].append(each)
        contests, undecided = filters.apply(
            list(by_prompt.values()),
            {Dropped.ONE_CANDIDATE: filters.at_least_two, Dropped.NO_CONTRAST: filters.with_contrast},
        )
        proposed = [_pair(contest) for contest in contests]
        pairs, refused = filters.apply(
            proposed,
            {
                Dropped.SMALL_MARGIN: partial(filters.above_margin, min_margin=self.min_margin),
                Dropped.LENGTH_RATIO: partial(filters.similar_length, max_ratio=self.max_length_ratio),
                Dropped.CATEGORY_AGREEMENT: partial(filters.agreeing, min_share=self.min_category_agreement),
                Dropped.MARGIN_QUANTILE: partial(filters.above_margin_quantile, quantile=self.min_margin_quantile),
            },
        )
        dropped = filters.added(cut, unjudged, lost, undecided, refused)
        samples = sum(map(len, groups))
        counts = {"prompts": len(by_prompt), "samples": samples, "pairs": len(pairs), "dropped": dropped}
        figures = summarize([each.pair for each in pairs], [each.margin_by_category for each in proposed])
        return RoundData(tuple(pairs), counts | figures)


def _order(candidate: Candidate) -> tuple[Any, ...]:
    """Ties go to the lowest sample number, not to a row's place or to the wording, neither of which should matter."""
    rollout = candidate.rollout
    return rollout.sample, rollout.version, rollout.source, rollout.response_ids


def _pair(contest: Sequence[Candidate]) -> MinedPair:
    best = max(contest, key=lambda each: each.judgement.score)
    worst = min(contest, key=lambda each: each.judgement.score)
    chosen, rejected = best.judgement.parts, worst.judgement.parts
    pair = pair_of(best.rollout, worst.rollout, best.judgement.score - worst.judgement.score)
    shared = {name: chosen[name] - rejected[name] for name in chosen if name in rejected}
    return MinedPair(pair, best.rollout, worst.rollout, shared)
