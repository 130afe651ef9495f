"""Progress bars on standard error for long work; silent where standard error is not a terminal."""

from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn


class Bar:
    """One running bar: `advance()` by some units of work, `say()` something beside it."""

    def __init__(self, progress: Progress, description: str, total: int) -> None:
        self._progress = progress
        self._task = progress.add_task(description, total=total, note="")

    def advance(self, units: int = 1) -> None:
        self._progress.advance(self._task, units)

    def say(self, note: str) -> None:
        self._progress.update(self._task, note=note)


@contextmanager
def progress_bar(description: str, total: int) -> Iterator[Bar]:
    """A bar for `total` units of work."""
    console = Console(stderr=True)
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
        TextColumn("[dim]{task.fields[note]}"),
    )
    with Progress(*columns, console=console, disable=not console.is_terminal, transient=True) as progress:
        yield Bar(progress, description, total)
