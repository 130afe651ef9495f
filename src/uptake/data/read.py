"""Data sets from files and from the Hub as rows."""

import sys
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256
from itertools import islice
from pathlib import Path
from typing import Any, Generic, TypeVar, final, overload

import pyarrow as pa
import pyarrow.parquet as pq

from uptake.data.convert import prompts
from uptake.data.files import suffix
from uptake.data.layouts import exported, laid_out
from uptake.data.rows import COLUMNS, bare, further_columns, to_record, to_row
from uptake.data.source import records
from uptake.data.where import bad_row, leave_out
from uptake.data.write import FORMATS, json_text
from uptake.errors import InputError
from uptake.types import Prompt, Row

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
    """The rows of a data set: a file of any format, a folder, a pattern, or a Hub name "org/name[:split]".

    `limit` keeps the first rows only. `columns` gives the data set's name for one of ours: `{"messages": "dialog"}`.
    A row that is none of the shapes of `to_row`, and none of a known layout, raises InputError; where a list is given
    as `skipped`, the row is left out and its error put there. A file that cannot be parsed, or without any row, always
    raises InputError, and so does a column that no row has.
    """
    rows = list(_rows(source, limit, columns or {}, skipped))
    if not rows:
        left_out = f"; {len(skipped)} skipped, the first for: {skipped[0]}" if skipped else ""
        raise _no_rows(source, left_out)
    return rows


def read_each(
    made_of: Callable[[Row], T],
    source: str | Path,
    *,
    limit: int | None = None,
    columns: Mapping[str, str] | None = None,
    drop_bad: bool = False,
) -> list[T]:
    """What is made of every row of a data set; `drop_bad` leaves out and notes the rows that cannot be used.

    Raises InputError as `read` and `made_of` do, and where no row is left.
    """
    bad: list[InputError] = []
    skipped = bad if drop_bad else None
    made = list(_usable(_rows(source, limit, columns or {}, skipped), made_of, skipped))
    if not made:
        raise _none_usable(source, bad, "at least one row") if bad else _no_rows(source)
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
    rows, ending = _rows(source, limit, columns or {}, skipped), suffix(Path(out), FORMATS)
    if ending == ".parquet":
        held = list(rows)
        check_table(held)
        made = list(_usable(held, made_of, skipped))
    else:
        made = list(_usable(rows, _written(made_of, ending), skipped))
    if not made:
        raise _none_usable(source, bad, allowed)
    return RowSet(source, made, len(bad))


def stream_as(
    made_of: Callable[[Row], Row],
    source: str | Path,
    out: str | Path,
    *,
    allowed: str,
    limit: int | None = None,
    columns: Mapping[str, str] | None = None,
    drop_bad: bool = False,
) -> RowSet[Row]:
    """Rows of a data set as of `read_as`, none of which is held, but for a table, whose columns are those of all rows.

    They are read and checked now, and read anew whenever they are gone through. Raises InputError as `read_as` does,
    and as a `RowStream`.
    """
    ending = suffix(Path(out), FORMATS)
    if ending == ".parquet":
        return read_as(made_of, source, out, allowed=allowed, limit=limit, columns=columns, drop_bad=drop_bad)
    bad: list[InputError] | None = [] if drop_bad else None
    rows = RowStream(source, limit, columns, takes=_written(made_of, ending), skipped=bad, allowed=allowed)
    return RowSet(source, rows, len(bad or ()))


def _usable(rows: Iterable[Row], made_of: Callable[[Row], T], bad: list[InputError] | None) -> Iterator[T]:
    """What is made of every row; where `bad` is given, errors go there and the row is left out."""
    for row in rows:
        try:
            made = made_of(row)
        except InputError as error:
            leave_out(error, bad)
        else:
            yield made


def _none_usable(source: str | Path, bad: Sequence[InputError], allowed: str) -> InputError:
    first = f"; the first was left out for: {bad[0]}" if bad else ""
    return InputError(f"no row can be used{first}", path=source, allowed=allowed)


