"""The command line: one file per command, each one call into the public API."""

import logging
import os
import sys
from importlib import import_module

from rich.console import Console
from rich.markup import escape

from uptake.cli.options import app
from uptake.errors import UptakeError

# In the order of `uptake --help`: the way a newcomer goes.
COMMANDS = (
    *("demo", "can_judge", "score", "calibrate", "bench", "judge", "annotate", "edit"),
    *("mine", "mine_logs", "discover", "train", "eval", "report", "show_tokens"),
    *("datasets", "corpus", "init_model", "check", "methods"),
)
for command in COMMANDS:
    import_module(f"{__name__}.{command}")


def main() -> None:
    """Run the command line; an error that a person can act on is one message and exit code 2."""
    logging.basicConfig(level=logging.WARNING, format="%(message)s", stream=sys.stderr)
    _quiet_libraries()
    try:
        app()
    except UptakeError as error:
        Console(stderr=True).print(f"[bold red]error[/bold red]: {escape(str(error))}", highlight=False, soft_wrap=True)
        raise SystemExit(2) from None


def _quiet_libraries() -> None:
    """Transformers' own bars and notes say nothing about the work that was asked for."""
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
    os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
