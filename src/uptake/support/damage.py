"""Damage: files that Uptake wrote itself, and that a disk, another version or a person has changed since."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from uptake.errors import UptakeError


@contextmanager
def undamaged(path: Path, part: str = "") -> Iterator[None]:
    """Turns what reading a file of another form raises in the block into an UptakeError that names file and part."""
    try:
        yield
    except (ValueError, TypeError, LookupError, AttributeError, RecursionError) as error:
        why = str(error).partition("\n")[0]
        problem = f"{path}{part and f', {part}'}: not what Uptake writes ({type(error).__name__}: {why})"
        raise UptakeError(f"{problem}; it is damaged, or of another version: remove it, or begin anew") from error