def _written(made_of: Callable[[Row], T], ending: str) -> Callable[[Row], T]:
    """What is made of a row that goes with all its columns into a file of this format."""
    return lambda row: made_of(_spellable(ending, row))


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
    every bad row, their number and their `fingerprint`. Raises InputError as `read` does, and where a later reading
    ends with other rows than the first. `takes` says what is taken of a row, or raises InputError; where a list is
    given as `skipped`, rows with an error are left out, and their errors put there. Where all are, `allowed` says what
    would have been right.
    """

    def __init__(
        self,
        source: str | Path,
        limit: int | None = None,
        columns: Mapping[str, str] | None = None,
        *,
        takes: Callable[[Row], Row] = lambda row: row,
        skipped: list[InputError] | None = None,
        allowed: str = "at least one row",
    ) -> None:
        self._source, self._limit, self._columns = source, limit, columns or {}
        self._takes, self._skips = takes, skipped is not None
        self._held: list[Row] | None = None
        digest = _Digest()
        self._count = sum(1 for _ in digest.over(self._read(skipped)))
        self.fingerprint = digest.fingerprint
        if not self._count:
            raise _none_usable(source, skipped, allowed) if skipped else _no_rows(source)

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

    def _read(self, skipped: list[InputError] | None) -> Iterator[Row]:
        rows = _rows(self._source, self._limit, self._columns, skipped)
        return _usable(rows, self._takes, skipped)

    def _again(self) -> Iterator[Row]:
        digest = _Digest()
        yield from digest.over(self._read([] if self._skips else None))
        if digest.fingerprint != self.fingerprint:
            problem = "the rows are others than when they were first read"
            raise InputError(problem, path=self._source, allowed="a file that nobody changes")


# Rows in which every column is looked for that was named.
LOOK_AHEAD = 1000
# Among the columns that a part of a recipe uses: it may read any.
EVERY_COLUMN = "*"


def used_columns(prompt: Prompt, used: Sequence[str]) -> list[Mapping[str, Any]]:
    """The columns of a prompt among those that are used, as the last part of a row's key; nothing where it has none."""
    found = {name: value for name, value in prompt.extra.items() if {name, EVERY_COLUMN} & {*used}}
    return [found] if found else []


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


def check_columns(columns: Mapping[str, str]) -> None:
    """Raise InputError for a name that is none of our columns."""
    if unknown := sorted(columns.keys() - set(COLUMNS)):
        raise InputError(f"no column {unknown[0]!r}", field="columns", allowed=", ".join(COLUMNS))


def _rows(
    source: str | Path, limit: int | None, columns: Mapping[str, str], skipped: list[InputError] | None
) -> Iterator[Row]:
    if limit is not None and not 1 <= limit <= sys.maxsize:
        raise InputError(f"limit {limit}", field="limit", allowed="a whole number from 1")
    check_columns(columns)
    unseen = set(columns.values())
    rows = islice(_found(source, limit, columns, skipped, unseen), limit)
    # A name that is misspelt is said before whatever is missing for it, which the first row already lacks.
    first = list(islice(rows, LOOK_AHEAD)) if columns else []
    if unseen and first:
        problem = f"none of the first {len(first)} rows has a column {min(unseen)!r}"
        raise InputError(problem, path=source, field="columns", allowed="a column of the data")
    yield from first
    yield from rows


def _found(
    source: str | Path,
    limit: int | None,
    columns: Mapping[str, str],
    skipped: list[InputError] | None,
    unseen: set[str],
) -> Iterator[Row]:
    """The rows of a source; the names of columns that some row has leave `unseen`."""
    for where, record in records(source, limit):
        names = set(record)
        try:
            inner = exported(record, where)
            names.update(*inner)
            found = [to_row(each, where) for one in inner for each in laid_out(one, where, columns)]
        except InputError as error:
            found = []
            if skipped is not None:
                leave_out(error, skipped)
            elif absent := sorted(unseen - names):
                raise bad_row(f"no column {absent[0]!r}", where, field="columns", allowed=", ".join(record)) from error
            else:
                raise
        # Before the rows: whoever wants no more of them than these does not come back.
        unseen -= names
        yield from found


def _no_rows(source: str | Path, more: str = "") -> InputError:
    return InputError(f"no rows{more}", path=source, allowed="at least one row")
