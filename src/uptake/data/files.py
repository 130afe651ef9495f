"""Records of every file format, one mapping a row, each with the place it came from."""

import csv
import gzip
import json
import re
import zlib
from collections.abc import Callable, Iterator
from itertools import count
from pathlib import Path
from typing import Any, AnyStr

import pyarrow as pa
import pyarrow.parquet as pq

from uptake.data.where import Record, bad_row
from uptake.errors import InputError
from uptake.types import Where

_HUB_NAME = re.compile(r"(?P<name>[\w.-]+/[\w.-]+)(:(?P<split>[\w.\[\]:%+-]+))?")
_BETWEEN_ITEMS = " \t\r\n,"
# Of a file, in bytes, or in characters of a CSV file: one that is a single endless line does not fill the memory.
LONGEST_LINE = 1 << 26
_PARQUET_BATCH = 1024
_SOURCES = 'an existing file, or a Hub name "org/name" or "org/name:split"'


def suffix(path: Path, allowed: tuple[str, ...]) -> str:
    """The ending of a file's name that tells its format, e.g. ".jsonl.gz"; InputError where it is none of `allowed`."""
    for ending in sorted(allowed, key=len, reverse=True):
        if path.name.lower().endswith(ending):
            return ending
    raise InputError(f"unknown file format {path.suffix!r}", path=path, allowed=", ".join(allowed))


def records(source: str | Path, limit: int | None = None) -> Iterator[tuple[Where, Record]]:
    """The records of a file, or of a data set on the Hub ("org/name" or "org/name:split"; the split is "train").

    Places are lines (JSON, JSONL) or rows without the header (CSV, Parquet, Hub), from 1. Raises InputError where
    the source does not exist or cannot be parsed. A cell that is null in Parquet or on the Hub counts as absent.
    `limit` lets a data set on the Hub be fetched in part; it bounds no local file.
    """
    path, hub = Path(source), _HUB_NAME.fullmatch(str(source))
    if path.is_file():
        return _READERS[suffix(path, tuple(_READERS))](path)
    if hub and not path.name.lower().endswith(tuple(_READERS)):
        return _hub(hub["name"], hub["split"] or "train", limit)
    raise InputError("no such file", path=path, allowed=_SOURCES)


def _jsonl(path: Path) -> Iterator[tuple[Where, Record]]:
    line = 0
    with gzip.open(path) if path.name.lower().endswith(".gz") else path.open("rb") as file:
        try:
            for line, raw in enumerate(_lines(file.readline, path), start=1):
                where = Where(path, line)
                text = _decode(raw, where)
                if text.strip():
                    yield where, _object(_parse(text.strip(), where), where)
        except (EOFError, gzip.BadGzipFile, zlib.error) as error:
            if not line:
                raise InputError(f"no gzip file: {error}", path=path, allowed="a file packed by gzip") from error
            raise bad_row(f"the gzip stream breaks off after this line: {error}", Where(path, line)) from error


def _json(path: Path) -> Iterator[tuple[Where, Record]]:
    start = Where(path, 1)
    text = _decode(path.read_bytes(), start)
    if not isinstance(_parse(text, start), list):
        raise bad_row(
            "the file is not a JSON list", start, allowed="[{...}, ...], or one object a line in a .jsonl file"
        )
    # Parsed a second time item by item, since only the decoder's positions tell an item's line.
    decoder, end, line = json.JSONDecoder(), text.index("[") + 1, 1 + text.count("\n", 0, text.index("["))
    while text[at := next(index for index in count(end) if text[index] not in _BETWEEN_ITEMS)] != "]":
        line += text.count("\n", end, at)
        item, end = decoder.raw_decode(text, at)
        where = Where(path, line)
        yield where, _object(item, where)
        line += text.count("\n", at, end)


def _csv(path: Path) -> Iterator[tuple[Where, Record]]:
    csv.field_size_limit(LONGEST_LINE)
    row = 0
    with path.open(encoding="utf-8-sig", newline="") as file:
        try:
            for row, cells in enumerate(csv.DictReader(_lines(file.readline, path), strict=True), start=1):
                where = Where(path, row)
                if None in cells or None in cells.values():
                    raise bad_row("the row has more or fewer cells than the header", where)
                yield where, {name: _cell(text) for name, text in cells.items()}
        except (csv.Error, UnicodeDecodeError) as error:
            raise bad_row(
                f"broken CSV: {error}", Where(path, row + 1), allowed="UTF-8 text, quoted by double quotes"
            ) from error


def _parquet(path: Path) -> Iterator[tuple[Where, Record]]:
    try:
        with pq.ParquetFile(path) as file:
            rows = (row for batch in file.iter_batches(_PARQUET_BATCH) for row in batch.to_pylist())
            yield from ((Where(path, number), _present(row)) for number, row in enumerate(rows, start=1))
    except (pa.ArrowException, OSError) as error:
        raise InputError(f"not a readable Parquet file: {error}", path=path) from error


def _hub(name: str, split: str, limit: int | None) -> Iterator[tuple[Where, Record]]:
    import datasets  # noqa: PLC0415 - takes long to import, and no local file needs it

    try:
        rows = datasets.load_dataset(name, split=split, streaming=limit is not None)
        for number, row in enumerate(rows, start=1):
            yield Where(Path(name), number), _present(row)
    except (datasets.exceptions.DatasetsError, OSError, ValueError) as error:
        problem = f"cannot load split {split!r} of this data set: {error}"
        raise InputError(problem, path=name, allowed=_SOURCES) from error


_READERS = {".jsonl": _jsonl, ".jsonl.gz": _jsonl, ".json": _json, ".csv": _csv, ".parquet": _parquet}


def _lines(read: Callable[[int], AnyStr], path: Path) -> Iterator[AnyStr]:
    for number in count(1):
        line = read(LONGEST_LINE + 1)
        if len(line) > LONGEST_LINE:
            allowed = f"at most {LONGEST_LINE >> 20} MiB in a line"
            raise bad_row("a line without end", Where(path, number), allowed=allowed)
        if not line:
            return
        yield line


def _decode(raw: bytes, where: Where) -> str:
    try:
        return raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = where.line + raw.count(b"\n", 0, error.start)
        raise bad_row(f"not UTF-8 text: {error.reason}", Where(where.path, line)) from error


def _parse(text: str, where: Where) -> Any:
    try:
        return json.loads(text)
    except (json.JSONDecodeError, RecursionError) as error:
        line = where.line + getattr(error, "lineno", 1) - 1
        raise bad_row(f"broken JSON: {error}", Where(where.path, line)) from error


def _object(value: Any, where: Where) -> Record:
    if not isinstance(value, dict):
        raise bad_row(f"found a {type(value).__name__}", where, allowed="a JSON object in each row")
    return value


def _cell(text: str) -> Any:
    """The value of a CSV cell: its text, or the list where it spells a JSON list of objects, as conversations are."""
    if not text.startswith("[{"):
        return text
    try:
        return json.loads(text)
    except json.JSONDecodeError:
        return text


def _present(row: Record) -> Record:
    return {name: value for name, value in row.items() if value is not None}
