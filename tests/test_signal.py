"""Best against worst: pairs by hand, every filter at its boundary, and what must not matter."""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from math import inf, nan
from random import Random
from typing import Any

import pytest

from uptake.errors import InputError
from uptake.signal import BestWorst, MinedPair
from uptake.types import Dropped, Group, Judgement, Prompt, Rollout, RoundData, Turn

OPEN = BestWorst(min_margin_quantile=0.0, max_length_ratio=inf, min_category_agreement=0.0)
Rows = tuple[list[Rollout], list[Judgement]]
Groups = tuple[list[Group], list[tuple[Judgement, ...]]]


def rollout(prompt: str, sample: int, text: str | None = None, *, tokens: int = 3, finished: bool = True) -> Rollout:
    said = f"answer {sample}" if text is None else text
    ids = tuple(range(tokens))
    asked = Prompt((Turn("user", prompt),), key=prompt)
    return Rollout(asked, (1, 2), ids, said, finished=finished, sample=sample)


def scored(prompt: str, *scores: float) -> Rows:
    return [rollout(prompt, i) for i in range(len(scores))], [Judgement(score) for score in scores]


def pair_of(
    prompt: str, margin: float = 1.0, chosen: int = 3, rejected: int = 3, parts: Mapping[str, float] | None = None
) -> Rows:
    rows = [rollout(prompt, 0, tokens=chosen), rollout(prompt, 1, tokens=rejected)]
    zeros = dict.fromkeys(parts or {}, 0.0)
    return rows, [Judgement(margin, parts=parts or {}), Judgement(0.0, parts=zeros)]


def joined(*parts: Rows) -> Rows:
    return [each for rows, _ in parts for each in rows], [each for _, rows in parts for each in rows]


def grouped(rollouts: Sequence[Rollout], judgements: Sequence[Judgement]) -> Groups:
    """Responses with their judgements, those to one prompt together."""
    of: dict[str, list[int]] = {}
    for place, each in enumerate(rollouts):
        of.setdefault(each.prompt.key, []).append(place)
    groups = [tuple(rollouts[place] for place in places) for places in of.values()]
    return groups, [tuple(judgements[place] for place in places) for places in of.values()]


def mine(rule: BestWorst, rollouts: Sequence[Rollout], judgements: Sequence[Judgement]) -> RoundData:
    return rule.mine(*grouped(rollouts, judgements))


def losses(mined: RoundData) -> dict[str, int]:
    return {reason: count for reason, count in mined.summary["dropped"].items() if count}


def margins_of(mined: RoundData) -> list[float]:
    return [each.pair.margin for each in mined.examples]


def random_round(seed: int) -> Rows:
    """Coarse scores, short texts and few lengths, so that every kind of drop and tie occurs."""
    rng = Random(seed)
    rollouts, judgements = [], []
    for prompt in range(60):
        for sample in range(rng.randint(1, 6)):
            text, tokens = rng.choice(["", "yes", "no", "perhaps", "never", f"answer {sample}"]), rng.randint(1, 5)
            rollouts.append(rollout(str(prompt), sample, text, tokens=tokens, finished=rng.random() < 0.9))
            parts = {name: float(rng.randint(-2, 2)) for name in "abc"}
            reason = None if rng.random() < 0.9 else Dropped.NO_ANSWER
            judgements.append(Judgement(sum(parts.values()), parts, reason))
    return rollouts, judgements


def spelled(prompt: str, *texts: str) -> list[Rollout]:
    return [rollout(prompt, sample, text) for sample, text in enumerate(texts)]


def test_responses_that_differ_in_their_calls_alone_are_no_duplicates() -> None:
    calls: list[dict[str, Any]] = [{"tool_calls": [{"name": name}]} for name in ("look", "ask", "ask")]
    rows = [replace(rollout("p", place, ""), fields=each) for place, each in enumerate(calls)]
    found = mine(OPEN, rows, list(map(Judgement, (3.0, 1.0, 2.0))))
    assert [(each.chosen.sample, each.rejected.sample) for each in found.examples] == [(0, 1)]
    assert losses(found) == {Dropped.DUPLICATE: 1}


def test_length_alone_makes_no_pair() -> None:
    """Scores that are lengths, or any line of them, have nothing left; whatever else they hold is what is left."""
    rule = replace(OPEN, length_residual=True)
    rollouts = [*spelled("p", "a", "bbbb", "cc", "ddddddd"), *spelled("q", "eeeee", "f", "ggg")]
    for level, slope in ((0.0, 1.0), (2.3, -0.7), (1e6, 1 / 3)):
        judgements = [Judgement(level + slope * len(each.response)) for each in rollouts]
        assert losses(mine(rule, rollouts, judgements)) == {"no contrast": 2}
        assert len(mine(OPEN, rollouts, judgements).examples) == 2


