"""Records of every file format, one mapping a row, each with the place it came from."""

import csv
import gzip
import json
import zlib
from codecs import BOM_UTF8
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from functools import partial
from io import BufferedReader, TextIOWrapper
from itertools import count, product
from pathlib import Path
from typing import Any, AnyStr

import pyarrow as pa
import pyarrow.parquet as pq

from uptake.data.values import parsed
from uptake.data.where import Record, bad_row
from uptake.errors import InputError
from uptake.support.texts import once, twice
from uptake.types import Where

_BETWEEN_ITEMS = " \t\r\n,"
# Made once: `json.loads` makes one for every text.
_DECODER = json.JSONDecoder(object_pairs_hook=once)
# Of a file, in bytes, or in characters of a CSV file: one that is a single endless line does not fill the memory.
LONGEST_LINE = 1 << 26
_PARQUET_BATCH = 1024
# What an Arrow file begins with, and a stream does not.
_ARROW_FILE = b"ARROW1"
# What a file raises that cannot be read, or is packed and cut off or damaged.
_UNREADABLE = (OSError, EOFError, zlib.error)


def suffix(path: Path, allowed: tuple[str, ...]) -> str:
    """The ending of a file's name that tells its format, e.g. ".jsonl.gz"; InputError where it is none of `allowed`."""
    for ending in sorted(allowed, key=len, reverse=True):
        if path.name.lower().endswith(ending):
            return ending
    raise InputError(f"unknown file format {path.suffix!r}", path=path, allowed=", ".join(allowed))


def read_file(path: Path) -> Iterator[tuple[Where, Record]]:
    """The records of a file by its format; a cell that is null in a table counts as absent, and so does an empty one.

    Raises InputError, naming the line as far as it is known, where the file cannot be parsed.
    """
    return _READERS[suffix(path, ENDINGS)](path)


@contextmanager
def _unpacked(path: Path) -> Iterator[BufferedReader | gzip.GzipFile]:
    """The bytes of a file, unpacked as its name says; damage is an InputError."""
    packing = path.suffix.lower()
    try:
        with ExitStack() as stack:
            file: Any = stack.enter_context(path.open("rb"))
            if packing == ".gz":
                file = stack.enter_context(gzip.GzipFile(fileobj=file))
            elif packing == ".zst":
                file = BufferedReader(stack.enter_context(pa.CompressedInputStream(file, "zstd")))
            yield file
    except _UNREADABLE as error:
        raise InputError(f"this file cannot be read: {error}", path=path, allowed=_PACKED.get(packing)) from error


def _jsonl(path: Path) -> Iterator[tuple[Where, Record]]:
    with _unpacked(path) as file:
        yield from _lines(path, file)


def _lines(
    path: Path, file: BufferedReader | gzip.GzipFile, allowed: str | None = None
) -> Iterator[tuple[Where, Record]]:
    line = 0
    try:
        for line, raw in enumerate(_bounded(file.readline, path), start=1):
            where = Where(path, line)
            text = _decode(raw, where)
            if text.strip():
                yield where, _object(_parse(text.strip(), where, allowed), where)
    except _UNREADABLE as error:
        if not line:
            raise
        raise bad_row(f"the packed stream breaks off after this line: {error}", Where(path, line)) from error


def _json(path: Path) -> Iterator[tuple[Where, Record]]:
    """The items of a JSON list, or objects a line, as many programs name such files too."""
    with _unpacked(path) as file:
        if not file.peek(1 << 12).removeprefix(BOM_UTF8).lstrip().startswith(b"["):
            yield from _lines(path, file, "a list [{...}, ...], or one object a line")
            return
        text = _decode(file.read(), Where(path, 1))
    _parse(text, Where(path, 1), decode=json.loads)
    # Parsed a second time item by item, since only the decoder's positions tell an item's line.
    end, line = text.index("[") + 1, 1 + text.count("\n", 0, text.index("["))
    while text[at := next(index for index in count(end) if text[index] not in _BETWEEN_ITEMS)] != "]":
        line += text.count("\n", end, at)
        where = Where(path, line)
        item, end = _parse(text, where, decode=partial(_DECODER.raw_decode, idx=at))
        yield where, _object(item, where)
        line += text.count("\n", at, end)


def _csv(path: Path, delimiter: str) -> Iterator[tuple[Where, Record]]:
    csv.field_size_limit(LONGEST_LINE)
    row = 0
    with _unpacked(path) as file, TextIOWrapper(file, encoding="utf-8-sig", newline="") as text:
        try:
            rows = csv.DictReader(_bounded(text.readline, path), strict=True, delimiter=delimiter)
            _check_header(path, rows.fieldnames or ())
            for row, cells in enumerate(rows, start=1):
                where = Where(path, row)
                if None in cells or None in cells.values():
                    raise bad_row("the row has more or fewer cells than the header", where)
                yield where, {name: _cell(cell) for name, cell in cells.items() if cell}
        except (csv.Error, UnicodeDecodeError) as error:
            raise bad_row(
                f"broken CSV: {error}", Where(path, row + 1), allowed="UTF-8 text, quoted by double quotes"
            ) from error


