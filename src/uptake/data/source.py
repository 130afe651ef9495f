"""Sources of rows: a file, a folder of files, the files of a pattern, or a data set on the Hub."""

import re
from collections.abc import Iterable, Iterator
from glob import glob
from pathlib import Path

from uptake.data.files import ENDINGS, read_file, suffix
from uptake.data.where import Record
from uptake.errors import InputError
from uptake.support.paths import is_local, near_words
from uptake.types import Where

_HUB_NAME = re.compile(r"(?P<scheme>hf://datasets/)?(?P<name>[\w.-]+/[\w.-]+)(:(?P<split>[\w.\[\]:%+-]+))?")
_SOURCES = 'an existing file, folder or pattern, or a Hub name "org/name" or "org/name:split"'
# What Datasets writes beside the rows of a folder.
_NO_ROWS = ("dataset_info.json", "dataset_infos.json", "dataset_dict.json", "state.json")


def records(source: str | Path, limit: int | None = None) -> Iterator[tuple[Where, Record]]:
    """The records of a source, file after file; of a data set on the Hub, those of the split "train" unless named.

    Places are lines (JSON, JSONL) or rows without the header (CSV, TSV, Parquet, Arrow, Hub), from 1. Raises InputError
    where the source does not exist or cannot be parsed: a path that is misspelt is never looked up on the Hub, which
    "hf://datasets/org/name" always means. `limit` lets a data set on the Hub be fetched in part; it bounds no file.
    """
    path, hub = Path(source), _HUB_NAME.fullmatch(str(source))
    if path.is_file():
        return read_file(path)
    if path.is_dir():
        return _all(_of_folder(path))
    if re.search(r"[*?\[]", str(source)) and not (hub and hub["split"]):
        return _all(_of_pattern(str(source)))
    if hub and (hub["scheme"] or not (_has_ending(path) or is_local(hub["name"]))):
        return _hub(hub["name"], hub["split"] or "train", limit)
    raise InputError(f"no such file or folder{near_words(path)}", path=path, allowed=_SOURCES)


def _all(paths: Iterable[Path]) -> Iterator[tuple[Where, Record]]:
    for path in paths:
        yield from read_file(path)


def _has_ending(path: Path) -> bool:
    return path.name.lower().endswith(ENDINGS)


def _of_folder(folder: Path) -> list[Path]:
    """The files of rows in a folder, by name; InputError where there is none, or more than one format."""
    found = sorted(path for path in folder.iterdir() if _has_ending(path) and _may_hold_rows(path))
    if not found:
        folders = ", ".join(sorted(path.name for path in folder.iterdir() if path.is_dir()))
        below = f"; the folders in it are: {folders}" if folders else ""
        raise InputError(f"no file of rows in this folder{below}", path=folder, allowed=f"files {', '.join(ENDINGS)}")
    formats = sorted({suffix(path, ENDINGS) for path in found})
    if len(formats) > 1:
        allowed = f"one of them: {folder}/*{formats[0]}"
        raise InputError(f"files of several formats: {', '.join(formats)}", path=folder, allowed=allowed)
    return found


def _may_hold_rows(path: Path) -> bool:
    return path.is_file() and path.name not in _NO_ROWS and not path.name.startswith((".", "_"))


def _of_pattern(pattern: str) -> list[Path]:
    found = [path for path in map(Path, sorted(glob(pattern, recursive=True))) if path.is_file()]
    if not found:
        raise InputError("no file fits this pattern", path=pattern, allowed=_SOURCES)
    return found


def _hub(name: str, split: str, limit: int | None) -> Iterator[tuple[Where, Record]]:
    import datasets  # noqa: PLC0415 - takes long to import, and no local file needs it

    try:
        rows = datasets.load_dataset(name, split=split, streaming=limit is not None)
        for number, row in enumerate(rows, start=1):
            yield Where(Path(name), number), {column: value for column, value in row.items() if value is not None}
    except (datasets.exceptions.DatasetsError, OSError, ValueError) as error:
        problem = f"cannot load split {split!r} of this data set: {error}"
        raise InputError(problem, path=name, allowed=_SOURCES) from error
