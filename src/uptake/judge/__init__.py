"""Judges: rewards and annotators by name, and how a round's rollouts are judged by them."""

from typing import TYPE_CHECKING

from uptake.judge.registry import annotator_spec, reward_spec
from uptake.rewards.base import RewardSpec
from uptake.support.lazy import lazy

if TYPE_CHECKING:
    from uptake.judge.pairwise import ByAnnotator, PairwiseJudge
    from uptake.judge.pointwise import PointwiseJudge

__getattr__ = lazy(__name__, {"pairwise": ("ByAnnotator", "PairwiseJudge"), "pointwise": ("PointwiseJudge",)})

__all__ = ["ByAnnotator", "PairwiseJudge", "PointwiseJudge", "RewardSpec", "annotator_spec", "reward_spec"]
