"""Figures of benchmarks: against scipy, by hand, and by limits."""

import json
from collections.abc import Callable
from dataclasses import asdict
from math import nan
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import stats

from uptake.datasets import Candidates, Comparison, Rating
from uptake.errors import InputError
from uptake.evaluate import bootstrap
from uptake.evaluate.agreement import agreement
from uptake.evaluate.bench_results import Result, Unjudged, clusters, confidence, result
from uptake.evaluate.best_of_n import best_of_n
from uptake.evaluate.bootstrap import Estimate, estimate
from uptake.evaluate.correlation import correlations, kendall, pearson, rank_correlation, spearman
from uptake.evaluate.interval import share
from uptake.evaluate.systems import system_ranking
from uptake.types import Dropped, Prompt, Turn, Where

Floats = NDArray[np.float64]
LONG = Dropped.TOO_LONG


def mean(values: Floats, groups: NDArray[np.intp] | None = None, seed: int = 0) -> Estimate:
    rows = np.arange(len(values)) if groups is None else groups
    return estimate(lambda weights: weights @ values / weights.sum(axis=1), rows, seed)


def ends(found: Estimate) -> tuple[float, float]:
    assert found.low is not None
    assert found.high is not None
    return found.low, found.high


# --- intervals --------------------------------------------------------------------------------------------------------


def test_the_bootstrap_of_a_mean_is_that_of_scipy() -> None:
    values = np.random.default_rng(0).exponential(size=200)
    theirs = stats.bootstrap((values,), np.mean, n_resamples=9999, method="percentile", rng=1).confidence_interval
    found = mean(values)
    assert (found.value, found.n) == (pytest.approx(values.mean()), 200)
    assert ends(found) == pytest.approx(tuple(theirs), abs=0.02)


def test_equal_seeds_equal_intervals() -> None:
    values = np.random.default_rng(0).normal(size=50)
    assert mean(values, seed=3) == mean(values, seed=3)
    assert ends(mean(values, seed=3)) != ends(mean(values, seed=4))


def test_copies_of_a_row_in_one_cluster_tell_nothing_new() -> None:
    values = np.random.default_rng(0).normal(size=60)
    copied, numbers = np.repeat(values, 4), np.repeat(np.arange(60) * 7, 4)
    assert ends(mean(copied, numbers)) == pytest.approx(ends(mean(values)))
    alone = ends(mean(copied))
    assert alone[1] - alone[0] == pytest.approx((ends(mean(values))[1] - ends(mean(values))[0]) / 2, rel=0.15)


def test_two_clusters_have_no_interval() -> None:
    found = mean(np.array([0.0, 1.0, 1.0, 1.0]), np.array([0, 0, 1, 1]))
    assert (found.value, found.low, found.high) == (0.75, None, None)


def test_a_figure_that_is_undefined_is_none_with_a_reason() -> None:
    found = estimate(lambda weights: np.full(len(weights), np.nan), np.arange(5))
    assert found == Estimate(None, None, None, 5, "undefined for these rows")


def test_shares_of_clusters() -> None:
    """Copies count once, whole clusters that are all right as often as there are clusters, single rows as ever."""
    outcomes = np.array([1.0, 0, 1, 1, 0.5, 0, 1, 1])
    once, copied = share(outcomes), share(np.repeat(outcomes, 3), np.repeat(np.arange(8), 3))
    assert (copied.rate, copied.low, copied.high) == pytest.approx((once.rate, once.low, once.high))
    assert copied.n == 24
    assert share(outcomes, np.arange(8) * 5) == once
    right, few = share(np.ones(12), np.repeat(np.arange(4), 3)), share(np.ones(4))
    assert (right.low, right.high) == pytest.approx((few.low, few.high))
    # Rows that balance each other within a cluster are not credited with more than they are.
    assert share(np.array([1.0, 0] * 10), np.repeat(np.arange(10), 2)) == share(np.array([1.0, 0] * 10))


