"""The errors a person can act on: each message says what was given, where, and what is allowed."""

from pathlib import Path


class UptakeError(Exception):
    """Base of every error Uptake raises on purpose; the command line prints it and exits with code 2."""


class InputError(UptakeError):
    """Error in something that a person wrote: a row, an option, a path.

    `problem` says what was found, `allowed` what would have been right; `path`, `line` (from 1) and `field`
    say where, as far as they are known.
    """

    def __init__(
        self,
        problem: str,
        *,
        path: str | Path | None = None,
        line: int | None = None,
        field: str | None = None,
        allowed: str | None = None,
    ) -> None:
        self.problem, self.path, self.line, self.field, self.allowed = problem, path, line, field, allowed
        super().__init__(self._message())

    def _message(self) -> str:
        location = ":".join(str(part) for part in (self.path, self.line) if part is not None)
        if self.field is not None:
            location = f"{location}, field {self.field!r}" if location else f"field {self.field!r}"
        message = f"{location}: {self.problem}" if location else self.problem
        return f"{message} (allowed: {self.allowed})" if self.allowed else message


class EmptyResponse(InputError):
    """Error of a response that says nothing."""


class TooLong(InputError):
    """Error of a text that a model's window cannot hold."""


class ModelError(UptakeError):
    """A model cannot do what was asked of it: no weights, no stop token, not-a-number in its output."""
