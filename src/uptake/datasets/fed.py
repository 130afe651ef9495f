"""FED: single responses and whole dialogues of Meena, Mitsuku and people, rated by five annotators in 18 qualities.

Every quality has its own short scale, on which more is better; an annotator's "N/A" counts as no answer. A whole
dialogue ends with its last response, and what the user said then is the follow-up.
"""

from collections.abc import Iterator
from pathlib import Path
from statistics import fmean

from pydantic import BaseModel

from uptake.data.where import bad_row
from uptake.datasets.items import Rating, to_rating
from uptake.datasets.parse import rows, table
from uptake.types import Role, Turn, Where

FOLDER = "fed"
SOURCE = "Mehri and Eskenazi, SIGDIAL 2020 (arXiv 2006.12719), as in maximedb/full"
LICENSE = "MIT (of that repository)"

_ROLES: dict[str, Role] = {"User": "user", "System": "assistant"}


class _Annotated(BaseModel):
    context: str
    response: str = ""
    system: str
    annotations: dict[str, list[int | str]]


def ratings(folder: Path) -> Iterator[Rating | str]:
    """Rows with a response are rated by turn, rows without one as a dialogue."""
    for where, row in rows(table(folder, "fed_data"), _Annotated):
        turns = [_turn(line, where) for line in f"{row.context}\n{row.response}".strip().split("\n")]
        answers = {name.lower(): [x for x in given if isinstance(x, int)] for name, given in row.annotations.items()}
        ratings = {name: fmean(scores) for name, scores in answers.items() if scores}
        yield to_rating(turns, ratings, where=where, level="turn" if row.response else "dialogue", system=row.system)


def _turn(line: str, where: Where) -> Turn:
    speaker, _, text = line.partition(":")
    if speaker not in _ROLES:
        raise bad_row(f"found the line {line[:40]!r}", where, field="context", allowed='"User: ..." or "System: ..."')
    return Turn(_ROLES[speaker], text.strip())
