"""Judges: rewards and annotators by name, and how a round's rollouts are judged by them."""

from uptake.judge.pairwise import ByAnnotator, PairwiseJudge
from uptake.judge.pointwise import PointwiseJudge
from uptake.judge.registry import annotator_spec, reward_spec
from uptake.rewards.base import RewardSpec

__all__ = ["ByAnnotator", "PairwiseJudge", "PointwiseJudge", "RewardSpec", "annotator_spec", "reward_spec"]
