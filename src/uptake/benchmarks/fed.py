"""FED: single responses and whole dialogues of Meena, Mitsuku and people, rated by five annotators in 18 qualities.

Every quality has its own short scale, on which more is better; an annotator's "N/A" counts as no answer. A whole
dialogue ends with its last response, and what the user said then is the follow-up. Source: Mehri and Eskenazi, SIGDIAL
2020 (arXiv 2006.12719), as in maximedb/full. License of that repository: MIT.
"""

from collections.abc import Iterator
from pathlib import Path
from statistics import fmean

from pydantic import BaseModel

from uptake.benchmarks.chats import rated
from uptake.benchmarks.items import Row
from uptake.benchmarks.parse import rows, table
from uptake.data.where import bad_row
from uptake.types import Role, Turn, Where

FOLDER = "fed"
hub = None

_ROLES: dict[str, Role] = {"User": "user", "System": "assistant"}


class _Annotated(BaseModel):
    context: str
    response: str = ""
    system: str
    annotations: dict[str, list[int | str]]


def local(folder: Path) -> Iterator[Row]:
    """Rows with a response are rated by turn, rows without one as a dialogue."""
    for where, row in rows(table(folder, "fed_data"), _Annotated):
        turns = [_turn(line, where) for line in f"{row.context}\n{row.response}".strip().split("\n")]
        answers = {name.lower(): [x for x in given if isinstance(x, int)] for name, given in row.annotations.items()}
        ratings = {name: fmean(scores) for name, scores in answers.items() if scores}
        yield rated(turns, ratings, where=where, level="turn" if row.response else "dialogue", system=row.system)


def _turn(line: str, where: Where) -> Turn:
    speaker, _, said = line.partition(":")
    if speaker not in _ROLES:
        raise bad_row(f"found the line {line[:40]!r}", where, field="context", allowed='"User: ..." or "System: ..."')
    return Turn(_ROLES[speaker], said.strip())
