"""Filters between judged responses and pairs: one small filter per reason, and the count of each.

No filter looks at the order of rows. A threshold is kept where it is met exactly.
"""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from itertools import chain
from math import isfinite
from statistics import fmean
from typing import NamedTuple, TypeVar

from uptake.errors import InputError
from uptake.support.keys import prompt_key
from uptake.types import Dropped, Group, Judgement, Pair, Rollout, Turn

T = TypeVar("T")


class Candidate(NamedTuple):
    """A response with what the judge says of it."""

    rollout: Rollout
    judgement: Judgement


class MinedPair(NamedTuple):
    """A pair with the responses it was made of, and by how much each category prefers the chosen one."""

    pair: Pair
    chosen: Rollout
    rejected: Rollout
    margin_by_category: Mapping[str, float]


def candidates(groups: Sequence[Group], judgements: Sequence[Sequence[Judgement]]) -> list[Candidate]:
    """All responses with their judgements, in order; InputError unless there is a judgement for each."""
    rollouts = [rollout for group in groups for rollout in group]
    judged = [judgement for group in judgements for judgement in group]
    if list(map(len, groups)) != list(map(len, judgements)):
        raise InputError(f"{len(judged)} judgements of {len(rollouts)} rollouts", allowed="one for each, in order")
    return list(map(Candidate, rollouts, judged))


def apply(
    items: Sequence[T], filters: Mapping[Dropped, Callable[[Sequence[T]], list[T]]]
) -> tuple[list[T], dict[Dropped, int]]:
    """Apply `filters` in their order; return what is left and how many items each one dropped.

    What several filters would drop counts for the first of them.
    """
    left, dropped = list(items), {}
    for reason, keep in filters.items():
        before = len(left)
        left = keep(left)
        dropped[reason] = before - len(left)
    return left, dropped


def added(*counts: Mapping[T, int]) -> dict[T, int]:
    """Counts of several steps together, in their order; a step that dropped nothing says so."""
    reasons = dict.fromkeys(chain(*counts))
    return {reason: sum(each.get(reason, 0) for each in counts) for reason in reasons}


def finished(candidates: Sequence[Candidate]) -> list[Candidate]:
    """Those that ended with a stop token."""
    return [each for each in candidates if each.rollout.finished]


def judged(candidates: Sequence[Candidate]) -> tuple[list[Candidate], dict[Dropped, int]]:
    """Those with a valid judgement, whose score is a finite number, and how many have none, by the judge's reason."""
    found, dropped = list[Candidate](), Counter[Dropped]()
    for each in candidates:
        reason = each.judgement.reason or (None if isfinite(each.judgement.score) else Dropped.NOT_FINITE)
        if reason is None:
            found.append(each)
        else:
            dropped[reason] += 1
    return found, dict(dropped)


def nonempty(candidates: Sequence[Candidate]) -> list[Candidate]:
    """Those that say anything at all."""
    return [each for each in candidates if each.rollout.response.strip() or "tool_calls" in each.rollout.fields]


def distinct(candidates: Sequence[Candidate]) -> list[Candidate]:
    """The first of those with equal prompt and equal response."""
    first: dict[tuple[str, str], Candidate] = {}
    for each in candidates:
        response = Turn("assistant", each.rollout.response, each.rollout.fields)
        first.setdefault((each.rollout.prompt.key, prompt_key((response,))), each)
    return list(first.values())


def at_least_two(groups: Sequence[list[Candidate]]) -> list[list[Candidate]]:
    """Prompts with at least two candidates."""
    return [group for group in groups if len(group) >= 2]


def with_contrast(groups: Sequence[list[Candidate]]) -> list[list[Candidate]]:
    """Prompts whose candidates do not all score the same."""
    return [group for group in groups if len({each.judgement.score for each in group}) > 1]


def above_margin(pairs: Sequence[MinedPair], min_margin: float) -> list[MinedPair]:
    """Pairs with a margin of at least `min_margin`."""
    return [each for each in pairs if each.pair.margin >= min_margin]


def similar_length(pairs: Sequence[MinedPair], max_ratio: float) -> list[MinedPair]:
    """Pairs whose longer response has at most `max_ratio` times the tokens of the shorter, whichever is chosen."""
    lengths = [sorted((len(each.pair.chosen_ids), len(each.pair.rejected_ids))) for each in pairs]
    # A quotient, not a product: 63 / 45 is 1.4 to the last bit, while 1.4 * 45 falls short of 63.
    return [each for each, (short, long) in zip(pairs, lengths, strict=True) if long / max(short, 1) <= max_ratio]


def agreeing(pairs: Sequence[MinedPair], min_share: float) -> list[MinedPair]:
    """Pairs whose chosen response scores higher in at least `min_share` of the categories, or that have none."""
    return [
        each
        for each in pairs
        if not each.margin_by_category or fmean(part > 0 for part in each.margin_by_category.values()) >= min_share
    ]


def above_margin_quantile(pairs: Sequence[MinedPair], quantile: float) -> list[MinedPair]:
    """Pairs but for the share `quantile` with the smallest margins, rounded down; equal margins share their fate."""
    if not pairs:
        return []
    margins = sorted(each.pair.margin for each in pairs)
    return above_margin(pairs, margins[int(quantile * len(margins))])
