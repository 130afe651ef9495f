"""Signals that end a command: they leave it as an exception, so that all is tidied up and said on the way out."""

import os
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from threading import Timer
from time import monotonic
from types import FrameType
from typing import final

# Seconds in which the copies of a signal come that `timeout`, a shell or a closed terminal sends.
COPIES = 2.0
# Seconds after which a signal comes again that was lost where nothing can be raised.
AGAIN = 0.05


@final
class Stopped(SystemExit):
    """A signal has come: `by` is its name, `at` the work that was under way, from the whole to the part.

    `goes_on` says how it goes on; the exit status is 128 and the signal's number.
    """

    def __init__(self, number: int) -> None:
        super().__init__(128 + number)
        self.number, self.by = number, signal.Signals(number).name
        self.at, self.goes_on = list[str](), "the same command begins anew"

    def __str__(self) -> str:
        at = f" at {', '.join(self.at)}" if self.at else ""
        return f"stopped by {self.by}{at}; {self.goes_on}"


@contextmanager
def stopped_by_signals() -> Iterator[Callable[[], Stopped | None]]:
    """While the block runs, the first SIGINT, SIGTERM or SIGHUP raises `Stopped` in it; gives what was raised so far.

    Code on the way may make another exception of it, as an import of numpy does; what is raised in a finalizer or a
    callback of the interpreter ends nothing, so there it comes again. More signals within `COPIES` seconds change
    nothing; later ones end the process at once. A signal that the process was started to ignore, as under nohup, stays
    ignored.
    """
    numbers = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    before = {number: found for number in numbers if (found := signal.getsignal(number)) != signal.SIG_IGN}
    say_lost, came, first = sys.unraisablehook, list[Stopped](), float("inf")

    def stop(number: int, frame: FrameType | None) -> None:
        nonlocal first
        if not came:
            first = monotonic()
            came.append(Stopped(number))
            raise came[0]
        if monotonic() > first + COPIES:
            signal.signal(number, signal.SIG_DFL)
            signal.raise_signal(number)

    def lost(found: "sys.UnraisableHookArgs") -> None:
        if isinstance(found.exc_value, Stopped):
            came.clear()
            Timer(AGAIN, os.kill, (os.getpid(), found.exc_value.number)).start()
        else:
            say_lost(found)

    for number in before:
        signal.signal(number, stop)
    sys.unraisablehook = lost
    try:
        yield lambda: came[0] if came else None
    finally:
        sys.unraisablehook = say_lost
        for number, found in before.items():
            signal.signal(number, found)


@contextmanager
def going_on(how: Callable[[], str]) -> Iterator[None]:
    """Work that a later call goes on with: `how` says so, and where from, when a signal stops the block."""
    try:
        yield
    except Stopped as stop:
        stop.goes_on = how()
        raise
