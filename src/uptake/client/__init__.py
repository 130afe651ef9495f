"""Questions to servers, OpenAI's protocol first: many at a time, in bounds, each answer on disk before it is used."""

from uptake.client.reply import ChatChoice, Choices, Lenient, Message, Reply
from uptake.client.server import Body, Form, Server, check_ranges, held_by, let_go, sent_with

__all__ = [
    "Body",
    "ChatChoice",
    "Choices",
    "Form",
    "Lenient",
    "Message",
    "Reply",
    "Server",
    "check_ranges",
    "held_by",
    "let_go",
    "sent_with",
]