def test_length_residuals_by_hand() -> None:
    """Lengths 1, 3 and 1, 2: deviations -1, 1, -1/2, 1/2 and of scores -3, 3, 1, -1, so a slope of 5 / 2.5 = 2.

    What is left is -1, 1 in one prompt and 2, -2 in the other, where the longer answer had won.
    """
    rollouts = [*spelled("p", "a", "bbb"), *spelled("q", "c", "dd")]
    parts = [{"x": score} for score in (0.0, 6.0, 11.0, 9.0)]
    judgements = [Judgement(each["x"], parts=each) for each in parts]
    mined = mine(replace(OPEN, length_residual=True), rollouts, judgements)
    assert [(each.chosen.response, each.pair.margin) for each in mined.examples] == [("bbb", 2.0), ("c", 4.0)]
    assert [each.margin_by_category for each in mined.examples] == [{"x": 2.0}, {"x": 4.0}]
    # What differs from prompt to prompt explains nothing within one.
    shifted = [replace(each, score=each.score + 100 * (place > 1)) for place, each in enumerate(judgements)]
    assert margins_of(mine(replace(OPEN, length_residual=True), rollouts, shifted)) == [2.0, 4.0]


def test_residuals_of_equal_lengths_are_the_scores() -> None:
    rollouts, judgements = scored("p", 3, 1, 2, 0)
    rule = replace(OPEN, length_residual=True)
    assert mine(rule, rollouts, judgements).examples == mine(OPEN, rollouts, judgements).examples
    assert mine(rule, [], []).examples == ()


def test_known_scores() -> None:
    mined = mine(BestWorst(), *scored("p", 3, 1, 2, 0))
    (pair,) = mined.examples
    assert (pair.chosen.sample, pair.rejected.sample, pair.pair.margin) == (0, 3, 3.0)
    assert losses(mined) == {}


def test_what_a_loss_sees_are_the_ids_of_the_mined_pairs() -> None:
    rows, judgements = pair_of("p", 2.0, chosen=5, rejected=3)
    found = OPEN(*grouped(rows, judgements))
    assert found.summary == mine(OPEN, rows, judgements).summary
    (pair,) = found.examples
    assert [*map(tuple, (pair.prompt_ids, pair.chosen_ids, pair.rejected_ids))] == [(1, 2), tuple(range(5)), (0, 1, 2)]
    assert (pair.margin, pair.p) == (2.0, 1.0)
    assert pair.chosen_ids.itemsize == 4


def test_equal_scores_make_no_pair() -> None:
    mined = mine(BestWorst(), *scored("p", 2, 2, 2))
    assert mined.examples == ()
    assert losses(mined) == {"no contrast": 1}


def test_prompts_are_told_apart_by_key_wherever_their_rows_stand() -> None:
    (a, ja), (b, jb) = scored("a", 0, 1), scored("b", 5, 4)
    mined = OPEN.mine([(a[0],), (b[0],), (a[1],), (b[1],)], [(ja[0],), (jb[0],), (ja[1],), (jb[1],)])
    assert [(p.chosen.prompt.key, p.chosen.sample) for p in mined.examples] == [("a", 1), ("b", 0)]


def test_parts_of_a_pair_are_differences() -> None:
    rows = [rollout("p", 0), rollout("p", 1)]
    judgements = [Judgement(1.0, parts={"a": 0.5, "b": 2.0}), Judgement(3.0, parts={"a": 2.0, "b": 1.0})]
    assert mine(OPEN, rows, judgements).examples[0].margin_by_category == {"a": 1.5, "b": -1.0}


def test_equal_texts_count_once() -> None:
    rows = [rollout("p", 0, "yes"), rollout("p", 1, "yes", tokens=4), rollout("p", 2, "no"), rollout("q", 0, "yes")]
    mined = mine(OPEN, rows, [Judgement(1.0), Judgement(9.0), Judgement(2.0), Judgement(0.0)])
    (pair,) = mined.examples
    assert (pair.chosen.response, pair.rejected.response, pair.pair.margin) == ("no", "yes", 1.0)
    assert losses(mined) == {"duplicate": 1, "fewer than two candidates": 1}


@pytest.mark.parametrize(
    ("odd", "judgement", "reason"),
    [
        (rollout("p", 2, finished=False), Judgement(9.0), "unfinished"),
        (rollout("p", 2), Judgement(9.0, reason=Dropped.NO_ANSWER), "no answer"),
        (rollout("p", 2), Judgement(nan), "not a finite number"),
        (rollout("p", 2), Judgement(-inf), "not a finite number"),
        (rollout("p", 2, " \n"), Judgement(9.0), "empty"),
        (rollout("p", 2, "answer 0"), Judgement(9.0), "duplicate"),
    ],
)
def test_responses_that_cannot_be_used(odd: Rollout, judgement: Judgement, reason: str) -> None:
    rows, judgements = scored("p", 1, 0)
    mined = mine(OPEN, [odd, *rows], [judgement, *judgements])
    assert [(pair.chosen.sample, pair.rejected.sample) for pair in mined.examples] == [(0, 1)]
    assert losses(mined) == {reason: 1}


