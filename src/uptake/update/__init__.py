"""The update: optimizer, schedule, and one optimizer step from micro-batches that equals one big batch."""

from uptake.update.optimization import Kind, Optimization, build_optimizer
from uptake.update.step import optimizer_step, trainable

__all__ = ["Kind", "Optimization", "build_optimizer", "optimizer_step", "trainable"]
