"""The command line: one file per command, each one call into the public API."""

import logging
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from importlib import import_module
from io import TextIOWrapper
from tempfile import NamedTemporaryFile
from traceback import format_exception_only, print_exception

from uptake.errors import UptakeError
from uptake.support.notes import clear_notes, notes
from uptake.support.stop import Stopped, stopped_by_signals

# In the order of `uptake --help`: the way a newcomer goes.
COMMANDS = (
    *("demo", "can_judge", "score", "calibrate", "bench", "judge", "annotate", "edit"),
    *("mine", "mine_logs", "discover", "train", "extrapolate", "eval", "report", "show_tokens"),
    *("datasets", "corpus", "init_model", "check", "methods"),
)


def main() -> None:
    """Run the command line; an error that a person can act on is one message and exit code 2.

    So is the end by a signal: one line, and exit code 130, 143 or 129; and so is what nobody foresaw, with code 70. The
    last lines say what was noted of rows: what they hold and no model read.
    """
    logging.basicConfig(level=logging.WARNING, format="%(message)s", stream=sys.stderr)
    _utf8_streams()
    _quiet_libraries()
    _patient_threads()
    clear_notes()
    with stopped_by_signals() as came, _restored_environment():
        try:
            _call()
        except (Exception, Stopped) as error:
            # Whatever becomes of a stop on its way out is no error of its own.
            raise SystemExit(_told(came() or error)) from None
        finally:
            for line in notes():
                _note(line)


def _call() -> None:
    """Read the command line and do what it says. Nothing is imported before signals are heard: that takes a while."""
    for command in COMMANDS:
        import_module(f"{__name__}.{command}")
    import_module(f"{__name__}.options").app()


def _note(line: str) -> None:
    from uptake.cli.options import say

    say(line)


def _told(error: Exception | Stopped) -> str | int | None:
    """The exit status for an error, once it is said."""
    if isinstance(error, Stopped):
        logging.raiseExceptions = False  # at the end, of a handler that was half made
        _say(str(error))
        return error.code
    if isinstance(error, UptakeError):
        _say(str(error), "error")
        return 2
    _say(_unforeseen(error))
    return 70


def _unforeseen(error: Exception) -> str:
    """A line for an error that no person can act on, with the file of its traceback."""
    with NamedTemporaryFile("w", prefix="uptake-", suffix=".txt", delete=False, encoding="utf-8") as file:
        print_exception(error, file=file)
    what = "".join(format_exception_only(error)).strip().partition("\n")[0]
    whose = "a fault of Uptake, unless code of your own raised it"
    return f"an error that nobody foresaw, {what}: {whose}; the traceback is in {file.name}"


def _say(line: str, kind: str = "") -> None:
    """Print a line of some kind on standard error, where there is one still."""
    from rich.console import Console
    from rich.markup import escape

    with suppress(OSError):
        begin = f"[bold red]{kind}[/bold red]: " if kind else ""
        Console(stderr=True).print(begin + escape(line), highlight=False, soft_wrap=True)


@contextmanager
def _restored_environment() -> Iterator[None]:
    """What an option sets for the threads and processes of one command ends with it."""
    before = os.environ.get("UPTAKE_SPELLED_TOKENS")
    try:
        yield
    finally:
        os.environ.pop("UPTAKE_SPELLED_TOKENS", None)
        if before is not None:
            os.environ["UPTAKE_SPELLED_TOKENS"] = before


def _utf8_streams() -> None:
    """What is printed is UTF-8, as all files are: a text of a data set ends no command whose locale cannot spell it."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper):
            stream.reconfigure(encoding="utf-8", errors="backslashreplace")


def _patient_threads() -> None:
    """Threads of OpenMP that wait for another soon do so asleep.

    By default they spin, and where neighbours have taken a core they spin for the thread that this core would run. So
    many turns cost next to nothing where nobody else is about (bench/bench_neighbours.py). What the user has set stays.
    Torch reads this when it is imported, which no command has done yet.
    """
    if "OMP_WAIT_POLICY" not in os.environ:
        os.environ.setdefault("GOMP_SPINCOUNT", "5000")
        os.environ.setdefault("KMP_BLOCKTIME", "1")


def _quiet_libraries() -> None:
    """Transformers' own bars and notes say nothing about the work that was asked for."""
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
    os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
