"""Data sets in and out, and conversations as token ids."""

from uptake.data.chat import ChatFormat, FollowUpIds
from uptake.data.convert import answered, preferences, prompts
from uptake.data.journal import Journal
from uptake.data.read import RowStream, read
from uptake.data.rows import to_record, to_row
from uptake.data.template import PLAIN_TEMPLATE
from uptake.data.token_view import Token, TokenView, rollout_view, token_view
from uptake.data.write import Writer, replacing

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
