"""Rollouts: responses to prompts, sampled from a model or taken from rows."""

from uptake.rollout.answer import PromptIds
from uptake.rollout.engine import sample, stream
from uptake.rollout.policy import PolicySamples
from uptake.rollout.sampling import Sampling

__all__ = ["PolicySamples", "PromptIds", "Sampling", "sample", "stream"]
