"""Paths that somebody has misspelt."""

import difflib
import os
from pathlib import Path

# How alike two names are that one may be meant by the other, from 0 to 1.
ALIKE = 0.75


def near_path(path: str | Path) -> Path | None:
    """The path that exists and is spelled like one that does not, name by name; None where some name has none alike."""
    path = Path(path)
    found, parts = Path(path.anchor), path.parts[bool(path.anchor) :]
    for part in parts:
        name = part
        if not (found / part).exists():
            try:
                near = difflib.get_close_matches(part, os.listdir(found), n=1, cutoff=ALIKE)
            except OSError:  # a file, or a folder that nobody may look into
                near = []
            if not near:
                return None
            (name,) = near
        found /= name
    return found


def near_words(path: str | Path) -> str:
    """The words that name the path that may be meant, for an error; none where no path is near."""
    near = near_path(path)
    return "" if near is None else f"; did you mean {near}?"


def is_local(name: str) -> bool:
    """Whether a name that is no path here is one of this machine all the same, and none of the Hub.

    The Hub's are "name" and "org/name". Where "org" is a folder here, or a path here is spelled like the name, it is a
    path that somebody has misspelt.
    """
    path = Path(name)
    parts = path.parts
    if path.is_absolute() or len(parts) != 1 + name.count("/") or len(parts) > 2 or parts[0] in (".", "..", "~"):
        return True
    return (len(parts) == 2 and Path(parts[0]).is_dir()) or near_path(path) is not None
