"""Content keys: what is equal has equal keys, whatever file, order or process it comes from."""

import hashlib
import json
from typing import Any

from uptake.types import Dialogue, Turn

THOUGHTS = ("reasoning_content", "reasoning", "thinking")
# What the system turn holds for the whole conversation: columns of a row.
OF_CONVERSATION = ("tools", "chat_template_kwargs")
# The fields of a turn that are a part of what is said, and not of who wrote it down, and when.
_FIELDS = ("tool_calls", "tool_call_id", "name", *THOUGHTS, *OF_CONVERSATION)


def words(turn: Turn) -> dict[str, Any]:
    """The role, the content and the fields of a turn that a chat template may read."""
    read = {name: turn.fields[name] for name in _FIELDS if name in turn.fields}
    return {"role": turn.role, "content": turn.content, **read}


def prompt_key(turns: Dialogue) -> str:
    """Return the first 16 hex digits of the SHA-256 of the canonical JSON of `turns`.

    Canonical JSON is an array of what `words` says of every turn: keys sorted, no blanks, UTF-8.
    """
    rows = [words(turn) for turn in turns]
    text = json.dumps(rows, sort_keys=True, separators=(",", ":"), ensure_ascii=False, default=str)
    return hashlib.sha256(text.encode(errors="backslashreplace")).hexdigest()[:16]


def content_key(*parts: Any) -> str:
    """A key that differs wherever the parts do; they are written as JSON."""
    text = json.dumps(parts, ensure_ascii=False, sort_keys=True, default=repr)
    # Half a surrogate pair has no UTF-8 form, but its backslash form is JSON's own.
    return hashlib.sha256(text.encode(errors="backslashreplace")).hexdigest()
