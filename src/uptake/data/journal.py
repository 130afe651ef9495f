"""A record of what a long job has done, one line each, that survives being killed at any moment."""

import os
from pathlib import Path
from threading import Lock
from types import TracebackType
from typing import Self, final

from uptake.data.files import records, suffix
from uptake.data.where import Record
from uptake.data.write import disk_errors, json_line


@final
class Journal:
    """An append-only .jsonl file: `done` holds the records it had when it was opened, `append` adds one.

    Each record is with the operating system before `append` returns, so a killed process loses nothing it has appended.
    A last line without its newline was torn by a kill or a full disk; opening the journal removes it. Raises InputError
    where another line is broken and UptakeError where the disk refuses. One process at a time may hold
    a journal; its threads may share it.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        self._lock = Lock()
        suffix(self.path, (".jsonl",))
        with disk_errors(self.path):
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self._handle = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o666)
            self._size = self.path.read_bytes().rfind(b"\n") + 1
            os.ftruncate(self._handle, self._size)
        self.done: list[Record] = [record for _, record in records(self.path)]

    def append(self, record: Record) -> None:
        """Adds one record; where that fails, the file stays as it was."""
        line = json_line(record)
        with self._lock, disk_errors(self.path):
            try:
                self._write(line)
            except OSError:
                os.ftruncate(self._handle, self._size)
                raise
            self._size += len(line)

    def close(self) -> None:
        """Ends the journal; further records are errors."""
        os.close(self._handle)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _write(self, line: bytes) -> None:
        while line:
            line = line[os.write(self._handle, line) :]
