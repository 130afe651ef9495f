"""Data sets in and out, and conversations as token ids."""

from typing import TYPE_CHECKING

from uptake.data.convert import answered, preferences, prompts
from uptake.data.journal import Journal
from uptake.data.read import RowStream, read
from uptake.data.rows import to_record, to_row
from uptake.data.write import Writer, replacing
from uptake.support.lazy import lazy

if TYPE_CHECKING:
    from uptake.data.chat import ChatFormat, FollowUpIds
    from uptake.data.template import PLAIN_TEMPLATE
    from uptake.data.token_views import Token, TokenView, rollout_view, token_view

# What asks for a tokenizer: Transformers takes seconds to load, and rows are read without it.
__getattr__ = lazy(
    __name__,
    {
        "chat": ("ChatFormat", "FollowUpIds"),
        "template": ("PLAIN_TEMPLATE",),
        "token_views": ("Token", "TokenView", "rollout_view", "token_view"),
    },
)

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
