"""Figures about verdicts, each by hand."""

import math

import pytest

from uptake.errors import InputError
from uptake.evaluate.annotator import annotator_stats
from uptake.ops.verdicts import is_tie, order_gap, position_bias
from uptake.types import Dropped, Verdict

WRONG = Verdict(0.5, (0.5, 0.5), reason=Dropped.NO_CHOICE, tokens=40, cost=0.5)
EVEN = Verdict(0.5, (0.5, 0.5))


def test_by_hand() -> None:
    verdicts = [
        Verdict(0.8, (0.9, 0.7), tokens=10, cost=0.25),  # both prefer the first, which is the longer one
        Verdict(0.54, (0.9, 0.18), tokens=10),  # the orders disagree; the first, shorter one is preferred by a little
        Verdict(0.25, (0.5, 0.0), tokens=10),  # one order is even; the second, longer one is preferred
        WRONG,
        EVEN,
    ]
    stats = annotator_stats(verdicts, [5, 2, 2, 9, 4], [3, 6, 3, 1, 4])
    assert stats.pairs == 5
    assert (stats.invalid.rate, stats.invalid.n, dict(stats.reasons)) == (0.2, 5, {"neither 1 nor 2": 1})
    assert stats.agreement is not None
    assert (stats.agreement.rate, stats.agreement.n) == ((1 + 0 + 0.5) / 3, 3)
    # The first shown has 0.9 and 0.3, 0.9 and 0.82, 0.5 and 1.
    shown_first = (0.9 + 0.3 + 0.9 + 0.82 + 0.5 + 1.0) / 6
    assert stats.position_bias == pytest.approx(shown_first - 0.5)
    assert stats.order_gap == pytest.approx((0.2 + 0.72 + 0.5) / 3)
    assert stats.unsure is not None
    assert (stats.unsure.rate, stats.unsure.n) == (2 / 4, 4)
    assert stats.longer_wins is not None
    assert (stats.longer_wins.rate, stats.longer_wins.n) == (2 / 3, 3)
    assert (stats.tokens, stats.cost) == (70, 0.75)


def test_a_tie_is_even_to_rounding() -> None:
    assert is_tie(0.5 + 5e-10)
    assert is_tie((0.1 + 0.2 + 0.7) / 2)
    assert not is_tie(0.5 - 2e-9)
    assert (position_bias(0.9, 0.7), order_gap(0.7, 0.9)) == (pytest.approx(0.1), pytest.approx(0.2))


def test_a_tie_is_half_a_win_of_the_longer() -> None:
    stats = annotator_stats([EVEN, Verdict(0.1, (0.1, 0.1))], [2, 2], [1, 3])
    assert stats.longer_wins is not None
    assert (stats.longer_wins.rate, stats.longer_wins.n) == (0.75, 2)


def test_what_no_verdict_tells_is_none() -> None:
    stats = annotator_stats([WRONG, WRONG], [1, 2], [1, 1])
    assert (stats.agreement, stats.position_bias, stats.order_gap) == (None, None, None)
    assert (stats.unsure, stats.longer_wins, stats.invalid.rate) == (None, None, 1.0)
    even = annotator_stats([EVEN], [2], [2])
    assert (even.agreement, even.position_bias, even.longer_wins) == (None, None, None)
    assert even.unsure is not None
    assert even.unsure.rate == 1.0


def test_bad_numbers() -> None:
    with pytest.raises(InputError, match=r"field 'p': no numbers"):
        annotator_stats([], [], [])
    with pytest.raises(InputError, match="unequal lengths: p has 1"):
        annotator_stats([EVEN], [1, 2], [1])
    with pytest.raises(InputError, match=r"field 'first_lengths': nan at index 0"):
        annotator_stats([EVEN], [math.nan], [1])
