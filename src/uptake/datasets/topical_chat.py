"""Topical-Chat: two people talk about articles, and each rates every message of the other.

Evaluated are the messages of `test_freq`, from "Poor" (1) to "Excellent" (5), with the partner's real answer as the
follow-up; the conversations of `valid_freq` and `valid_rare` are for training. Whoever wrote the message at hand is the
assistant.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Literal

from pydantic import BaseModel

from uptake.datasets.items import Rating, to_rating
from uptake.datasets.parse import joined, rows, table
from uptake.types import Dialogue, Turn

FOLDER = "topical-chat-turn-ratings"
SOURCE = "alexa/Topical-Chat; Gopalakrishnan et al., Interspeech 2019"
LICENSE = "CDLA-Sharing-1.0"

_LEVELS = ("Poor", "Not Good", "Passable", "Good", "Excellent")


class _Message(BaseModel):
    agent: Literal["agent_1", "agent_2"]
    message: str
    turn_rating: Literal["", "Poor", "Not Good", "Passable", "Good", "Excellent"]


class _Conversation(BaseModel):
    content: list[_Message]


def ratings(folder: Path) -> Iterator[Rating | str]:
    """The rating of every message that answers another."""
    for where, conversation in rows(table(folder, "test_freq"), _Conversation):
        for index, message in enumerate(conversation.content):
            level = message.turn_rating
            ratings = {"overall": 1.0 + _LEVELS.index(level)} if level else {}
            yield to_rating(_turns(conversation, message.agent), ratings, where=where, index=index)


def conversations(folder: Path) -> Iterator[Dialogue]:
    """The conversations that are not evaluated, with the second speaker as the assistant."""
    for name in ("valid_freq", "valid_rare"):
        for _, conversation in rows(table(folder, name), _Conversation):
            if turns := joined(_turns(conversation, "agent_2")):
                yield turns


def _turns(conversation: _Conversation, assistant: str) -> list[Turn]:
    messages = conversation.content
    return [Turn("assistant" if each.agent == assistant else "user", each.message) for each in messages]
