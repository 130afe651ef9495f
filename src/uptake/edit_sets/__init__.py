"""Edit sets: which words of answers people found wrong, or how they would correct them. One file a set, as elsewhere.

A set's file has a docstring (what its rows are, who wrote them, which are held out, source and license), and

    FOLDER  the folder of its files under the data folder
    local   (folder) -> edited rows from the files there, with a reason in place of a row that is left out

A row's `extra` says its `source` and its `split`, "train" or "heldout". Splits are by question, never by answer.
"""

from collections.abc import Iterator
from pathlib import Path

from uptake.edit_sets.items import Row
from uptake.support.registry import Registry

__all__ = ["Row", "find", "names", "read_edits"]

_FILES = Registry(__name__, "edit set", frozenset({"items"}))
names, find = _FILES.names, _FILES.find


def read_edits(name: str, data: Path) -> Iterator[Row]:
    """The rows of a set, of both splits, from its folder under the data folder.

    Raises InputError for an unknown name, a folder that is not there, and a row that cannot be read.
    """
    return _FILES.rows(name, data)
