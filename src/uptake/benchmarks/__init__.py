"""Benchmarks of reward models: one file per data set, and the file name is the registry.

A benchmark's file has a docstring (what its rows are, who judged them, source and license), and

    FOLDER   the folder of its files under the data folder, or None where it is read from the Hub only
    local    (folder) -> the items of the files there, or None without a folder
    hub      () -> the items from the Hub, or None where it is not on the Hub
    training (folder) -> whole conversations of rows that are not evaluated; only where a set has such rows

Items of one benchmark are all of one kind: `Comparison`, `Rating` or `Candidates`.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

from uptake.benchmarks.items import Candidates, Comparison, Item, Rating, Row
from uptake.errors import InputError
from uptake.support.registry import Registry

__all__ = [
    "Absent",
    "Benchmark",
    "Candidates",
    "Comparison",
    "Item",
    "Rating",
    "Row",
    "find",
    "names",
    "open_benchmark",
]

_FILES = Registry(__name__, "benchmark", frozenset({"chats", "hh", "items", "parse", "rmb"}))
names, find = _FILES.names, _FILES.find


@dataclass(frozen=True)
class Benchmark:
    """The items of one data set, all of one kind, with how many rows were left out and why."""

    name: str
    about: str
    items: Sequence[Item]
    skipped: dict[str, int]


@dataclass(frozen=True)
class Absent:
    """A benchmark that is not at hand, and why."""

    name: str
    reason: str


def open_benchmark(name: str, data: Path | None) -> Benchmark | Absent:
    """The items of a benchmark from the data folder, else from the Hub; Absent, with one line why, from neither.

    Rows that cannot be used (no response, say) are skipped and counted by reason. Raises InputError for an unknown name
    and for a file that cannot be read.
    """
    module = find(name)
    folder = data / module.FOLDER if data is not None and module.FOLDER else None
    if folder is not None and folder.is_dir():
        return _benchmark(name, module, module.local(folder))
    if module.hub is None:
        return Absent(name, f"no folder {module.FOLDER!r} under the data folder, and it is not on the Hub")
    try:
        return _benchmark(name, module, module.hub())
    except InputError as error:
        return Absent(name, str(error))


def _benchmark(name: str, module: ModuleType, rows: Any) -> Benchmark:
    items: list[Item] = []
    skipped: dict[str, int] = {}
    for row in rows:
        if isinstance(row, str):
            skipped[row] = skipped.get(row, 0) + 1
        else:
            items.append(row)
    return Benchmark(name, (module.__doc__ or "").split("\n")[0], items, skipped)
