"""Data sets from files and from the Hub as rows."""

import sys
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from hashlib import sha256
from itertools import islice
from pathlib import Path
from typing import Any, Generic, TypeVar, final, overload

import pyarrow as pa
import pyarrow.parquet as pq

from uptake.data.convert import prompts
from uptake.data.files import records, suffix
from uptake.data.rows import FIELDS, bare, further_columns, to_record, to_row
from uptake.data.where import Record, bad_row, leave_out, usable
from uptake.data.write import FORMATS, json_text
from uptake.errors import InputError
from uptake.types import Row, Where

T = TypeVar("T")


@dataclass(frozen=True)
class RowSet(Generic[T]):
    """Rows of a data set as a task takes them, read and checked once; `left_out` counts those that could not be used.

    `RowSet("pairs.jsonl", [row], left_out=2)`. `source` is for messages.
    """

    source: str | Path
    rows: Sequence[T]
    left_out: int = 0


def read(
    source: str | Path,
    *,
    limit: int | None = None,
    columns: Mapping[str, str] | None = None,
    skipped: list[InputError] | None = None,
) -> list[Row]:
    """The rows of a data set: a .jsonl, .jsonl.gz, .json, .csv or .parquet file, or a Hub name "org/name[:split]".

    `limit` keeps the first rows only. `columns` gives the data set's name for one of ours: `{"messages": "dialog"}`.
    A row that is none of the shapes of `to_row` raises InputError; where a list is given as `skipped`, the row is left
    out and its error put there. A file that cannot be parsed, or without any row, always raises InputError.
    """
    if unknown := set(columns or {}) - set(FIELDS):
        raise InputError(f"no field {sorted(unknown)}", path=source, field="columns", allowed=", ".join(FIELDS))
    rows = list(_rows(source, limit, columns or {}, skipped))
    if not rows:
        left_out = f"; {len(skipped)} skipped, the first for: {skipped[0]}" if skipped else ""
        raise _no_rows(source, left_out)
    return rows


def read_each(
    made_of: Callable[[Row], T], source: str | Path, *, limit: int | None = None, drop_bad: bool = False
) -> list[T]:
    """What is made of every row of a data set; `drop_bad` leaves out and notes the rows that cannot be used.

    Raises InputError as `read` and `made_of` do, and where no row is left.
    """
    bad: list[InputError] = []
    skipped = bad if drop_bad else None
    made = usable(read(source, limit=limit, skipped=skipped), made_of, skipped)
    if not made:
        raise _no_rows(source, f" can be used; the first was left out for: {bad[0]}")
    return made


def read_as(
    made_of: Callable[[Row], T],
    source: str | Path,
    out: str | Path,
    *,
    allowed: str,
    limit: int | None = None,
    columns: Mapping[str, str] | None = None,
    drop_bad: bool = False,
) -> RowSet[T]:
    """Rows of a data set, each as what is made of it, for a task that writes them with all their columns to `out`.

    `drop_bad` leaves out and counts the rows that cannot be used. Raises InputError, before anybody has to wait for a
    model, as `read` and `made_of` do, for a column that cannot be written to a file of this format, and where no row is
    left; what would have been right is `allowed`.
    """
    bad: list[InputError] = []
    skipped = bad if drop_bad else None
    rows: Sequence[Row] = read(source, limit=limit, columns=columns, skipped=skipped)
    ending = suffix(Path(out), FORMATS)
    if ending == ".parquet":
        check_table(rows)
    else:
        rows = usable(rows, partial(_spellable, ending), skipped)
    made = usable(rows, made_of, skipped)
    if not made:
        first = f"; the first was left out for: {bad[0]}" if bad else ""
        raise InputError(f"no row can be used{first}", path=source, allowed=allowed)
    return RowSet(source, made, len(bad))


def _spellable(ending: str, row: Row) -> Row:
    """The row, where JSON has a form for all its columns, and UTF-8 where a table holds them."""
    for name, value in to_record(row).items():
        try:
            text = f"{name} {json_text(value)}"
            if ending == ".csv":
                text.encode()
        except (TypeError, ValueError, RecursionError) as error:
            (prompt,) = prompts([row])
            allowed = "what JSON can spell, a date, or no such column"
            raise bad_row(f"found {str(value)[:40]!r}: {error}", prompt.where, field=name, allowed=allowed) from error
    return row


def check_table(rows: Sequence[Row]) -> None:
    """Raise InputError for the first value of a row's record that no table holds below those of the rows before it."""
    found = list(map(to_record, rows))
    for name in dict.fromkeys(name for columns in found for name in columns):
        values = [columns.get(name) for columns in found]
        if error := _misfit(values):
            good, bad = 0, len(values)  # so many values fit, and so many do not
            while bad - good > 1:
                middle = (good + bad) // 2
                good, bad = (good, middle) if _misfit(values[:middle]) else (middle, bad)
            raise bad_row(error, prompts(rows)[bad - 1].where, field=name, allowed="one type in the whole column")


