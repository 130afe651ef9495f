"""All that a process of a test would do before its own work: the server that they are forked from does it once."""

import gc
import pkgutil
from importlib import import_module

import hypothesis  # noqa: F401 - as files of tests do
import matplotlib.ticker  # noqa: F401
import peft.tuners.tuners_utils  # noqa: F401
import pytest  # noqa: F401
from tiny import tiny_llama

import uptake.report.sections
from uptake import cli

for name in (
    *(f"uptake.cli.{name}" for name in cli.COMMANDS),
    *(module.name for module in pkgutil.iter_modules(uptake.report.sections.__path__, "uptake.report.sections.")),
    *("uptake.tasks.mine", "uptake.tasks.score", "uptake.tasks.train", "uptake.methods.follow_up_likelihood"),
):
    import_module(name)
# The first call of every operation takes longer than those after it.
tiny_llama()
# No process looks through these objects for cycles, which would copy all of them.
gc.freeze()
