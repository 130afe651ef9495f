"""Win rate, accuracy and lengths against numbers worked out by hand, published tables and the defining equations."""

import json
from dataclasses import asdict
from math import inf, nan
from statistics import fmean

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from uptake.errors import InputError
from uptake.evaluate import compare_lengths, length_stats, pairwise_accuracy, win_rate
from uptake.tasks.score import RunningMean


def test_win_rate_by_hand() -> None:
    result = win_rate([3.0, 1.0, 2.0, 5.0, 0.0], [1.0, 2.0, 2.0, 4.0, -1.0])
    assert (result.wins, result.losses, result.ties, result.n) == (3, 1, 1, 5)
    assert result.rate == 0.7


def test_answers_to_one_prompt_tell_less_than_answers_to_many() -> None:
    """Four equal outcomes to each of 20 prompts say no more than one to each."""
    won = [1.0] * 12 + [-1.0] * 8
    once = win_rate(won, [0.0] * 20)
    often = win_rate([each for each in won for _ in range(4)], [0.0] * 80, clusters=[place // 4 for place in range(80)])
    assert (often.wins, often.losses, often.n) == (48, 32, 80)
    assert (often.rate, often.low, often.high) == pytest.approx((once.rate, once.low, once.high))


def test_tie_margin_includes_its_boundary() -> None:
    result = win_rate([1.0, 1.5, 0.0, -0.5], [0.0, 0.0, 1.0, 1.0], tie_margin=1.0)
    assert (result.wins, result.losses, result.ties, result.rate) == (1, 1, 2, 0.5)


def test_swapping_the_sides_mirrors_everything() -> None:
    a, b = np.random.default_rng(1).normal(size=(2, 37)).round(1)
    one, other = win_rate(list(a), list(b)), win_rate(list(b), list(a))
    assert (one.wins, one.losses, one.ties) == (other.losses, other.wins, other.ties)
    assert (one.rate, one.low, one.high) == pytest.approx((1 - other.rate, 1 - other.high, 1 - other.low))


# Newcombe (1998), Statistics in Medicine 17:857-872, table I, method 3 (Wilson without continuity correction).
@pytest.mark.parametrize(
    ("wins", "n", "low", "high"),
    [(81, 263, 0.2553, 0.3662), (15, 148, 0.0624, 0.1605), (0, 20, 0.0, 0.1611), (1, 29, 0.0061, 0.1718)],
)
def test_interval_matches_the_published_table(wins: int, n: int, low: float, high: float) -> None:
    result = win_rate([1.0] * wins + [-1.0] * (n - wins), [0.0] * n)
    assert (result.low, result.high) == pytest.approx((low, high), abs=5e-5)


def test_interval_ends_solve_the_score_equation_with_ties() -> None:
    """(p - rate)^2 = z^2 p (1 - p) / n, as the two roots of a quadratic."""
    result = win_rate([1.0] * 11 + [0.0] * 5 + [-1.0] * 4, [0.0] * 20)
    z2_over_n = 1.959963984540054**2 / 20
    roots = np.roots([1 + z2_over_n, -(2 * result.rate + z2_over_n), result.rate**2])
    assert result.rate == 13.5 / 20
    assert sorted(roots) == pytest.approx([result.low, result.high])


def test_interval_agrees_with_a_bootstrap_over_prompts() -> None:
    rng = np.random.default_rng(0)
    wins = rng.random(400) < 0.6
    result = win_rate(list(wins.astype(float)), [0.5] * 400)
    resampled = rng.choice(wins, size=(4000, 400)).mean(axis=1)
    assert np.percentile(resampled, [2.5, 97.5]) == pytest.approx([result.low, result.high], abs=0.008)


@pytest.mark.parametrize("bad", [nan, inf])
def test_a_score_that_is_no_number_is_named(bad: float) -> None:
    with pytest.raises(InputError, match=r"'b_scores': (nan|inf) at index 2"):
        win_rate([1.0, 2.0, 3.0], [1.0, 2.0, bad])


def test_no_scores_unequal_lengths_and_negative_margin() -> None:
    with pytest.raises(InputError, match="no numbers"):
        win_rate([], [])
    with pytest.raises(InputError, match="a_scores has 2, b_scores has 1"):
        win_rate([1.0, 2.0], [1.0])
    with pytest.raises(InputError, match="tie_margin"):
        win_rate([1.0], [1.0], tie_margin=-0.1)


def test_accuracy_by_hand() -> None:
    # points:   right, wrong, tie, right, wrong; margins 4, 3, 0, 1, 2; length ratios 1.2, 2, 1, 1.21, 1.1
    result = pairwise_accuracy([5, 1, 2, 3, 0], [1, 4, 2, 2, 2], [12, 10, 7, 100, 10], [10, 20, 7, 121, 11])
    assert (result.plain.rate, result.plain.n) == (0.5, 5)
    assert result.length_matched is not None
    assert (result.length_matched.rate, result.length_matched.n) == (0.5, 3)
    assert result.longer_wins.rate == (1 + 0 + 0.5 + 0 + 0) / 5
    assert [group.rate for group in result.by_margin] == [0.5, 1.0, 0.0, 0.0, 1.0]


def test_accuracy_has_the_same_interval_as_the_win_rate_of_chosen() -> None:
    chosen, rejected = np.random.default_rng(2).normal(size=(2, 83))
    accuracy = pairwise_accuracy(list(chosen), list(rejected), [5] * 83, [5] * 83)
    wins = win_rate(list(chosen), list(rejected))
    assert (accuracy.plain.rate, accuracy.plain.low, accuracy.plain.high) == (wins.rate, wins.low, wins.high)
    assert accuracy.length_matched == accuracy.plain
    assert accuracy.longer_wins.rate == 0.5
    assert sum(group.n for group in accuracy.by_margin) == 83
    assert sum(group.rate * group.n for group in accuracy.by_margin) == pytest.approx(wins.wins)


def test_a_scorer_that_is_length_has_no_length_matched_skill() -> None:
    lengths = np.random.default_rng(3).integers(1, 200, size=(2, 500)).astype(float)
    result = pairwise_accuracy(list(lengths[0]), list(lengths[1]), list(lengths[0]), list(lengths[1]))
    assert result.plain == result.longer_wins
    unmatched = pairwise_accuracy([1.0], [0.0], [3.0], [0.0])
    assert unmatched.length_matched is None


def test_lengths_by_hand() -> None:
    stats = length_stats([4, 1, 3, 2])
    assert (stats.mean, stats.median) == (2.5, 2.5)
    assert stats.p90 == pytest.approx(3 + 0.7)  # position 0.9 * 3 = 2.7 in the sorted list
    assert compare_lengths([2, 4], [3, 6]).ratio == 1.5
    assert compare_lengths([0, 0], [3, 6]).ratio is None
    with pytest.raises(InputError, match="'lengths': nan at index 1"):
        length_stats([1.0, nan])


def test_results_are_plain_json() -> None:
    accuracy = pairwise_accuracy([1, 2], [0, 3], [1, 2], [1, 2])
    for result in (win_rate([1.0], [0.0]), accuracy, compare_lengths([1, 2], [2, 3])):
        assert json.loads(json.dumps(asdict(result))).keys() == asdict(result).keys()


@given(
    numbers=st.lists(st.floats(-1e300, 1e300, allow_nan=False) | st.sampled_from([1e16, 1.0, -1e16, 0.1]), min_size=1)
)
def test_a_running_mean_is_that_of_all_at_once(numbers: list[float]) -> None:
    mean = RunningMean()
    for number in numbers:
        mean.add(number)
    assert (mean.value, mean.count) == (fmean(numbers), len(numbers))