def _misfit(values: Sequence[object]) -> str:
    """Why values are no column of Parquet; empty where they are."""
    try:
        pq.write_table(pa.table({"column": values}), pa.BufferOutputStream())
    except (pa.ArrowException, TypeError, ValueError, OverflowError) as error:
        return str(error)
    return ""


@final
class RowStream(Sequence[Row]):
    """Rows of a data set as of `read`, read anew whenever they are gone through.

    No row is held but by who asks for one by its number: all of them then stay. A first reading, when it is made, finds
    every bad row, their number and their `fingerprint`; `drop_bad` leaves out the rows that cannot be read. Raises
    InputError as `read` does, and where a later reading ends with other rows than the first.
    """

    def __init__(self, source: str | Path, limit: int | None = None, *, drop_bad: bool = False) -> None:
        self._source, self._limit, self._drop_bad = source, limit, drop_bad
        self._held: list[Row] | None = None
        digest = _Digest()
        self._count = sum(1 for _ in digest.over(self._read()))
        self.fingerprint = digest.fingerprint
        if not self._count:
            raise _no_rows(source)

    def __len__(self) -> int:
        return self._count

    def __iter__(self) -> Iterator[Row]:
        return self._again() if self._held is None else iter(self._held)

    @overload
    def __getitem__(self, index: int) -> Row: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[Row]: ...
    def __getitem__(self, index: int | slice) -> Row | Sequence[Row]:
        if self._held is None:
            self._held = list(self._again())
        return self._held[index]

    def _read(self) -> Iterator[Row]:
        return _rows(self._source, self._limit, {}, [] if self._drop_bad else None)

    def _again(self) -> Iterator[Row]:
        digest = _Digest()
        yield from digest.over(self._read())
        if digest.fingerprint != self.fingerprint:
            problem = "the rows are others than when they were first read"
            raise InputError(problem, path=self._source, allowed="a file that nobody changes")


# Among the columns that a part of a recipe uses: it may read any.
EVERY_COLUMN = "*"


@dataclass(frozen=True)
class RowsFingerprint:
    """Fingerprint of rows, wherever they were read from: a content hash of them, and one of every further column."""

    rows: str
    columns: Mapping[str, str]


def fingerprint(rows: Iterable[Row]) -> RowsFingerprint:
    """The fingerprint of rows; a column that says nothing but null is none."""
    if isinstance(rows, RowStream):
        return rows.fingerprint
    digest = _Digest()
    for _ in digest.over(rows):
        pass
    return digest.fingerprint


class _Digest:
    """The fingerprint of the rows that pass by."""

    def __init__(self) -> None:
        self._rows = sha256()
        self._columns = defaultdict[str, Any](sha256)

    def over(self, rows: Iterable[Row]) -> Iterator[Row]:
        for number, row in enumerate(rows):
            self._rows.update(repr(to_record(bare(row))).encode(errors="backslashreplace"))
            for name, value in further_columns(row).items():
                if value is not None:
                    self._columns[name].update(f"{number} {value!r}\n".encode(errors="backslashreplace"))
            yield row

    @property
    def fingerprint(self) -> RowsFingerprint:
        columns = {name: seen.hexdigest()[:16] for name, seen in sorted(self._columns.items())}
        return RowsFingerprint(self._rows.hexdigest()[:16], columns)


def _rows(
    source: str | Path, limit: int | None, columns: Mapping[str, str], skipped: list[InputError] | None
) -> Iterator[Row]:
    if limit is not None and not 1 <= limit <= sys.maxsize:
        raise InputError(f"limit {limit}", field="limit", allowed="a whole number from 1")
    found = (_row(record, where, columns, skipped) for where, record in records(source, limit))
    return islice((row for row in found if row is not None), limit)


def _no_rows(source: str | Path, more: str = "") -> InputError:
    return InputError(f"no rows{more}", path=source, allowed="at least one row")


def _row(record: Record, where: Where, columns: Mapping[str, str], skipped: list[InputError] | None) -> Row | None:
    try:
        return to_row(_renamed(record, where, columns), where)
    except InputError as error:
        leave_out(error, skipped)
        return None


def _renamed(record: Record, where: Where, columns: Mapping[str, str]) -> Record:
    for name in columns.values():
        if name not in record:
            raise bad_row("no such column", where, field=name, allowed=", ".join(record))
    others = {name: value for name, value in record.items() if name not in (*columns, *columns.values())}
    return {**others, **{ours: record[theirs] for ours, theirs in columns.items()}}
