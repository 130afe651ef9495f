"""The update: optimizer, schedule, and one optimizer step from micro-batches that equals one big batch."""

from uptake.support.options import OptimizerName, Precision, Schedule
from uptake.update.optimization import Optimization, build_optimizer, set_rate
from uptake.update.step import optimizer_step, precision, trainable, trainable_modules

__all__ = [
    "Optimization",
    "OptimizerName",
    "Precision",
    "Schedule",
    "build_optimizer",
    "optimizer_step",
    "precision",
    "set_rate",
    "trainable",
    "trainable_modules",
]
