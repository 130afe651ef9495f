"""A record, and the errors that name its place."""

from collections.abc import Mapping
from typing import Any

from uptake.errors import InputError
from uptake.types import Where

Record = Mapping[str, Any]


def bad_row(problem: str, where: Where | None, *, field: str | None = None, allowed: str | None = None) -> InputError:
    """The InputError of a row, with its file and line where they are known."""
    path, line = (where.path, where.line) if where else (None, None)
    return InputError(problem, path=path, line=line, field=field, allowed=allowed)