def test_shares_of_clusters_beside_the_cluster_bootstrap() -> None:
    rng = np.random.default_rng(0)
    numbers = np.repeat(np.arange(80), 5)
    outcomes = (rng.random(400) < rng.beta(1, 0.6, size=80)[numbers]).astype(float)
    found, drawn = share(outcomes, numbers), mean(outcomes, numbers)
    assert (found.low, found.high) == pytest.approx(ends(drawn), abs=0.012)
    assert found.high - found.low > 1.4 * (share(outcomes).high - share(outcomes).low)


@pytest.mark.parametrize("at_once", [1, 7, 40])
def test_how_many_resamples_are_weighed_at_once_changes_no_bit(at_once: int, monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(1)
    scores, numbers = rng.normal(size=301), rng.integers(0, 90, size=301)
    ratings = np.floor(3 * rng.random(301) + scores)
    whole = correlations(scores.tolist(), ratings.tolist(), numbers.tolist())
    monkeypatch.setattr(bootstrap, "WEIGHTS", 301 * at_once)
    assert correlations(scores.tolist(), ratings.tolist(), numbers.tolist()) == whole
    assert rank_correlation(scores, ratings, numbers) == whole.spearman


# --- correlations -----------------------------------------------------------------------------------------------------

Weighted = Callable[[Floats, Floats, Floats], Floats]
THEIRS: dict[Weighted, Any] = {pearson: stats.pearsonr, spearman: stats.spearmanr, kendall: stats.kendalltau}


@pytest.mark.parametrize("ours", list(THEIRS))
@pytest.mark.parametrize("levels", [2, 5, 1000])
def test_weights_are_copies_for_scipy(ours: Weighted, levels: int) -> None:
    """Every weighted correlation is scipy's on rows that stand there as often as their weight says, ties included."""
    rng = np.random.default_rng(levels)
    x = rng.normal(size=40).round(1)
    y = np.floor(levels * stats.norm.cdf(x + rng.normal(size=40)))
    weights = rng.integers(0, 4, size=(6, 40)).astype(np.float64)
    expected = [THEIRS[ours](np.repeat(x, row.astype(int)), np.repeat(y, row.astype(int))).statistic for row in weights]
    assert ours(x, y, weights) == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize("ours", list(THEIRS))
def test_a_resample_of_equal_values_is_undefined(ours: Weighted) -> None:
    x, y = np.array([1.0, 1.0, 2.0, 3.0]), np.array([5.0, 6.0, 7.0, 7.0])
    weights = np.array([[2.0, 2, 0, 0], [0, 0, 1, 3], [1, 1, 1, 1]])
    assert np.isnan(ours(x, y, weights)).tolist() == [True, True, False]


def test_correlations_beside_scipy() -> None:
    rng = np.random.default_rng(5)
    ratings = rng.integers(1, 6, size=150).astype(float)
    scores = 1e6 + 1e-3 * (ratings + rng.normal(size=150))
    found = correlations(scores.tolist(), ratings.tolist())
    for name, theirs in {"pearson": stats.pearsonr, "spearman": stats.spearmanr, "kendall": stats.kendalltau}.items():
        ours = getattr(found, name)
        assert ours.value == pytest.approx(theirs(scores, ratings).statistic, abs=1e-7)
        assert ours.low < ours.value < ours.high
    fisher = stats.pearsonr(scores, ratings).confidence_interval(0.95)
    assert ends(found.pearson) == pytest.approx(tuple(fisher), abs=0.03)


def test_what_only_ranks_see() -> None:
    found = correlations([1, 2, 3, 4, 1000], [1, 2, 3, 4, 5])
    assert (found.spearman.value, found.kendall.value) == (1.0, 1.0)
    assert found.pearson.value is not None
    assert found.pearson.value < 0.8


def test_constant_columns_are_none_and_few_rows_an_error() -> None:
    assert correlations([1, 1, 1], [1, 2, 3]).kendall == Estimate(None, None, None, 3, "all scores are equal")
    assert correlations([1, 2, 3], [4, 4, 4]).pearson.reason == "all ratings are equal"
    with pytest.raises(InputError, match=r"2 rows.*at least 3"):
        correlations([1, 2], [1, 2])
    with pytest.raises(InputError, match=r"'ratings': nan at index 1"):
        correlations([1, 2, 3], [1, nan, 3])


# --- systems ----------------------------------------------------------------------------------------------------------


def test_systems_by_hand() -> None:
    """Means by system: a 2, b 3, c 1 for scores; a 2, b 5, c 4 for ratings. One of three pairs is out of order."""
    found = system_ranking([1, 3, 3, 3, 1, 1], [1, 3, 5, 5, 4, 4], ["a", "a", "b", "b", "c", "c"])
    assert found.means == {"a": (2.0, 2.0), "b": (3.0, 5.0), "c": (1.0, 4.0)}
    assert found.spearman.value == pytest.approx(stats.spearmanr([2, 3, 1], [2, 5, 4]).statistic)
    assert found.kendall.value == pytest.approx(1 / 3)
    with pytest.raises(InputError, match="2 systems in 3 rows of 3"):
        system_ranking([1, 2, 3], [1, 2, 3], ["a", "b", "b"])


def test_more_prompts_make_the_ranking_of_systems_surer() -> None:
    def width(prompts: int) -> float:
        rng = np.random.default_rng(0)
        systems = np.tile(np.arange(5), prompts)
        ratings = systems + rng.normal(size=5 * prompts)
        scores = systems + 4 * rng.normal(size=5 * prompts)
        numbers = np.repeat(np.arange(prompts), 5).tolist()
        found = system_ranking(scores.tolist(), ratings.tolist(), [f"s{each}" for each in systems], numbers)
        return ends(found.kendall)[1] - ends(found.kendall)[0]

    assert width(1000) < width(10)


# --- best of n --------------------------------------------------------------------------------------------------------


def test_best_of_n_by_hand() -> None:
    scores = [[3.0, 1.0, 2.0], [1.0, 1.0], [0.0, 5.0], [7.0, 8.0]]
    qualities = [[0.5, 0.0, 1.0], [1.0, 0.0], [2.0, 2.0], [0.0, 4.0]]
    found = best_of_n(scores, qualities)
    # picks: the middle of three; half the best and half the other; (even: left out); the best
    assert (found.best.rate, found.best.n, found.even) == (0.5, 3, 1)
    assert found.chance == pytest.approx((1 / 3 + 1 / 2 + 1 / 2) / 3)
    assert found.picked.value == pytest.approx((0.5 + 0.5 + 4) / 3)
    assert (found.random, found.top) == (pytest.approx((0.5 + 0.5 + 2) / 3), pytest.approx((1 + 1 + 4) / 3))
    assert found.gain.value == pytest.approx((5 - 3) / (6 - 3))


def test_best_of_n_limits() -> None:
    qualities = np.random.default_rng(0).random((40, 4)).tolist()
    perfect, random = best_of_n(qualities, qualities), best_of_n([[0.0] * 4] * 40, qualities)
    assert (perfect.best.rate, perfect.gain.value, ends(perfect.gain)) == (1.0, 1.0, (1.0, 1.0))
    assert (random.best.rate, random.gain.value) == (0.25, pytest.approx(0.0))
    assert random.chance == 0.25
    with pytest.raises(InputError, match="no prompt has responses that differ"):
        best_of_n([[1.0, 2.0]], [[3.0, 3.0]])


# --- pairs ------------------------------------------------------------------------------------------------------------


def test_agreement_by_hand() -> None:
    """Right, right (a majority of two in three), wrong, the scorer's tie, two human ties, right."""
    found = agreement(
        margins=[2.0, -1.0, -3.0, 0.0, 0.5, -2.5, 4.0],
        preferences=[1.0, 1 / 3, 1.0, 0.0, 0.5, 0.5, 1.0],
        first_lengths=[10, 30, 10, 12, 1, 1, 8],
        second_lengths=[20, 10, 5, 10, 9, 9, 2],
        groups=["a", "a", "b", "b", "c", "b", "a"],
    )
    assert (found.accuracy.plain.rate, found.accuracy.plain.n, found.human_ties) == (3.5 / 5, 5, 2)
    assert found.accuracy.length_matched is not None
    assert (found.accuracy.length_matched.rate, found.accuracy.length_matched.n) == (0.5, 1)
    assert found.accuracy.longer_wins.rate == 2 / 5
    # by |margin|: 0, 1, 2, 3, 4; by preferred over other length: 1/3, 1/2, 10/12, 2, 4
    assert [group.rate for group in found.accuracy.by_margin] == [0.5, 1, 1, 0, 1]
    assert [(each.ratio, each.right.rate) for each in found.by_length] == [
        *((pytest.approx(1 / 3), 1), (0.5, 1), (pytest.approx(10 / 12), 0.5), (2.0, 0), (4.0, 1))
    ]
    assert {group: (each.rate, each.n) for group, each in found.by_group.items()} == {"a": (1.0, 3), "b": (0.25, 2)}
    # |margin| 0.5 is smaller than four of five, 2.5 than two
    assert found.ties_told == (4 + 2) / 10


def test_swapping_the_responses_changes_nothing() -> None:
    rng = np.random.default_rng(0)
    margins, preferences = rng.normal(size=90), rng.choice([0, 0.5, 1.0], size=90)
    first, second = rng.integers(1, 50, size=(2, 90)).astype(float)
    one = agreement(margins.tolist(), preferences.tolist(), first.tolist(), second.tolist())
    other = agreement((-margins).tolist(), (1 - preferences).tolist(), second.tolist(), first.tolist())
    assert one == other
    assert one.ties_told == pytest.approx(
        np.mean([abs(t) < abs(d) for t in margins[preferences == 0.5] for d in margins[preferences != 0.5]])
    )


def test_nothing_but_ties_and_a_length_of_nothing() -> None:
    with pytest.raises(InputError, match="people call every pair even"):
        agreement([1.0], [0.5], [1], [1])
    with pytest.raises(InputError, match="a length of 0"):
        agreement([1.0], [1.0], [0], [1])


# --- results ---------------------------------------------------------------------------------------------------------


def asked(text: str) -> Prompt:
    return Prompt((Turn("user", text),), text)


def only(found: Result) -> Any:
    (figures,) = found.figures
    return figures


def duel(number: int, preference: float = 1.0, group: str = "") -> Comparison:
    place = Where(Path("a.jsonl"), number)
    return Comparison(asked(f"{number} ?"), ("a" * (number + 1), "bb"), preference, group, place)


def rating(prompt: str, value: float, line: int, **more: str) -> Rating:
    turns = (Turn("user", prompt), Turn("assistant", f"at {value} ."))
    return Rating(turns, {"overall": value}, "turn", where=Where(Path("a.jsonl"), line), **more)


def test_clusters_are_prompts_or_lines_whichever_are_fewer() -> None:
    by_prompt = [rating("when ?", 1, 1), rating("when ?", 2, 2), rating("who ?", 3, 3)]
    assert clusters(by_prompt).tolist() == [0, 0, 1]
    by_line = [rating("when ?", 1, 1), rating("what ?", 2, 2), rating("who ?", 3, 2)]
    assert clusters(by_line).tolist() == [0, 1, 1]
    nowhere = [Candidates(asked("a"), ("x", "y"), (0, 1)), Candidates(asked("b"), ("x", "y"), (0, 1))]
    assert clusters(nowhere).tolist() == [0, 1]


def test_what_could_not_be_judged_is_counted_by_reason() -> None:
    items = [duel(number) for number in range(6)]
    found = result(
        items,
        [1.0, Unjudged(LONG, "512 tokens"), -1.0, Unjudged(LONG, "9 tokens"), 2.0, Unjudged(Dropped.EMPTY)],
    )
    assert only(found).accuracy.plain.n == 3
    assert found.invalid == {"longer than the window": 2, "empty": 1}
    assert found.details == {"longer than the window": "512 tokens"}
    assert result(items[:1], [Unjudged(LONG)]) == result(items[:1], [Unjudged(LONG)], seed=1)
    assert result(items[:1], [Unjudged(LONG)]).note == "no row could be judged"
    assert result([duel(0, 0.5)], [1.0]).note.startswith("field 'preferences': people call every pair even")
    assert "fewer than three rows" in result([rating("a", 1, 1)] * 2, [1.0, 2.0]).note
    json.dumps(asdict(found))


def test_ratings_by_group_with_their_systems() -> None:
    rng = np.random.default_rng(0)
    items = [
        rating(f"{number} ?", number % 5, number, group="ab"[number % 2], system=f"s{number % 3}")
        for number in range(30)
    ]
    scores = rng.normal(size=30).tolist()
    rows: Any = result(items, scores).figures
    found = {each.group: each for each in rows}
    assert list(found) == ["", "a", "b"]
    odd = slice(1, None, 2)
    expected = stats.pearsonr(scores[odd], [number % 5 for number in range(30)][odd]).statistic
    assert found["b"].correlations.pearson.value == pytest.approx(expected)
    assert found[""].systems is not None


def test_the_result_of_candidates() -> None:
    items = [Candidates(asked("a"), ("x", "y"), (0.0, 1.0)), Candidates(asked("b"), ("x", "y"), (1.0, 0.0))]
    assert only(result(items, [[1.0, 2.0], [1.0, 2.0]])).best.rate == 0.5


# --- confidence -------------------------------------------------------------------------------------------------------


def test_confidence_finds_the_scale_of_margins() -> None:
    """Preferences drawn with `sigma(margin / 0.25)`: the temperature is found, and p means what it says."""
    rng = np.random.default_rng(0)
    margins = rng.normal(scale=0.4, size=4000)
    wins = rng.random(4000) < 1 / (1 + np.exp(-margins / 0.25))
    items = [duel(number, float(win)) for number, win in enumerate(wins)]
    found = confidence(items, margins.tolist(), "reward")
    assert found.temperature == pytest.approx(0.25, rel=0.1)
    assert found.reliability.error < 0.03
    # An annotator's margins are its probabilities less one half, so they are read as they are.
    p = 1 / (1 + np.exp(-margins / 0.25))
    told = confidence(items, (p - 0.5).tolist(), "annotator")
    assert told.temperature is None
    assert told.reliability.error < 0.03


def test_each_half_of_the_prompts_is_read_at_the_temperature_of_the_other() -> None:
    """Odd prompts have the same margins in tenths: at the other half's temperature they say next to nothing."""
    margins = np.tile([4.0, 0.4, 3.0, 0.3, -2.0, -0.2], 100)
    found = confidence([duel(number) for number in range(600)], margins.tolist(), "reward").reliability
    close, far = found.bins[0], found.bins[-1]
    assert (close.right.n, far.right.n) == (300, 300)
    assert close.p < 0.55
    assert far.p > 0.99


def test_no_confidence() -> None:
    with pytest.raises(InputError, match="fewer than two prompts"):
        confidence([duel(0, 0.5), duel(1)], [1.0, 2.0], "reward")
    with pytest.raises(InputError, match="no better than chance"):
        confidence([duel(0), duel(1)], [-1.0, -2.0], "reward")
    with pytest.raises(InputError, match="no pair was judged"):
        confidence([duel(0)], [Unjudged(LONG)], "annotator")
