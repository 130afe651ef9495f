"""The update: optimizer, schedule, the reach of a run, and one step from micro-batches that equals one big batch."""

from uptake.support.options import OptimizerName, Precision, Schedule
from uptake.update.memory import StepMemory, fitting, fitting_tokens, step_memory
from uptake.update.optimization import Optimization, build_optimizer, set_rate
from uptake.update.reach import Reach, advice, rates_line, reach_of, settings_that_move, steps_of
from uptake.update.step import optimizer_step, precision, trainable, trainable_modules

__all__ = [
    "Optimization",
    "OptimizerName",
    "Precision",
    "Reach",
    "Schedule",
    "StepMemory",
    "advice",
    "build_optimizer",
    "fitting",
    "fitting_tokens",
    "optimizer_step",
    "precision",
    "rates_line",
    "reach_of",
    "set_rate",
    "settings_that_move",
    "step_memory",
    "steps_of",
    "trainable",
    "trainable_modules",
]
