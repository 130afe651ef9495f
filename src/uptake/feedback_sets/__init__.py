"""Feedback sets: what readers wrote about answers, for tuning follow-up models. One file a set, its name the registry.

A set's file has a docstring (what its rows are, who wrote them, which are held out, source and license), and

    FOLDER  the folder of its files under the data folder
    local   (folder) -> the feedback in the files there, with a reason in place of a row that is left out

Held out is whatever a benchmark evaluates, and one question in ten where no benchmark does.
"""

from collections.abc import Iterator
from pathlib import Path

from uptake.feedback_sets.items import Feedback, Polarity, Row, Split
from uptake.support.registry import Registry

__all__ = ["Feedback", "Polarity", "Row", "Split", "find", "names", "read_feedback"]

_FILES = Registry(__name__, "feedback set", frozenset({"items"}))
names, find = _FILES.names, _FILES.find


def read_feedback(name: str, data: Path) -> Iterator[Row]:
    """The rows of a set, of both splits, from its folder under the data folder.

    Raises InputError for an unknown name, a folder that is not there, and a row that cannot be read.
    """
    return _FILES.rows(name, data)
