"""Figures of token rewards by hand, and at their limits."""

import pytest

from uptake.errors import InputError
from uptake.evaluate import ScoredTokens, token_reward_metrics


def test_by_hand() -> None:
    rows = [
        ScoredTokens((0.1, -0.9, 0.0), (0, -1, 0), (0.2, 0.5)),
        ScoredTokens((-0.5, 0.2), (0, -1), (0.1, -0.6)),
        ScoredTokens((0.3, 0.3), (0, 0)),
    ]
    found = token_reward_metrics(rows)
    # Faults -0.9 and 0.2 against good tokens 0.1, 0.0, -0.5, 0.3, 0.3: five and two of five are higher.
    assert found.auroc == pytest.approx((5 + 2) / 10)
    # By -reward: -0.9 (fault), -0.5, 0.0, 0.1, 0.2 (fault), ...
    assert found.average_precision == pytest.approx((1 / 1 + 2 / 5) / 2)
    assert found.faulty == pytest.approx(2 / 7)
    assert found.top1 is not None
    assert (found.top1.rate, found.top1.n) == (0.5, 2)
    assert found.top1_chance == pytest.approx((1 / 3 + 1 / 2) / 2)
    assert found.pair_sum is not None
    assert found.pair_mean is not None
    # Sums 0.7 over -0.8, and -0.5 under -0.3; means 0.35 over -0.27, and -0.25 under -0.15.
    assert (found.pair_sum.rate, found.pair_mean.rate) == (0.5, 0.5)
    assert found.good_reward == pytest.approx((0.1 + 0.0 - 0.5 + 0.3 + 0.3) / 5)
    assert found.length_correlation == pytest.approx(-0.7731, abs=1e-4)


def test_longer_is_not_better_by_the_mean() -> None:
    """Sum and mean can disagree, which is why both are told."""
    found = token_reward_metrics([ScoredTokens((0.3, 0.3, 0.3), (0, 0, 0), (0.5,))])
    assert found.pair_sum is not None
    assert found.pair_mean is not None
    assert (found.pair_sum.rate, found.pair_mean.rate) == (0, 1)
    assert (found.auroc, found.top1, found.faulty) == (None, None, 0)


def test_equal_rewards_hit_by_chance() -> None:
    found = token_reward_metrics([ScoredTokens((0.0,) * 4, (-1, 0, 0, 0))] * 3)
    assert found.top1 is not None
    assert found.top1.rate == found.top1_chance == 0.25
    assert found.auroc == 0.5
    assert found.length_correlation is None


@pytest.mark.parametrize(
    "row", [ScoredTokens((0.1,), (0, 0)), ScoredTokens((), ()), ScoredTokens((0.1,), (0,), (float("nan"),))]
)
def test_what_is_refused(row: ScoredTokens) -> None:
    with pytest.raises(InputError):
        token_reward_metrics([row])
    with pytest.raises(InputError):
        token_reward_metrics([])
