"""ConvAI2 in the wild: volunteers chat with bots, give single messages a thumb and the whole chat 1 to 5.

Evaluated are the chats of the volunteers and of the intermediate round, whose messages carry thumbs; the chats of the
four days before are for training. Commands to the messenger ("/start") are left out.
"""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Literal

from pydantic import BaseModel

from uptake.datasets.items import Rating, to_rating
from uptake.datasets.parse import joined, rows, table
from uptake.types import Dialogue, Role, Turn

FOLDER = "convai2-human-bot"
SOURCE = (
    "DeepPavlov/convai, 2018/data; Dinan et al., The Second Conversational Intelligence Challenge (arXiv 1902.00098)"
)
LICENSE = "none stated"

_ROLES: dict[str, Role] = {"participant1": "user", "participant2": "assistant"}
_COMMAND = re.compile(r"/[a-z]+", re.IGNORECASE)


class _Message(BaseModel):
    sender: Literal["participant1", "participant2"]
    text: str
    evaluation_score: int | None = None


class _Bot(BaseModel):
    user_id: str


class _Chat(BaseModel):
    dialog: list[_Message]
    eval_score: float | None = None
    participant2_id: _Bot = _Bot(user_id="")

    @property
    def messages(self) -> list[_Message]:
        return [message for message in self.dialog if not _COMMAND.fullmatch(message.text.strip())]


def ratings(folder: Path) -> Iterator[Rating | str]:
    """The user's thumb on messages of the bot (1 up, 0 down), and rating of the chat."""
    for group in ("volunteers", "intermediate"):
        for where, chat in rows(table(folder, f"data_{group}"), _Chat):
            turns, system = _turns(chat), chat.participant2_id.user_id
            for index, message in enumerate(chat.messages):
                if message.evaluation_score is not None:
                    thumb = {"thumb": float(message.evaluation_score)}
                    yield to_rating(turns, thumb, where=where, index=index, system=system, group=group)
            overall = {} if chat.eval_score is None else {"overall": chat.eval_score}
            yield to_rating(turns, overall, where=where, level="dialogue", system=system, group=group)


def conversations(folder: Path) -> Iterator[Dialogue]:
    """The chats of the days before."""
    for day in range(4, 8):
        for _, chat in rows(table(folder, f"export_2018-07-0{day}_train"), _Chat):
            if turns := joined(_turns(chat)):
                yield turns


def _turns(chat: _Chat) -> list[Turn]:
    return [Turn(_ROLES[message.sender], message.text) for message in chat.messages]
