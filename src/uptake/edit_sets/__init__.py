"""Edit sets: which words of answers people found wrong, or how they would correct them. One file a set, as elsewhere.

A set's file has a docstring (what its rows are, who wrote them, which are held out, source and license), and

    FOLDER  the folder of its files under the data folder
    local   (folder) -> edited rows from the files there, with a reason in place of a row that is left out

A row's `extra` says its `source` and its `split`, "train" or "heldout". Splits are by question, never by answer.
"""

import difflib
import pkgutil
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from types import ModuleType

from uptake.edit_sets.items import Row
from uptake.errors import InputError

__all__ = ["Row", "find", "names", "read_edits"]


def names() -> list[str]:
    """The edit sets there are."""
    return sorted(module.name for module in pkgutil.iter_modules(__path__) if module.name != "items")


def find(name: str) -> ModuleType:
    """A set's module; raises InputError with the nearest name for one that is not there."""
    wanted = name.strip().lower().replace("-", "_")
    if wanted not in names():
        near = difflib.get_close_matches(wanted, names(), n=1)
        hint = f"; did you mean {near[0]}?" if near else ""
        raise InputError(f"there is no edit set {name!r}{hint}", allowed=", ".join(names()))
    return import_module(f"{__name__}.{wanted}")


def read_edits(name: str, data: Path) -> Iterator[Row]:
    """The rows of a set, of both splits, from its folder under the data folder.

    Raises InputError for an unknown name, a folder that is not there, and a row that cannot be read.
    """
    module = find(name)
    folder = data / module.FOLDER
    if not folder.is_dir():
        raise InputError(f"no folder {module.FOLDER!r}", path=data, allowed="a folder of data sets, one folder each")
    rows: Iterator[Row] = module.local(folder)
    return rows