def test_a_prompt_that_loses_all_its_responses_is_counted() -> None:
    mined = mine(OPEN, [rollout("p", 0, finished=False)], [Judgement(1.0)])
    assert losses(mined) == {"unfinished": 1, "fewer than two candidates": 1}


def test_unfinished_responses_stay_flagged_where_they_are_kept() -> None:
    rows = [rollout("p", 0, finished=False), rollout("p", 1)]
    (pair,) = mine(replace(OPEN, keep_unfinished=True), rows, [Judgement(1.0), Judgement(0.0)]).examples
    assert (pair.chosen.finished, pair.rejected.finished) == (False, True)
    assert pair.chosen is rows[0]


@pytest.mark.parametrize(
    ("rule", "kept", "lost", "reason"),
    [
        (replace(OPEN, min_margin=0.5), pair_of("p", 0.5), pair_of("p", 0.499), "below margin"),
        (
            replace(OPEN, max_length_ratio=2.0),
            pair_of("p", chosen=6, rejected=3),
            pair_of("p", chosen=7, rejected=3),
            "length ratio",
        ),
        (
            replace(OPEN, max_length_ratio=2.0),
            pair_of("p", chosen=3, rejected=6),
            pair_of("p", chosen=3, rejected=7),
            "length ratio",
        ),
        (
            replace(OPEN, max_length_ratio=1.4),
            pair_of("p", chosen=63, rejected=45),
            pair_of("p", chosen=64, rejected=45),
            "length ratio",
        ),
        (
            replace(OPEN, min_category_agreement=2 / 3),
            pair_of("p", parts={"a": 0.1, "b": 0.1, "c": -5.0}),
            pair_of("p", parts={"a": 0.1, "b": 0.0, "c": 5.0, "d": -5.0}),
            "category agreement",
        ),
    ],
)
def test_pair_filters_at_their_boundary(rule: BestWorst, kept: Rows, lost: Rows, reason: str) -> None:
    assert (len(mine(rule, *kept).examples), losses(mine(rule, *kept))) == (1, {})
    assert (len(mine(rule, *lost).examples), losses(mine(rule, *lost))) == (0, {reason: 1})


@pytest.mark.parametrize("categories", [3, 6, 9, 12, 30])
def test_two_thirds_of_the_categories_are_enough(categories: int) -> None:
    def agreeing(count: int) -> Rows:
        return pair_of("p", parts={str(i): 1.0 if i < count else -1.0 for i in range(categories)})

    enough = 2 * categories // 3
    assert len(mine(BestWorst(), *agreeing(enough)).examples) == 1
    assert losses(mine(BestWorst(), *agreeing(enough - 1))) == {"category agreement": 1}


@pytest.mark.parametrize(
    ("margins", "kept"),
    [
        ([5, 1, 3, 2, 4], [5, 3, 2, 4]),
        ([4, 1, 2, 3], [4, 1, 2, 3]),
        ([2, 1, 1, 1, 1], [2, 1, 1, 1, 1]),
        (range(1, 11), range(3, 11)),
        ([1], [1]),
    ],
)
def test_quantile_drops_the_fifth_with_the_smallest_margins(margins: Sequence[float], kept: Sequence[float]) -> None:
    mined = mine(BestWorst(), *joined(*(pair_of(f"p{i}", margin) for i, margin in enumerate(margins))))
    assert margins_of(mined) == list(kept)
    assert mined.summary["dropped"]["below margin quantile"] == len(margins) - len(kept)


def test_quantile_is_taken_over_the_pairs_that_the_other_filters_leave() -> None:
    """Five good pairs of margins 1 to 5 and five of margin 0.1 that are too unequal in length: only margin 1 goes."""
    good = [pair_of(f"g{i}", i) for i in range(1, 6)]
    unequal = [pair_of(f"u{i}", 0.1, chosen=9, rejected=1) for i in range(5)]
    mined = mine(BestWorst(), *joined(*good, *unequal))
    assert margins_of(mined) == [2, 3, 4, 5]
    assert losses(mined) == {"length ratio": 5, "below margin quantile": 1}


