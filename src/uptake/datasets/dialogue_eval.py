"""Dialogue-Eval: paid users chat with eleven systems and rate each chat by seven criteria (0 to 100, more is better).

"robotic" and "repetitive" are turned around in the data, so that more is less robotic. "overall" is the authors' own
figure, the mean over the criteria of what is left when every user's mean and scale are taken out. One of the systems,
QualityControl, garbles its answers on purpose. Evaluated are `pass_free_run2` and `pass_icebreaker`; `pass_free_run1`
without the garbled chats is for training.
"""

from collections.abc import Iterator
from pathlib import Path
from statistics import fmean

from pydantic import BaseModel, Field

from uptake.datasets.items import Rating, to_rating
from uptake.datasets.parse import joined, rows, table
from uptake.types import Dialogue, Turn

FOLDER = "dialogue-eval-acl22"
SOURCE = "TianboJi/Dialogue-Eval; Ji et al., ACL 2022"
LICENSE = "MIT"

_GARBLED = "QualityControl"


class _Round(BaseModel):
    user: str
    bot: str


class _Chat(BaseModel):
    model: str
    dialogue: list[_Round]
    raw: dict[str, float] = Field(alias="raw scores")
    standardized: dict[str, float] = Field(alias="z scores", min_length=1)


def ratings(folder: Path) -> Iterator[Rating | str]:
    """The user's ratings of every chat."""
    for group, name in (("free", "pass_free_run2"), ("icebreaker", "pass_icebreaker")):
        for where, chat in rows(table(folder, name), _Chat):
            ratings = chat.raw | {"overall": fmean(chat.standardized.values())}
            yield to_rating(_turns(chat), ratings, where=where, level="dialogue", system=chat.model, group=group)


def conversations(folder: Path) -> Iterator[Dialogue]:
    """The chats of the first run that are not garbled."""
    for _, chat in rows(table(folder, "pass_free_run1"), _Chat):
        if chat.model != _GARBLED and (turns := joined(_turns(chat))):
            yield turns


def _turns(chat: _Chat) -> list[Turn]:
    return [turn for each in chat.dialogue for turn in (Turn("user", each.user), Turn("assistant", each.bot))]
