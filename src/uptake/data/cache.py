"""Answers that cost time or money, kept on disk under the content of the question."""

import json
import logging
import sqlite3
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from threading import Lock
from typing import Any, TypeVar, final

from pydantic import TypeAdapter

from uptake.data.write import disk_errors
from uptake.errors import UptakeError

log = logging.getLogger(__name__)

_Value = TypeVar("_Value")

# SQLite's own limit on the values of one statement.
_MOST = 500
_ANY: TypeAdapter[Any] = TypeAdapter(Any)


@final
class Cache:
    """A mapping from content keys to JSON values in one SQLite file, which several processes and threads may share.

    What `put` was given is with the operating system when it returns: a killed process loses nothing, and what was paid
    for once is not paid for again. Raises UptakeError where the file is not such a cache, is damaged, or the disk
    refuses.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        with disk_errors(self.path):
            self.path.parent.mkdir(parents=True, exist_ok=True)
        self._lock = Lock()
        self._base = _connected(self.path)

    def get(self, keys: Iterable[str], kind: TypeAdapter[_Value] = _ANY) -> dict[str, _Value]:
        """The values of those keys that are there; one that is not of the `kind` counts as absent, and is said."""
        wanted, lost = list(dict.fromkeys(keys)), 0
        found: dict[str, _Value] = {}
        for start in range(0, len(wanted), _MOST):
            some = wanted[start : start + _MOST]
            marks = ",".join("?" * len(some))
            with self._lock, self._errors("answers cannot be read"):
                rows = self._base.execute(f"SELECT key, value FROM answers WHERE key IN ({marks})", some).fetchall()
            for key, value in rows:
                try:
                    found[key] = kind.validate_python(json.loads(value))
                except (ValueError, TypeError, RecursionError):
                    lost += 1
        if lost:
            log.warning("%s: %d answers cannot be read and are asked for again", self.path, lost)
        return found

    def put(self, values: Mapping[str, Any], *, final: bool = True) -> None:
        """Keep values, all of them or none; where they are not `final`, none."""
        if not final:
            return
        rows = [(key, json.dumps(value)) for key, value in values.items()]
        with self._errors("an answer could not be kept"), self._lock, self._base as base:
            base.executemany("INSERT OR REPLACE INTO answers VALUES (?, ?)", rows)

    @contextmanager
    def _errors(self, problem: str) -> Iterator[None]:
        try:
            yield
        except sqlite3.Error as error:
            raise UptakeError(f"{self.path}: {problem} ({error})") from error


def _connected(path: Path) -> sqlite3.Connection:
    try:
        base = sqlite3.connect(path, timeout=60, check_same_thread=False)
        # With a write-ahead log, "normal" leaves the waiting for the disk to the operating system.
        base.executescript(
            "PRAGMA journal_mode=WAL; PRAGMA synchronous=NORMAL;"
            "CREATE TABLE IF NOT EXISTS answers (key TEXT PRIMARY KEY, value TEXT NOT NULL)"
        )
    except sqlite3.Error as error:
        raise UptakeError(f"{path}: not a cache of answers, or not writable ({error})") from error
    return base