def identity(pair: MinedPair) -> tuple[Rollout, Rollout]:
    return pair.chosen, pair.rejected


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("rule", [BestWorst(), OPEN, BestWorst(min_margin=2.0, keep_unfinished=True)])
def test_row_order_does_not_matter(rule: BestWorst, seed: int) -> None:
    rollouts, judgements = random_round(seed)
    order = Random(seed + 100).sample(range(len(rollouts)), len(rollouts))
    one = mine(rule, rollouts, judgements)
    other = mine(rule, [rollouts[i] for i in order], [judgements[i] for i in order])
    by_prompt: Callable[[MinedPair], str] = lambda pair: pair.chosen.prompt.key  # noqa: E731
    assert sorted(one.examples, key=by_prompt) == sorted(other.examples, key=by_prompt)
    assert one.summary["dropped"] == other.summary["dropped"]
    assert one.summary == other.summary


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("rule", [BestWorst(), OPEN])
def test_negated_scores_swap_every_pair(rule: BestWorst, seed: int) -> None:
    """The categories too: they change sides together with the total."""
    rollouts, judgements = random_round(seed)
    negated = [replace(j, score=-j.score, parts={name: -part for name, part in j.parts.items()}) for j in judgements]
    one, other = mine(rule, rollouts, judgements), mine(rule, rollouts, negated)
    assert len(one.examples) > 5
    assert [identity(pair) for pair in one.examples] == [identity(pair)[::-1] for pair in other.examples]
    assert margins_of(one) == margins_of(other)
    assert one.summary["dropped"] == other.summary["dropped"]


@pytest.mark.parametrize("seed", range(5))
def test_books_balance(seed: int) -> None:
    """Every prompt ends as a pair or under one reason, and no pair has two equal responses."""
    rollouts, judgements = random_round(seed)
    mined = mine(BestWorst(), rollouts, judgements)
    per_response = {"unfinished", "no answer", "empty", "duplicate"}
    per_prompt = sum(count for reason, count in mined.summary["dropped"].items() if reason not in per_response)
    assert per_prompt + len(mined.examples) == len({each.prompt.key for each in rollouts}) == mined.summary["prompts"]
    assert min(mined.summary["dropped"][reason] for reason in (*per_response, "no contrast", "length ratio")) > 0
    assert all(pair.chosen.response != pair.rejected.response for pair in mined.examples)
    assert all(pair.chosen.prompt == pair.rejected.prompt for pair in mined.examples)


def test_summary_by_hand() -> None:
    """Three proposed pairs; the one of margin 4 goes for its lengths but still counts for agreement."""
    mined = mine(
        replace(OPEN, max_length_ratio=2.0),
        *joined(
            pair_of("x", 1.0, chosen=4, rejected=2, parts={"a": 1.0, "b": 1.0}),
            pair_of("y", 2.0, chosen=3, rejected=3, parts={"a": 1.0, "b": -1.0}),
            pair_of("z", 4.0, chosen=9, rejected=1, parts={"a": 0.0, "b": 1.0}),
        ),
    )
    summary: dict[str, Any] = json.loads(json.dumps(dict(mined.summary)))
    assert summary.pop("dropped") == dict(mined.summary["dropped"])
    histogram = summary.pop("margin_histogram")
    assert histogram["edges"] == pytest.approx([0.2 * i for i in range(11)])
    assert histogram["counts"] == [0, 0, 0, 0, 0, 1, 0, 0, 0, 1]
    assert summary == {
        "prompts": 3,
        "samples": 6,
        "pairs": 2,
        "mean_length_chosen": 3.5,
        "mean_length_rejected": 2.5,
        "longer_wins": 0.75,
        "category_agreement": {"a": pytest.approx(2 / 3), "b": pytest.approx(2 / 3)},
        "winner_agreement": {"a": {"b": pytest.approx(1 / 3)}},
    }


def test_margins_that_differ_by_a_rounding_have_a_histogram() -> None:
    summary = mine(OPEN, *joined(pair_of("x", 0.3), pair_of("y", 0.1 + 0.2))).summary
    assert summary["margin_histogram"]["counts"] == [0] * 9 + [2]


def test_nothing_in_nothing_out() -> None:
    mined = mine(BestWorst(), [], [])
    assert (mined.examples, losses(mined)) == ((), {})
    assert (mined.summary["longer_wins"], mined.summary["margin_histogram"]) == (None, None)


@pytest.mark.parametrize(
    ("setting", "value"),
    [
        ("min_margin", -0.1),
        ("min_margin", nan),
        ("min_margin_quantile", 1.0),
        ("min_margin_quantile", -0.1),
        ("max_length_ratio", 0.9),
        ("min_category_agreement", 1.1),
    ],
)
def test_settings_out_of_range_are_refused(setting: str, value: Any) -> None:
    with pytest.raises(InputError, match=f"field '{setting}'.*allowed"):
        BestWorst(**{setting: value})


def test_a_judgement_is_needed_for_every_rollout() -> None:
    with pytest.raises(InputError, match="1 judgements of 2 rollouts"):
        BestWorst()(grouped(*scored("p", 1, 2))[0], [(Judgement(1.0),)])
