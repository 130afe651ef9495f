"""Progress of long work on standard error: bars on a terminal, elsewhere a line every half a minute."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import timedelta
from threading import Event, Lock, Thread

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    Task,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

from uptake.support.stop import Stopped

# Between two lines of a log.
SECONDS = 30.0
# The pace is that of the last thousand units, which Rich keeps, however long they took.
PERIOD = float("inf")


class Bar:
    """One running bar: `advance()` by some units of work, `say()` something beside it."""

    def __init__(self, progress: Progress, description: str, total: int) -> None:
        self._progress = progress
        self.task = progress.add_task(description, total=total, note="")
        # The pace counts from here: else two units that end together after an hour would promise all others at once.
        progress.advance(self.task, 0)

    def advance(self, units: int = 1) -> None:
        self._progress.advance(self.task, units)

    def say(self, note: str) -> None:
        self._progress.update(self.task, note=note)

    def __str__(self) -> str:
        (task,) = (each for each in self._progress.tasks if each.id == self.task)
        return f"{task.description} {task.completed:.0f} of {task.total:.0f}"


@contextmanager
def progress_bar(description: str, total: int) -> Iterator[Bar]:
    """A bar for `total` units of work; bars that run at the same time stand below one another."""
    progress = _display.open()
    bar = Bar(progress, description, total)
    try:
        yield bar
    except Stopped as stop:
        stop.at.insert(0, str(bar))
        raise
    finally:
        progress.remove_task(bar.task)
        _display.close()


class _Display:
    """The one live display that a terminal can hold, for as long as any bar runs, in whatever thread."""

    def __init__(self) -> None:
        self._lock = Lock()
        self._bars = 0
        self._progress = _new_progress()
        self._closed = Event()

    def open(self) -> Progress:
        with self._lock:
            if not self._bars:
                self._progress = _new_progress()
                self._progress.start()
                self._closed = Event()
                if self._progress.disable:
                    Thread(target=_log, args=(self._progress, self._closed), daemon=True).start()
            self._bars += 1
            return self._progress

    def close(self) -> None:
        with self._lock:
            self._bars -= 1
            if not self._bars:
                self._closed.set()
                with suppress(OSError):  # the terminal may be closed by now
                    self._progress.stop()


def _new_progress() -> Progress:
    console = Console(stderr=True)
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
        TextColumn("[dim]{task.fields[note]}"),
    )
    return Progress(
        *columns, console=console, disable=not console.is_terminal, transient=True, speed_estimate_period=PERIOD
    )


def _log(progress: Progress, closed: Event) -> None:
    """A line for all bars that run, time and again until they are closed."""
    while not closed.wait(SECONDS):
        if lines := [_line(task) for task in progress.tasks]:
            print("; ".join(lines), file=sys.stderr, flush=True)


def _line(task: Task) -> str:
    """How far some work is: "judge: 12 of 200, 0:00:30 gone, 0:07:50 left"."""
    gone, left = (
        None if each is None else timedelta(seconds=int(each)) for each in (task.elapsed, task.time_remaining)
    )
    times = [f"{time} {what}" for time, what in ((gone, "gone"), (left, "left")) if time is not None]
    return ", ".join([f"{task.description}: {task.completed:.0f} of {task.total:.0f}", *times])


_display = _Display()
