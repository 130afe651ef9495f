"""A record, and the errors that name its place."""

from collections.abc import Callable, Iterable, Mapping
from typing import Any, TypeVar

from uptake.errors import InputError
from uptake.support.notes import note
from uptake.types import Row, Where

Record = Mapping[str, Any]
T = TypeVar("T")


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
    bad.append(error)
    note("rows were left out: they cannot be used", (error.path, error.line), str(error))


def usable(rows: Iterable[Row], made_of: Callable[[Row], T], bad: list[InputError] | None) -> list[T]:
    """What is made of every row; where `bad` is given, errors go there and the row is left out."""
    found = []
    for row in rows:
        try:
            found.append(made_of(row))
        except InputError as error:
            leave_out(error, bad)
    return found
