"""Objectives: bind a pure loss kernel to the scorer and the reference, example by example."""

from uptake.objective.actor_critic import ActorCritic
from uptake.objective.base import Loss, Objective, RoundObjective
from uptake.objective.members import EachMember
from uptake.objective.next_token import NextToken
from uptake.objective.pairs import Pairs
from uptake.objective.rollout_batch import RolloutBatch
from uptake.objective.scored_pairs import ScoredPairs
from uptake.objective.token_rewards import TokenRewards
from uptake.objective.unpaired import Unpaired, mismatched

__all__ = [
    "ActorCritic",
    "EachMember",
    "Loss",
    "NextToken",
    "Objective",
    "Pairs",
    "RolloutBatch",
    "RoundObjective",
    "ScoredPairs",
    "TokenRewards",
    "Unpaired",
    "mismatched",
]
