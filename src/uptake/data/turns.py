"""Conversations as data sets spell them: lists of messages, and text with "Human:" and "Assistant:" marks."""

import re
from collections.abc import Mapping, Sequence
from typing import Any

from uptake.data.where import bad_row
from uptake.types import Dialogue, Role, Turn, Where

_ROLES: Mapping[str, Role] = {
    "system": "system",
    "user": "user",
    "human": "user",
    "assistant": "assistant",
    "gpt": "assistant",
}
_KEYS = (("role", "content"), ("from", "value"))
_MARKS: Mapping[str, Role] = {"Human": "user", "Assistant": "assistant"}
_MARK = re.compile(r"(?:\A|\n\n)\s*(Human|Assistant):")
_ORDER = "an optional system turn, then user and assistant turns in alternation, the user's first"


def conversation(value: Any, where: Where | None, field: str) -> Dialogue:
    """The turns of a list of messages or of marked text, in good order; assistant turns before the first user turn go.

    Messages are `{"role": "user", "content": "..."}` or `{"from": "human", "value": "..."}`. Raises InputError for
    anything else, and for turns in another order than an optional system turn, user, assistant, user and so on.
    """
    turns = _marked(value, where, field) if isinstance(value, str) else messages(value, where, field)
    system = turns[:1] if turns and turns[0].role == "system" else ()
    body = turns[len(system) :]
    while body and body[0].role == "assistant":
        body = body[1:]
    if not body or any(turn.role != ("user", "assistant")[place % 2] for place, turn in enumerate(body)):
        found = ", ".join(turn.role for turn in turns) or "no turns"
        raise bad_row(f"turns out of order: {found}", where, field=field, allowed=_ORDER)
    return (*system, *body)


def messages(value: Any, where: Where | None, field: str) -> Dialogue:
    """The turns of a list of messages, in any order; InputError where the list or a message is of another form."""
    if not isinstance(value, Sequence) or isinstance(value, str):
        allowed = "a list of messages {role, content} or {from, value}"
        raise bad_row(f"found a {type(value).__name__}", where, field=field, allowed=allowed)
    return tuple(_message(item, where, f"{field}[{place}]") for place, item in enumerate(value))


def is_marked(text: str) -> bool:
    """Whether a text has the form of the HH-RLHF data: "\\n\\nHuman: ...\\n\\nAssistant: ..."."""
    return _MARK.match(text) is not None


def _marked(text: str, where: Where | None, field: str) -> Dialogue:
    if not is_marked(text):
        allowed = 'a list of messages, or a text that begins with "Human:" or "Assistant:"'
        raise bad_row(f"found {text[:40]!r}", where, field=field, allowed=allowed)
    _, *parts = _MARK.split(text)
    return tuple(Turn(_MARKS[mark], said.strip()) for mark, said in zip(parts[::2], parts[1::2], strict=True))


def _message(item: Any, where: Where | None, field: str) -> Turn:
    if not isinstance(item, Mapping):
        raise bad_row(f"found a {type(item).__name__}", where, field=field, allowed="a message {role, content}")
    keys = next((keys for keys in _KEYS if all(key in item for key in keys)), None)
    if keys is None:
        allowed = " or ".join("{" + ", ".join(keys) + "}" for keys in _KEYS)
        raise bad_row(f"a message with {', '.join(map(str, item)) or 'nothing'}", where, field=field, allowed=allowed)
    role, content = item[keys[0]], item[keys[1]]
    if role not in _ROLES:
        raise bad_row(f"role {role!r}", where, field=f"{field}.{keys[0]}", allowed=", ".join(_ROLES))
    if not isinstance(content, str):
        raise bad_row(f"found a {type(content).__name__}", where, field=f"{field}.{keys[1]}", allowed="a string")
    return Turn(_ROLES[role], content)
