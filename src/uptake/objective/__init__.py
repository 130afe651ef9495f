"""Objectives: bind a pure loss kernel to the scorer and the reference, example by example."""

from uptake.objective.actor_critic import ActorCritic, Experience
from uptake.objective.base import Batchwise, Derives, Loss, Objective, Prepared, Prepares, Shows, Stops
from uptake.objective.next_token import NextToken
from uptake.objective.pairs import Pairs
from uptake.objective.scored_pairs import ScoredPairs
from uptake.objective.token_rewards import TokenRewards
from uptake.objective.unpaired import Unpaired, mismatched

__all__ = [
    "ActorCritic",
    "Batchwise",
    "Derives",
    "Experience",
    "Loss",
    "NextToken",
    "Objective",
    "Pairs",
    "Prepared",
    "Prepares",
    "ScoredPairs",
    "Shows",
    "Stops",
    "TokenRewards",
    "Unpaired",
    "mismatched",
]
