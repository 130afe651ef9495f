"""Follow-up likelihood: a response is as good as what its reader is likely to say next."""

from uptake.follow_up.reward import FollowUpReward, FollowUpScores, FollowUpSpec
from uptake.follow_up.set import FollowUpSet

__all__ = ["FollowUpReward", "FollowUpScores", "FollowUpSet", "FollowUpSpec"]