def _parquet(path: Path) -> Iterator[tuple[Where, Record]]:
    try:
        with pq.ParquetFile(path) as file:
            yield from _of_batches(path, file.iter_batches(_PARQUET_BATCH))
    except (pa.ArrowException, OSError) as error:
        raise InputError(f"not a readable Parquet file: {error}", path=path) from error


def _cells(batch: pa.RecordBatch, first: Where) -> list[Record]:
    """The records of a batch; InputError for a cell that Python cannot hold, such as a date of the year 60,000."""
    try:
        rows: list[Record] = batch.to_pylist()
        return rows
    except (ValueError, OverflowError):
        for number, (index, name) in product(range(len(batch)), enumerate(batch.schema.names)):
            try:
                batch.column(index)[number].as_py()
            except (ValueError, OverflowError) as error:
                where, allowed = Where(first.path, first.line + number), "a value that Python can hold"
                raise bad_row(f"cannot be read: {error}", where, field=name, allowed=allowed) from error
        raise


def _arrow(path: Path) -> Iterator[tuple[Where, Record]]:
    try:
        with pa.memory_map(str(path)) as file:
            if file.read(len(_ARROW_FILE)) == _ARROW_FILE:
                batches = pa.ipc.open_file(file)
                each = map(batches.get_batch, range(batches.num_record_batches))
                yield from _of_batches(path, map(_validated, each))
            else:
                file.seek(0)
                yield from _of_batches(path, map(_validated, pa.ipc.open_stream(file)))
    except (pa.ArrowException, OSError) as error:
        raise InputError(f"not a readable Arrow file: {error}", path=path) from error


def _validated(batch: pa.RecordBatch) -> pa.RecordBatch:
    """A batch whose offsets stay within its buffers: Arrow believes a file, and would read what lies beside it."""
    batch.validate(full=True)
    return batch


def _of_batches(path: Path, batches: Iterable[pa.RecordBatch]) -> Iterator[tuple[Where, Record]]:
    first = 1
    for batch in batches:
        _check_header(path, batch.schema.names)
        for number, row in enumerate(_cells(batch, Where(path, first)), start=first):
            yield Where(path, number), {name: value for name, value in row.items() if value is not None}
        first += len(batch)


# A format by its ending, each of the first also packed.
_TEXT: Mapping[str, Callable[[Path], Iterator[tuple[Where, Record]]]] = {
    ".jsonl": _jsonl,
    ".ndjson": _jsonl,
    ".json": _json,
    ".csv": partial(_csv, delimiter=","),
    ".tsv": partial(_csv, delimiter="\t"),
}
_PACKED = {".gz": "a file packed by gzip", ".zst": "a file packed by zstd, with a window of 128 MB in most"}
_READERS = {
    **_TEXT,
    **{f"{ending}{packing}": read for packing in _PACKED for ending, read in _TEXT.items()},
    ".parquet": _parquet,
    ".arrow": _arrow,
}
ENDINGS = tuple(_READERS)


def _check_header(path: Path, names: Iterable[str]) -> None:
    """Raise InputError for a column of a table that comes twice: a row has one value by that name."""
    if repeated := twice(names):
        problem = f"two columns of the name {repeated[0]!r}"
        raise InputError(problem, path=path, allowed="a name of its own for every column")


def _bounded(readline: Callable[[int], AnyStr], path: Path) -> Iterator[AnyStr]:
    for number in count(1):
        line = readline(LONGEST_LINE + 1)
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


def _parse(text: str, where: Where, allowed: str | None = None, decode: Callable[[str], Any] = _DECODER.decode) -> Any:
    try:
        return decode(text)
    except (ValueError, RecursionError) as error:  # a number of too many digits is a ValueError
        line = where.line + getattr(error, "lineno", 1) - 1
        raise bad_row(f"broken JSON: {error}", Where(where.path, line), allowed=allowed) from error


def _object(value: Any, where: Where) -> Record:
    if not isinstance(value, dict):
        raise bad_row(f"found a {type(value).__name__}", where, allowed="a JSON object in each row")
    return value


def _cell(text: str) -> Any:
    """The value of a CSV cell: its text, or the list where it spells a JSON list of objects, as conversations are."""
    if not text.startswith("[{"):
        return text
    try:
        return parsed(text)
    except ValueError:
        return text
