"""Feedback: judges of responses."""

from uptake.feedback.follow_up import FollowUpReward, FollowUps, FollowUpScores
from uptake.feedback.followup_set import FollowUpSet

__all__ = ["FollowUpReward", "FollowUpScores", "FollowUpSet", "FollowUps"]
