"""One process at a time: the lock of a file or folder that is worked on."""

import re
import shutil
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

from filelock import FileLock, Timeout

from uptake.data.write import disk_errors
from uptake.errors import UptakeError

# The lock of a folder, in it.
FOLDER_LOCK = ".uptake.lock"


@contextmanager
def locked(path: Path, *beside: Path) -> Iterator[None]:
    """Lock of an output file with its journal and what else is written `beside` it, or of a folder with all it holds.

    It is the operating system's: it holds until the block ends or the process dies, in whatever way. Raises UptakeError
    at once where somebody else holds it. Who holds it is alone here, so temporary files of killed calls are removed.
    """
    lock = FileLock(_lock_file(path), thread_local=False, fallback_to_soft=False)
    with disk_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            lock.acquire(blocking=False)
        except Timeout:
            raise UptakeError(f"{path}: another process is at work on this; wait for it or stop it") from None
    try:
        for each in _left_over(path, *beside):
            with suppress(OSError):
                shutil.rmtree(each) if each.is_dir() else each.unlink()
        yield
    finally:
        # Unlinked while it is held: whoever has opened the old file meanwhile sees that it has no name any more.
        with suppress(OSError):
            Path(lock.lock_file).unlink()
        lock.release()


@contextmanager
def locked_if_free(path: Path) -> Iterator[None]:
    """Lock of a file that is written in a moment, as `locked`; where somebody else holds it, nobody waits or fails."""
    with ExitStack() as stack:
        with suppress(UptakeError):
            stack.enter_context(locked(path))
        yield


def check_unlocked(path: Path, *beside: Path) -> None:
    """Raise UptakeError where another process works on a file or folder; what a killed one has left goes, as above."""
    if was_killed(path):
        with locked(path, *beside):
            pass


def was_killed(path: Path) -> bool:
    """Whether a process was killed at work on a file or folder, or is at work on it, and none has come after it."""
    return _lock_file(path).exists()


def _lock_file(path: Path) -> Path:
    return path / FOLDER_LOCK if path.is_dir() else path.with_name(f".{path.name}.lock")


def _left_over(*paths: Path) -> Iterator[Path]:
    """What `replacing` and `remove_folder` leave of these files and folders, or of any file in a folder."""
    for path in paths:
        name = ".+" if path.is_dir() else re.escape(path.name)
        found = path.rglob(".*.tmp") if path.is_dir() else path.parent.glob(".*.tmp")
        yield from (each for each in found if re.fullmatch(rf"\.{name}\.\d+\.tmp", each.name))
