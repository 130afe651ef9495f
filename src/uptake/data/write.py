"""Output files that are whole or absent, and files that grow by whole pieces."""

import csv
import errno
import gzip
import json
import os
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from datetime import date, time
from decimal import Decimal
from filecmp import cmp
from io import BufferedWriter, TextIOWrapper
from pathlib import Path
from threading import Lock
from types import TracebackType
from typing import Any, Self, final

import pyarrow as pa
import pyarrow.parquet as pq

from uptake.data.files import suffix
from uptake.data.where import Record
from uptake.errors import InputError, UptakeError
from uptake.support.folders import sync

FORMATS = (".jsonl", ".jsonl.gz", ".csv", ".parquet")

_File = BufferedWriter | gzip.GzipFile


@contextmanager
def replacing(path: Path, *, overwrite: bool = False, resumes: bool = False) -> Iterator[Path]:
    """The path of a temporary file beside `path` that takes its place, synced to disk, when the block ends well.

    After an error the temporary file is gone and what stood at `path` is as it was. A call that `resumes` one that was
    killed may find the file that the other has just written, and writes it again. Raises InputError where something
    else is at `path` and is not to be overwritten, and UptakeError where the disk refuses.
    """
    may_write(path, overwrite=overwrite or resumes)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with disk_errors(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            temporary.unlink(missing_ok=True)  # whatever has the name, a link too
        yield temporary
        with disk_errors(path):
            sync(temporary)
            if not overwrite and path.exists() and not cmp(temporary, path, shallow=False):
                raise output_exists(path)
            os.replace(temporary, path)
            sync(path.parent)
    finally:
        with suppress(OSError):
            temporary.unlink()


def may_write(path: Path, *, overwrite: bool = False) -> None:
    """Raise InputError where `path` is a folder, lies below a file, or exists and is not to be overwritten."""
    if path.is_dir():
        raise InputError("this is a folder", path=path, allowed="the path of a file")
    if path.exists() and not overwrite:
        raise output_exists(path)
    nearest = next(each for each in path.absolute().parents if each.exists())
    if not nearest.is_dir():
        raise UptakeError(f"{path}: cannot be written: {nearest} is a file")


def output_exists(path: Path) -> InputError:
    """The error of an output that is there already."""
    return InputError("the output file exists", path=path, allowed="a new path, or --overwrite")


@contextmanager
def disk_errors(path: Path) -> Iterator[None]:
    """Turns an OSError of the block, such as a full disk, into an UptakeError that names the file and the reason."""
    try:
        yield
    except OSError as error:
        raise UptakeError(f"{path}: cannot be written: {error.strerror or error}") from error


def json_line(record: Record) -> bytes:
    """One record as a line of JSONL; UptakeError where JSON cannot spell it (bytes, not-a-number)."""
    try:
        line = json_text(record)
    except (TypeError, ValueError) as error:
        raise UptakeError(f"a record cannot be written as JSON: {error}") from error
    # Half a surrogate pair has no UTF-8 form, but its backslash form is JSON's own.
    return (line + "\n").encode("utf-8", "backslashreplace")


def json_text(value: Any) -> str:
    """A value as JSON, dates and times as ISO text, decimals by their digits; TypeError or ValueError for others."""
    return json.dumps(value, ensure_ascii=False, allow_nan=False, default=_as_text)


def _as_text(value: Any) -> str:
    if isinstance(value, date | time):
        return value.isoformat()
    if isinstance(value, Decimal) and value.is_finite():
        return str(value)
    raise TypeError(f"JSON has no form for a {type(value).__name__}")


def write_json(path: Path, values: Mapping[str, Any], *, overwrite: bool = True) -> None:
    """Write a small JSON file, as `write_text` does."""
    write_text(path, json.dumps(values, indent=1, ensure_ascii=False, default=dict) + "\n", overwrite=overwrite)


def write_text(path: Path, text: str, *, overwrite: bool = True) -> None:
    """Write a small file, whole or not at all; without `overwrite`, InputError where another one is there."""
    with replacing(path, overwrite=overwrite, resumes=True) as temporary, disk_errors(path):
        temporary.write_text(text, encoding="utf-8")


@final
class Writer:
    """Writes records to a .jsonl, .jsonl.gz, .csv or .parquet file that appears, whole, when the `with` block ends.

    `with Writer("pairs.jsonl") as out: out.write(to_record(row))`. JSONL goes to disk as it comes; CSV and Parquet
    wait for the end, since their columns are those of all records. CSV spells what is not text as JSON, and None as
    an empty cell. Raises as `replacing` does, and UptakeError for a record that the format cannot hold.
    """

    def __init__(self, path: str | Path, *, overwrite: bool = False, resumes: bool = False) -> None:
        self.path, self._how = Path(path), {"overwrite": overwrite, "resumes": resumes}
        self._format = suffix(self.path, FORMATS)
        self._stack = ExitStack()
        self._records: list[Record] = []

    def __enter__(self) -> Self:
        temporary = self._stack.enter_context(replacing(self.path, **self._how))
        with disk_errors(self.path):
            self._file: _File = self._stack.enter_context(temporary.open("wb"))
        if self._format == ".jsonl.gz":  # neither name nor time in its header: equal records give equal files
            self._file = self._stack.enter_context(gzip.GzipFile("", "wb", fileobj=self._file, mtime=0))
        return self

    def write(self, record: Record) -> None:
        """Adds one record."""
        if self._format in (".csv", ".parquet"):
            self._records.append(dict(record))
            return
        line = json_line(record)
        with disk_errors(self.path):
            self._file.write(line)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with disk_errors(self.path):
            if error is not None:
                self._stack.__exit__(kind, error, trace)
                return
            with self._stack:
                self._write_table()

    def _write_table(self) -> None:
        write = {".csv": _write_csv, ".parquet": _write_parquet}.get(self._format)
        columns = list(dict.fromkeys(name for record in self._records for name in record))
        try:
            if write:
                write(self._records, columns, self._file)
        except (TypeError, ValueError, pa.ArrowException) as problem:
            raise UptakeError(f"{self.path}: the records do not fit the format: {problem}") from problem


def _write_csv(records: list[Record], columns: list[str], file: _File) -> None:
    text = TextIOWrapper(file, encoding="utf-8", newline="")
    lines = csv.writer(text)
    lines.writerow(columns)
    lines.writerows([_cell(record.get(name)) for name in columns] for record in records)
    text.detach()


def _cell(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, date | time | Decimal):
        return _as_text(value)
    return value if isinstance(value, str) else json_text(value)


def _write_parquet(records: list[Record], columns: list[str], file: _File) -> None:
    pq.write_table(pa.table({name: [record.get(name) for record in records] for name in columns}), file)


@final
class AppendFile:
    """A file that grows at its end by whole pieces: what `append` was given is there in full, or not at all.

    A piece is with the operating system before `append` returns, so a killed process loses nothing it has appended.
    Threads may share the file. Raises UptakeError where the path is a link, or the disk refuses.
    """

    def __init__(self, path: Path) -> None:
        self.path, self._lock = path, Lock()
        with disk_errors(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            try:
                self._handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW, 0o666)
            except OSError as error:
                if error.errno == errno.ELOOP:
                    raise UptakeError(f"{path}: this is a link; remove it, nothing is written through it") from None
                raise
            self.size = os.fstat(self._handle).st_size

    def append(self, piece: bytes) -> None:
        """Adds a piece; where that fails, the file stays as it was."""
        with self._lock, disk_errors(self.path):
            try:
                rest = piece
                while rest:
                    rest = rest[os.write(self._handle, rest) :]
            except OSError:
                os.ftruncate(self._handle, self.size)
                raise
            self.size += len(piece)

    def cut(self, size: int) -> None:
        """Leaves the first `size` bytes only."""
        with self._lock, disk_errors(self.path):
            os.ftruncate(self._handle, size)
            self.size = size

    def close(self) -> None:
        """Ends the file; further pieces are errors."""
        os.close(self._handle)
