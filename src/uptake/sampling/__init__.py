"""Sampling: responses to prompts as token ids, drawn in this process or by a server."""

from uptake.sampling.answer import PromptIds
from uptake.sampling.draw import Sampling
from uptake.sampling.sampler import sample, stream

__all__ = ["PromptIds", "Sampling", "sample", "stream"]
