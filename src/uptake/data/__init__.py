"""Data sets in and out, and conversations as token ids."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from uptake.data.convert import answered, preferences, prompts
from uptake.data.journal import Journal
from uptake.data.read import RowStream, read
from uptake.data.rows import to_record, to_row
from uptake.data.write import Writer, replacing

if TYPE_CHECKING:
    from uptake.data.chat import ChatFormat, FollowUpIds
    from uptake.data.template import PLAIN_TEMPLATE
    from uptake.data.token_view import Token, TokenView, rollout_view, token_view

# What asks for a tokenizer is loaded when first used: Transformers takes seconds, and rows are read without it.
_HOMES = {
    "chat": ("ChatFormat", "FollowUpIds"),
    "template": ("PLAIN_TEMPLATE",),
    "token_view": ("Token", "TokenView", "rollout_view", "token_view"),
}
_HOME = {name: file for file, names in _HOMES.items() for name in names}

__all__ = [
    "PLAIN_TEMPLATE",
    "ChatFormat",
    "FollowUpIds",
    "Journal",
    "RowStream",
    "Token",
    "TokenView",
    "Writer",
    "answered",
    "preferences",
    "prompts",
    "read",
    "replacing",
    "rollout_view",
    "to_record",
    "to_row",
    "token_view",
]


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'uptake.data' has no attribute {name!r}")
    return getattr(import_module(f"uptake.data.{_HOME[name]}"), name)
