"""JFLEG: sentences of learners of English, each corrected by four people.

The four edits of a sentence are one group, whose labels are averaged. There is no question, so all have the same one,
and the set's own files are the split: dev to train on, test held out.
"""

from collections.abc import Iterator
from pathlib import Path

from pydantic import BaseModel

from uptake.datasets.items import to_edited
from uptake.datasets.parse import prompt, rows, table
from uptake.types import Edited, Split

FOLDER = "jfleg-edits"
SOURCE = "keisks/jfleg; Napoles et al., EACL 2017 (arXiv 1702.04066)"
LICENSE = "CC BY-NC-SA 4.0"

_QUESTION = "Write one sentence."


class _Corrected(BaseModel):
    src: str
    refs: list[str]


def edits(folder: Path) -> Iterator[Edited | str]:
    """Every correction; one that keeps the sentence says that its reader found nothing."""
    splits: tuple[tuple[str, Split], ...] = (("dev", "train"), ("test", "heldout"))
    for name, split in splits:
        for where, row in rows(table(folder, name), _Corrected):
            for edit in row.refs:
                question, group = prompt(_QUESTION, where), f"{name}-{where.line}"
                yield to_edited(question, "jfleg", row.src.strip(), edit.strip(), split=split, group=group)
