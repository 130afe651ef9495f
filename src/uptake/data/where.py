"""A record, and the errors that name its place."""

from collections.abc import Mapping
from typing import Any

from uptake.errors import InputError
from uptake.support.notes import note
from uptake.types import Where

Record = Mapping[str, Any]


def bad_row(
    problem: str,
    where: Where | None,
    *,
    field: str | None = None,
    allowed: str | None = None,
    kind: type[InputError] = InputError,
) -> InputError:
    """The InputError of a row, or one of another kind, with its file and line where they are known."""
    path, line = (where.path, where.line) if where else (None, None)
    return kind(problem, path=path, line=line, field=field, allowed=allowed)


def leave_out(error: InputError, bad: list[InputError] | None) -> None:
    """Put the error of a row among the `bad` ones, and note that it is left out; without a list for them, raise it."""
    if bad is None:
        raise error
    bad.append(error.with_traceback(None))  # which would hold the row
    note("rows were left out: they cannot be used", (error.path, error.line), str(error))


def without(record: Record, *names: str) -> dict[str, Any]:
    """The record without some of its columns."""
    return {name: value for name, value in record.items() if name not in names}


_TRUTH = {"true": True, "1": True, "1.0": True, "false": False, "0": False, "0.0": False}


def truth(value: Any, where: Where | None, field: str) -> bool:
    """What a label says: a bool, 1 or 0, also with a point, as tables with gaps have it, or any of these as a text."""
    found = _TRUTH.get(str(value).lower())
    if found is None:
        raise bad_row(f"found {value!r}", where, field=field, allowed="true or false")
    return found
