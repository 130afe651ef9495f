"""OpenAssistant: people write replies to one message of a conversation, and others rank the replies.

Where a message has several ranked replies, the best one is compared with the worst: one comparison a place, so that a
message with many replies does not count for many.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Literal

from pydantic import BaseModel

from uptake.datasets.items import Comparison, to_comparison
from uptake.datasets.parse import prompt, rows, table
from uptake.types import Dialogue, Role, Turn, Where

FOLDER = "oasst-ranked-trees"
SOURCE = "LAION-AI/Open-Assistant; Köpf et al. (arXiv 2304.07327)"
LICENSE = "Apache-2.0"

_ROLES: dict[str, Role] = {"prompter": "user", "assistant": "assistant"}


class _Message(BaseModel):
    """A message with the replies to it; the best reply has rank 0."""

    text: str
    role: Literal["prompter", "assistant"]
    rank: int | None = None
    replies: list["_Message"]


class _Tree(BaseModel):
    prompt: _Message


def comparisons(folder: Path) -> Iterator[Comparison | str]:
    """One comparison for every message of a prompter that has more than one reply."""
    for where, tree in rows(table(folder, "en_100_tree"), _Tree):
        yield from _places(tree.prompt, (), where)


def _places(message: _Message, before: Dialogue, where: Where) -> Iterator[Comparison | str]:
    turns = (*before, Turn(_ROLES[message.role], message.text))
    if message.role == "prompter" and len(message.replies) > 1:
        ranked = sorted((reply.rank, reply.text) for reply in message.replies if reply.rank is not None)
        if len(ranked) > 1:
            yield to_comparison(prompt(turns, where), (ranked[0][1], ranked[-1][1]), 1.0, where)
        else:
            yield "replies without ranks"
    for reply in message.replies:
        yield from _places(reply, turns, where)
