"""Data sets from files and from the Hub as rows."""

from collections.abc import Mapping
from itertools import islice
from pathlib import Path

from uptake.data.files import records
from uptake.data.rows import FIELDS, to_row
from uptake.data.where import Record, bad_row
from uptake.errors import InputError
from uptake.types import Row, Where


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
    if limit is not None and limit < 1:
        raise InputError(f"limit {limit}", field="limit", allowed="a whole number from 1")
    if unknown := set(columns or {}) - set(FIELDS):
        raise InputError(f"no field {sorted(unknown)}", path=source, field="columns", allowed=", ".join(FIELDS))
    found = (_row(record, where, columns or {}, skipped) for where, record in records(source, limit))
    rows = list(islice((row for row in found if row is not None), limit))
    if not rows:
        left_out = f"; {len(skipped)} skipped, the first for: {skipped[0]}" if skipped else ""
        raise InputError(f"no rows{left_out}", path=source, allowed="at least one row")
    return rows


def _row(record: Record, where: Where, columns: Mapping[str, str], skipped: list[InputError] | None) -> Row | None:
    try:
        return to_row(_renamed(record, where, columns), where)
    except InputError as error:
        if skipped is None:
            raise
        skipped.append(error)
        return None


def _renamed(record: Record, where: Where, columns: Mapping[str, str]) -> Record:
    for name in columns.values():
        if name not in record:
            raise bad_row("no such column", where, field=name, allowed=", ".join(record))
    kept = {name: value for name, value in record.items() if name not in (*columns, *columns.values())}
    return {**kept, **{ours: record[theirs] for ours, theirs in columns.items()}}
