"""Rollouts: what produces the responses that a method learns from, sampled from a model."""

from uptake.rollout.policy import PolicySamples

__all__ = ["PolicySamples"]
