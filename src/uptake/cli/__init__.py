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

from uptake.errors import InputError, UptakeError
from uptake.support.notes import clear_notes, notes
from uptake.support.stop import Stopped, stopped_by_signals
from uptake.support.texts import whole
from uptake.support.threads import patient_threads

# In the order of `uptake --help`: the way a newcomer goes.
COMMANDS = (
    *("demo", "can_judge", "score", "calibrate", "bench", "judge", "annotate", "edit"),
    *("mine", "mine_logs", "discover", "train", "extrapolate", "eval", "report", "show_tokens"),
    *("datasets", "corpus", "init_model", "check", "methods"),
)


def main() -> None:
    """Run the command line; an error that a person can act on is one message and exit code 2.

    So is the end by a signal: one line, and exit code 130, 143 or 129; and so is what nobody foresaw, with code 70. The
    last lines say what was noted of rows: how many were left out, and what they hold and no model read.
    """
    logging.basicConfig(level=logging.WARNING, format="%(message)s", stream=sys.stderr)
    _utf8_streams()
    _quiet_libraries()
    patient_threads()
    clear_notes()
    try:
        with stopped_by_signals() as came, _restored_environment():
            try:
                _call()
            except (Exception, Stopped) as error:
                # Whatever becomes of a stop on its way out is no error of its own.
                raise SystemExit(_told(came() or error)) from None
            finally:
                with suppress(OSError):
                    for line in notes():
                        _note(line)
                _give_up_printing()
    except Stopped as stop:  # before the work began, or while it was said how it ended
        raise SystemExit(_told(stop)) from None


def _call() -> None:
    """Read the command line and do what it says. Nothing is imported before signals are heard: that takes a while."""
    _check_arguments()
    for command in COMMANDS:
        import_module(f"{__name__}.{command}")
    try:
        import_module(f"{__name__}.options").app()
    finally:
        sys.stdout.flush()  # a full disk is met here, and not when nobody can say so any more


def _check_arguments() -> None:
    """Raise InputError for an argument that is no text: nothing could repeat it, on a screen or in a file."""
    for number, argument in enumerate(sys.argv[1:], start=1):
        try:
            whole(argument)
        except ValueError as error:
            raise InputError(f"argument {number} is not UTF-8 text: {argument!r}", allowed="UTF-8") from error


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
    if isinstance(error, OSError | MemoryError):  # what the machine refuses, and nobody expected it there
        _say(_refused(error), "error")
        return 2
    _say(_unforeseen(error))
    return 70


def _refused(error: OSError | MemoryError) -> str:
    """What the machine refused, and of which file, as far as it is known."""
    if isinstance(error, MemoryError):
        return "there is not enough memory"
    of = "" if error.filename is None else f"{error.filename}: "
    return f"{of}{error.strerror or error}"


def _give_up_printing() -> None:
    """What cannot be printed is let go of: Python would try again when the process ends, and tell of that alone."""
    try:
        sys.stdout.flush()
    except OSError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


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
    before = {name: os.environ.get(name) for name in ("UPTAKE_SPELLED_TOKENS", "UPTAKE_CHAT_TEMPLATE")}
    try:
        yield
    finally:
        for name, value in before.items():
            os.environ.pop(name, None)
            if value is not None:
                os.environ[name] = value


def _utf8_streams() -> None:
    """What is printed is UTF-8, as all files are, and half a surrogate pair is spelled out: no text ends a command."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper):
            stream.reconfigure(encoding="utf-8", errors="backslashreplace")


def _quiet_libraries() -> None:
    """Transformers' own bars and notes say nothing about the work that was asked for."""
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
    os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
