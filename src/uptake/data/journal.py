"""A record of what a long job has done, one line each, that survives being killed at any moment."""

import errno
import os
from abc import ABC, abstractmethod
from collections.abc import Callable
from pathlib import Path
from threading import Lock
from types import TracebackType
from typing import Self, TypeVar, final

from uptake.data.files import read_file, suffix
from uptake.data.where import Record
from uptake.data.write import disk_errors, json_line
from uptake.errors import UptakeError
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
class AppendFile:
    """A file that grows at its end by whole pieces: what `append` was given is there in full, or not at all.

    A piece is with the operating system before `append` returns, so a killed process loses nothing it has appended.
    Threads may share the file. Raises UptakeError where the path is a link, or the disk refuses.
    """

    def __init__(self, path: Path) -> None:
        self.path, self._lock = path, Lock()
        with disk_errors(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            try:
                self._handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW, 0o666)
            except OSError as error:
                if error.errno == errno.ELOOP:
                    raise UptakeError(f"{path}: this is a link; remove it, nothing is written through it") from None
                raise
            self.size = os.fstat(self._handle).st_size

    def append(self, piece: bytes) -> None:
        """Adds a piece; where that fails, the file stays as it was."""
        with self._lock, disk_errors(self.path):
            try:
                rest = piece
                while rest:
                    rest = rest[os.write(self._handle, rest) :]
            except OSError:
                os.ftruncate(self._handle, self.size)
                raise
            self.size += len(piece)

    def cut(self, size: int) -> None:
        """Leaves the first `size` bytes only."""
        with self._lock, disk_errors(self.path):
            os.ftruncate(self._handle, size)
            self.size = size

    def close(self) -> None:
        """Ends the file; further pieces are errors."""
        os.close(self._handle)


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
