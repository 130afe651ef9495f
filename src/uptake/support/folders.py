"""Folders that are whole or absent, and what is on the disk once it is said to be."""

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def replacing_folder(folder: Path) -> Iterator[Path]:
    """The path of a new folder beside `folder` that takes its place, synced to disk, when the block ends well.

    One that is there is renamed away first and removed last, so that half a folder never has the name. After an error
    the new folder is gone and what stood at `folder` is as it was; what a kill between two renames has left is put
    right by the next call. An OSError is the caller's.
    """
    new, old = (folder.with_name(f"{folder.name}.{state}") for state in ("partial", "old"))
    _settle(folder, old, new)
    new.mkdir(parents=True)
    try:
        yield new
        for path in (*new.rglob("*"), new):
            sync(path)
        if folder.exists():
            folder.rename(old)
        new.rename(folder)
        sync(folder.parent)
    finally:
        _settle(folder, old, new)


def remove_folder(folder: Path) -> None:
    """Remove a folder of which no half keeps the name: a kill leaves it whole, or under a temporary name."""
    leaving = folder.with_name(f".{folder.name}.{os.getpid()}.tmp")
    folder.rename(leaving)
    shutil.rmtree(leaving)


def sync(path: Path) -> None:
    """Wait until a file, or the names in a folder, are on the disk."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _settle(folder: Path, old: Path, new: Path) -> None:
    """End what was begun: the old folder is back where no new one is, and nothing is beside it."""
    if old.exists() and not folder.exists():
        old.rename(folder)
    for path in (new, old):
        shutil.rmtree(path, ignore_errors=True)
