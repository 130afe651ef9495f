"""Follow-up likelihood: a response is as good as what its reader is likely to say next."""

from typing import TYPE_CHECKING

from uptake.follow_up.set import FollowUpSet
from uptake.support.lazy import lazy

if TYPE_CHECKING:
    from uptake.follow_up.reward import FollowUpReward, FollowUpScores, FollowUpSpec

# What asks a model: Torch takes seconds to load, and ratings are read without it.
__getattr__ = lazy(__name__, {"reward": ("FollowUpReward", "FollowUpScores", "FollowUpSpec")})

__all__ = ["FollowUpReward", "FollowUpScores", "FollowUpSet", "FollowUpSpec"]
