"""Metrics as pure functions of numbers: win rates, accuracy, agreement, correlations, lengths and their intervals."""

from typing import TYPE_CHECKING

from uptake.evaluate.accuracy import Accuracy, pairwise_accuracy
from uptake.evaluate.interval import Share
from uptake.evaluate.lengths import Lengths, LengthStats, compare_lengths, length_stats
from uptake.evaluate.win_rate import WinRate, win_rate
from uptake.support.lazy import lazy

if TYPE_CHECKING:
    from uptake.evaluate.length_controlled import length_controlled_win_rate
    from uptake.evaluate.token_rewards import ScoredTokens, TokenRewardMetrics, token_reward_metrics

# Scikit-learn and SciPy take a second to load, and most figures need neither.
__getattr__ = lazy(
    __name__,
    {
        "length_controlled": ("length_controlled_win_rate",),
        "token_rewards": ("ScoredTokens", "TokenRewardMetrics", "token_reward_metrics"),
    },
)

__all__ = [
    "Accuracy",
    "LengthStats",
    "Lengths",
    "ScoredTokens",
    "Share",
    "TokenRewardMetrics",
    "WinRate",
    "compare_lengths",
    "length_controlled_win_rate",
    "length_stats",
    "pairwise_accuracy",
    "token_reward_metrics",
    "win_rate",
]
