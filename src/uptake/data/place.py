"""Errors that name the row they are about."""

from uptake.errors import InputError
from uptake.types import Where


def bad_row(problem: str, where: Where | None, *, field: str | None = None, allowed: str | None = None) -> InputError:
    """The InputError of a row, with its file and line where they are known."""
    path, line = (where.path, where.line) if where else (None, None)
    return InputError(problem, path=path, line=line, field=field, allowed=allowed)
