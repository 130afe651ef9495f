"""The command line: one file per command, each one call into the public API."""

import logging
import os
import sys
from contextvars import copy_context
from importlib import import_module

from rich.console import Console
from rich.markup import escape

from uptake.cli.options import app, say
from uptake.errors import UptakeError
from uptake.support.notes import clear_notes, notes

# In the order of `uptake --help`: the way a newcomer goes.
COMMANDS = (
    *("demo", "can_judge", "score", "calibrate", "bench", "judge", "annotate", "edit"),
    *("mine", "mine_logs", "discover", "train", "eval", "report", "show_tokens"),
    *("datasets", "corpus", "init_model", "check", "methods"),
)
for command in COMMANDS:
    import_module(f"{__name__}.{command}")


def main() -> None:
    """Run the command line; an error that a person can act on is one message and exit code 2.

    The last lines say what was noted of rows: what they hold and no model read.
    """
    logging.basicConfig(level=logging.WARNING, format="%(message)s", stream=sys.stderr)
    _quiet_libraries()
    clear_notes()
    try:
        copy_context().run(app)  # what an option sets for one command ends with it
    except UptakeError as error:
        Console(stderr=True).print(f"[bold red]error[/bold red]: {escape(str(error))}", highlight=False, soft_wrap=True)
        raise SystemExit(2) from None
    finally:
        for line in notes():
            say(line)


def _quiet_libraries() -> None:
    """Transformers' own bars and notes say nothing about the work that was asked for."""
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
    os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
