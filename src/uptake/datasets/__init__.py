"""Data sets: what people and models said of responses. One file a set, and the file name is the registry.

A set's file has a docstring (what its rows are, who judged them, which are held out), and

    FOLDER   its folder under the data folder, or None where it is on the Hub only
    SOURCE   repository and paper
    LICENSE  of the data

and a function for each kind of row that it offers. It takes the set's folder, or nothing where its name begins with
`hub_`, and gives the rows of the files there, with a reason in place of a row that is left out:

    comparisons    `Comparison`: which of two responses is preferred
    ratings        `Rating`: what people gave a response
    candidates     `Candidates`: several responses with their qualities
    preferences    `Preference`: comparisons of rows to learn from
    feedback       `Feedback`: what readers wrote about a response
    edits          `Edited`: which words were wrong; `extra` says the `source` and the `split`
    conversations  `Dialogue`: whole conversations to learn from

The first three are evaluated by `uptake bench`, and all of their rows are held out. Of feedback and edits, held out is
what the set's own files say, else one question in ten: by question, never by answer.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from uptake.datasets.items import Candidates, Comparison, Feedback, Item, Rating
from uptake.errors import InputError
from uptake.support.registry import Registry

__all__ = [
    "EVALUATED",
    "KINDS",
    "Absent",
    "Benchmark",
    "Candidates",
    "Comparison",
    "Feedback",
    "Item",
    "Rating",
    "find",
    "first_line",
    "folder_of",
    "names",
    "offers",
    "open_benchmarks",
    "origin",
    "read_set",
    "spelled",
]

EVALUATED = ("comparisons", "ratings", "candidates")
KINDS = (*EVALUATED, "preferences", "feedback", "edits", "conversations")

_FILES = Registry(__name__, "data set", frozenset({"hh", "items", "parse", "records"}))
find, spelled = _FILES.find, _FILES.spelled


@dataclass(frozen=True)
class Benchmark:
    """The evaluated items of a data set, all of one kind, with how many rows were left out and why."""

    name: str
    about: str
    items: Sequence[Item]
    skipped: dict[str, int]


@dataclass(frozen=True)
class Absent:
    """A benchmark that is not at hand, and why."""

    name: str
    reason: str


def names(*kinds: str) -> list[str]:
    """Names of all data sets, or of those that offer one of these kinds."""
    return [name for name in _FILES.names() if not kinds or not set(kinds).isdisjoint(offers(name))]


def offers(name: str) -> tuple[str, ...]:
    """Kinds of rows that a data set has; raises InputError for an unknown set."""
    module = find(name)
    return tuple(kind for kind in KINDS if hasattr(module, kind) or hasattr(module, f"hub_{kind}"))


def folder_of(name: str, data: Path | None) -> Path | None:
    """Folder of a data set under the data folder, where it is there."""
    folder = find(name).FOLDER
    return data / folder if data is not None and folder and (data / folder).is_dir() else None


def origin(name: str, data: Path | None) -> str:
    """Where a data set is read from: "here", "Hub", or the name of the folder that is not there."""
    module = find(name)
    if folder_of(name, data) is not None:
        return "here"
    return "Hub" if any(hasattr(module, f"hub_{kind}") for kind in KINDS) else f"folder {module.FOLDER}"


def first_line(name: str) -> str:
    """First line of a data set's docstring."""
    return (find(name).__doc__ or "").split("\n")[0]


def read_set(name: str, kind: str, data: Path | None) -> Iterator[Any]:
    """Rows of one kind of a data set, of both splits, from its folder under the data folder, else from the Hub.

    Raises InputError for an unknown set, a kind that it does not offer, a set that is at neither place, and a row that
    cannot be read.
    """
    module, folder = find(name), folder_of(name, data)
    if kind not in offers(name):
        raise InputError(f"{name} offers no {kind}", allowed=", ".join(offers(name)))
    rows: Iterator[Any]
    if folder is not None:
        rows = getattr(module, kind)(folder)
    elif hasattr(module, f"hub_{kind}"):
        rows = getattr(module, f"hub_{kind}")()
    else:
        raise InputError(f"no folder {module.FOLDER!r}", path=data, allowed="a folder of data sets, one folder each")
    return rows


def open_benchmarks(name: str, data: Path | None) -> list[Benchmark | Absent]:
    """Evaluated items of a data set, from the data folder, else from the Hub; Absent, with one line why, from neither.

    A set with items of several kinds is several benchmarks, named by set and kind: `rmb_comparisons`,
    `rmb_candidates`. Rows that cannot be used (no response, say) are skipped and counted by reason. Raises InputError
    for an unknown name, for a set without such items, and for a file that cannot be read.
    """
    name = spelled(name)
    kinds = [kind for kind in offers(name) if kind in EVALUATED]
    if not kinds:
        raise InputError(f"data set {name!r} is no benchmark", allowed=", ".join(names(*EVALUATED)))
    return [_open(name, kind, f"{name}_{kind}" if len(kinds) > 1 else name, data) for kind in kinds]


def _open(name: str, kind: str, label: str, data: Path | None) -> Benchmark | Absent:
    module, folder = find(name), folder_of(name, data)
    if folder is None and not hasattr(module, f"hub_{kind}"):
        return Absent(label, f"no folder {module.FOLDER!r} under the data folder, and it is not on the Hub")
    items: list[Item] = []
    skipped: dict[str, int] = {}
    try:
        for row in read_set(name, kind, data):
            if isinstance(row, str):
                skipped[row] = skipped.get(row, 0) + 1
            else:
                items.append(row)
    except InputError as error:
        if folder is not None:
            raise
        return Absent(label, str(error))
    return Benchmark(label, first_line(name), items, skipped)
