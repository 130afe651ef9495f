"""A record of what a long job has done, one line each, that survives being killed at any moment."""

from abc import ABC, abstractmethod
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Self, TypeVar, final

from uptake.data.files import read_file, suffix
from uptake.data.where import Record
from uptake.data.write import AppendFile, disk_errors, json_line
from uptake.support.damage import undamaged

T = TypeVar("T")


class Closing(ABC):
    """Context manager that closes itself: `with Journal(path) as journal`."""

    @abstractmethod
    def close(self) -> None:
        """Ends it."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


@final
class Journal(Closing):
    """An append-only .jsonl file: `done` holds the records it had when it was opened, `append` adds one.

    A killed process loses no record it has appended. A last line without its newline was torn by a kill or a full disk;
    opening the journal removes it. Raises InputError where another line is broken and UptakeError where the disk
    refuses or the path is a link. Whoever opens it holds the lock of the folder it is in; its threads may share it.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        suffix(self.path, (".jsonl",))
        self._file = AppendFile(self.path)
        with disk_errors(self.path):
            self._file.cut(self.path.read_bytes().rfind(b"\n") + 1)
        self.done: list[Record] = [record for _, record in read_file(self.path)]

    def each(self, read: Callable[[Record], T]) -> list[T]:
        """What `read` makes of every record that was there; UptakeError, naming it, for one of another form."""
        found = []
        for number, record in enumerate(self.done, start=1):
            with undamaged(self.path, f"record {number}"):
                found.append(read(record))
        return found

    def append(self, record: Record) -> None:
        """Adds one record; where that fails, the file stays as it was."""
        self._file.append(json_line(record))

    def close(self) -> None:
        """Ends the journal; further records are errors."""
        self._file.close()
