"""User Satisfaction Simulation: annotators say, at every turn of the user, how satisfied the user is (1 to 5).

What they say at a user's turn rates the system's turn before it, and the user's turn is the follow-up. Evaluated is
every dialogue with an odd number (from 0); those with an even one are for training.
"""

from collections.abc import Iterator
from pathlib import Path
from statistics import fmean
from typing import Literal

from pydantic import BaseModel

from uptake.datasets.items import Rating, to_rating
from uptake.datasets.parse import joined, rows, table
from uptake.types import Dialogue, Role, Turn, Where

FOLDER = "uss-user-satisfaction"
SOURCE = "sunnweiwei/user-satisfaction-simulation, over MultiWOZ, SGD, CCPE and ReDial; Sun et al. (arXiv 2105.03748)"
LICENSE = "none stated"

_SETS = ("MWOZ", "SGD", "CCPE", "ReDial")
_ROLES: dict[str, Role] = {"USER": "user", "SYSTEM": "assistant"}

# The text of a last line that says nothing and rates the whole dialogue.
_OVERALL = "OVERALL"


class _Line(BaseModel):
    role: Literal["USER", "SYSTEM"]
    text: str
    satisfaction: list[float]


class _Dialogue(BaseModel):
    session: int
    turns: list[_Line]


def ratings(folder: Path) -> Iterator[Rating | str]:
    """The satisfaction with every system turn that the user answers, and with every dialogue."""
    for group, where, dialogue in _dialogues(folder, remainder=1):
        turns = _turns(dialogue)
        for index, line in enumerate(dialogue.turns):
            if line.satisfaction and line.text == _OVERALL:
                yield to_rating(turns, _mean(line), where=where, level="dialogue", group=group)
            elif line.satisfaction and index and dialogue.turns[index - 1].role == "SYSTEM":
                yield to_rating(turns, _mean(line), where=where, index=index - 1, group=group)


def conversations(folder: Path) -> Iterator[Dialogue]:
    """The dialogues with an even number."""
    for _, _, dialogue in _dialogues(folder, remainder=0):
        if turns := joined(_turns(dialogue)):
            yield turns


def _dialogues(folder: Path, remainder: int) -> Iterator[tuple[str, Where, _Dialogue]]:
    for name in _SETS:
        for where, dialogue in rows(table(folder, name), _Dialogue):
            if dialogue.session % 2 == remainder:
                yield name, where, dialogue


def _turns(dialogue: _Dialogue) -> list[Turn]:
    return [Turn(_ROLES[line.role], line.text) for line in dialogue.turns if line.text != _OVERALL]


def _mean(line: _Line) -> dict[str, float]:
    return {"satisfaction": fmean(line.satisfaction)}
