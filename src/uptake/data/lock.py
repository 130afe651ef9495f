"""One process at a time: the lock of a file or folder that is worked on."""

import os
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
def locked(path: Path, *beside: Path, inside: bool = False) -> Iterator[None]:
    """Lock of an output with its journal and what else is written `beside` it.

    With `inside`, it is that of a folder that one works in, with all it holds. It is the operating system's: it holds
    until the block ends or the process dies, in whatever way. Raises UptakeError at once where somebody else holds it.
    Who holds it is alone here, so temporary files of killed calls are removed.
    """
    lock = FileLock(_lock_file(path, inside), thread_local=False, fallback_to_soft=False)
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


def check_unlocked(path: Path, *beside: Path, inside: bool = False) -> None:
    """Raise UptakeError where another process works on an output, or `inside` a folder; what a killed one left goes."""
    if was_killed(path, inside=inside):
        with locked(path, *beside, inside=inside):
            pass


def was_killed(path: Path, *, inside: bool = False) -> bool:
    """Whether a process was killed at work on an output, or is at work on it, and none has come after it."""
    return _lock_file(path, inside).exists()


def _lock_file(path: Path, inside: bool) -> Path:
    return path / FOLDER_LOCK if inside else path.with_name(f".{path.name}.lock")


def _left_over(*paths: Path) -> Iterator[Path]:
    """What `replacing` and `remove_folder` leave of these files and folders, or of any file in a folder.

    Of living processes nothing: one may write a page into the folder of a run.
    """
    for path in paths:
        name = ".+" if path.is_dir() else re.escape(path.name)
        for each in path.rglob(".*.tmp") if path.is_dir() else path.parent.glob(".*.tmp"):
            found = re.fullmatch(rf"\.{name}\.(\d+)\.tmp", each.name)
            if found and not _lives(int(found[1])):
                yield each


def _lives(process: int) -> bool:
    """Whether another process has this number; our own was that of one before us."""
    if process == os.getpid():
        return False
    try:
        os.kill(process, 0)
    except PermissionError:
        return True
    except (OSError, OverflowError):
        return False
    return True
