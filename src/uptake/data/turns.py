"""Conversations as data sets spell them: lists of messages, texts that spell one, and texts with "Human:" marks."""

import ast
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from itertools import pairwise
from typing import Any

from uptake.data.values import one_of, parsed
from uptake.data.where import bad_row
from uptake.support.keys import OF_CONVERSATION, THOUGHTS
from uptake.support.notes import note
from uptake.types import Dialogue, Fields, Role, Turn, Where

_ROLES: Mapping[str, Role] = {
    "system": "system",
    "user": "user",
    "human": "user",
    "assistant": "assistant",
    "gpt": "assistant",
    "tool": "tool",
    "observation": "tool",
}
_KEYS = (("role", "content"), ("from", "value"))
_MARKS: Mapping[str, Role] = {"Human": "user", "Assistant": "assistant"}
# Each run of blanks is read once; a mark stands at the beginning or after an empty line.
_MARK = re.compile(r"(?<!\s)(\s*)(Human|Assistant):")
_OPENS = re.compile(r"\s*\[?\s*\{")
_SPELLS = re.compile(r"""\s*\[\s*\{\s*(['"])(role|from|content|value)\1\s*:""")
_NEXT: Mapping[Role, tuple[Role, ...]] = {
    "system": ("user", "assistant"),
    "user": ("assistant",),
    "assistant": ("user", "tool"),
    "tool": ("tool", "assistant", "user"),
}
_ORDER = "an optional system turn, then user and assistant turns in alternation, with results of tools after a call"
# Arguments of Transformers' function around the template, which no row may set.
_NOT_OF_ROWS = {
    *("conversation", "tools", "chat_template", "add_generation_prompt", "continue_final_message", "tokenize"),
    *("return_dict", "return_tensors", "return_assistant_tokens_mask", "sanitize_control_tokens", "truncation"),
}


def conversation(value: Any, where: Where | None, field: str) -> Dialogue:
    """The turns of a list of messages, of text that spells one as JSON or Python does, or of marked text.

    Messages are `{"role": "user", "content": "..."}` or `{"from": "human", "value": "..."}`, with other fields beside.
    Raises InputError for anything else, and for turns out of order: an optional system turn, then user, assistant, user
    and so on, where tools may speak after the assistant, and the assistant first of all.
    """
    value = unspelled(value, where, field)
    turns = _marked(value, where, field) if isinstance(value, str) else messages(value, where, field)
    ordered = all(later.role in _NEXT[turn.role] for turn, later in pairwise(turns))
    if not ordered or all(turn.role != "user" for turn in turns) or turns[0].role == "tool":
        found = ", ".join(turn.role for turn in turns) or "no turns"
        raise bad_row(f"turns out of order: {found}", where, field=field, allowed=_ORDER)
    return turns


def messages(value: Any, where: Where | None, field: str) -> Dialogue:
    """The turns of a list of messages, in any order; InputError where the list or a message is of another form."""
    if not isinstance(value, Sequence) or isinstance(value, str):
        allowed = "a list of messages {role, content} or {from, value}"
        raise bad_row(f"found a {type(value).__name__}", where, field=field, allowed=allowed)
    return tuple(_message(item, where, f"{field}[{index}]") for index, item in enumerate(value))


def unspelled(value: Any, where: Where | None, field: str) -> Any:
    """The list of messages that a text spells, as JSON or as Python prints it; any other value as it is.

    Raises InputError for a text that has the form of such a list and cannot be read.
    """
    if not isinstance(value, str) or not _OPENS.match(value) or not any(all(map(value.__contains__, k)) for k in _KEYS):
        return value
    try:
        found = parsed(value)
    except ValueError:
        try:
            found = parsed(json.dumps(ast.literal_eval(value.strip())))  # no more than JSON has, whoever prints it
        except (ValueError, TypeError, SyntaxError, MemoryError, RecursionError) as error:
            if not _SPELLS.match(value):
                return value
            problem = f"this text spells a list of messages, and cannot be read: {value[:60]!r}"
            raise bad_row(problem, where, field=field, allowed="a list of messages, in JSON or as Python's") from error
    listed = [found] if isinstance(found, Mapping) else found
    return listed if isinstance(listed, list) and listed and all(map(_is_message, listed)) else value


def _is_message(value: Any) -> bool:
    """Whether a value has the form of a message, of a role that there is."""
    if not isinstance(value, Mapping):
        return False
    return any(
        one_of(_ROLES, value.get(role)) and (content in value or "tool_calls" in value) for role, content in _KEYS
    )


def message(turn: Turn) -> dict[str, Any]:
    """A turn as a message, with its fields but for those of the conversation."""
    fields = {name: value for name, value in turn.fields.items() if name not in OF_CONVERSATION}
    return {"role": turn.role, "content": turn.content, **fields}


def message_list(turns: Dialogue) -> list[dict[str, Any]]:
    """The messages of a conversation; a system turn without content is none."""
    return [message(turn) for turn in turns if turn.role != "system" or turn.content]


def for_server(turns: Dialogue) -> dict[str, Any]:
    """Conversation in OpenAI's protocol: messages, whose calls spell out their arguments, and what stands beside."""
    messages = message_list(turns)
    for each in messages:
        if calls := each.get("tool_calls"):
            each["tool_calls"] = list(map(_spelled_call, calls))
    return {"messages": messages, **of_conversation(turns)}


def _spelled_call(call: Mapping[str, Any]) -> Mapping[str, Any]:
    if "function" in call:
        return {**call, "function": _spelled_call(call["function"])}
    return {**call, "arguments": json.dumps(call["arguments"], ensure_ascii=False)}


def of_conversation(turns: Dialogue) -> Fields:
    """What is of a whole conversation, as columns: `tools` and `chat_template_kwargs`, where it has them."""
    first = turns[0].fields if turns and turns[0].role == "system" else {}
    return {name: first[name] for name in OF_CONVERSATION if name in first}


def as_text(turn: Turn) -> str:
    """A turn as people read it: its content, then its tool calls, one a line."""
    if any(name in turn.fields for name in THOUGHTS):
        note("thoughts are not shown where a conversation is read as text", (turn, str(turn.fields)))
    calls = [call.get("function", call) for call in turn.fields.get("tool_calls", ())]
    lines = [f"{call['name']}({json.dumps(call['arguments'], ensure_ascii=False)})" for call in calls]
    return "\n".join(filter(None, (turn.content, *lines)))


def is_marked(text: str) -> bool:
    """Whether a text has the form of the HH-RLHF data: "\\n\\nHuman: ...\\n\\nAssistant: ..."."""
    return _MARK.match(text) is not None


def _marks(text: str) -> Iterator[re.Match[str]]:
    return (mark for mark in _MARK.finditer(text) if not mark.start() or "\n\n" in mark[1])


def _marked(text: str, where: Where | None, field: str) -> Dialogue:
    if not is_marked(text):
        allowed = 'a list of messages, or a text that begins with "Human:" or "Assistant:"'
        raise bad_row(f"found {text[:40]!r}", where, field=field, allowed=allowed)
    marks = list(_marks(text))
    ends = [*(mark.start() for mark in marks[1:]), len(text)]
    spoken = zip(marks, ends, strict=True)
    return tuple(Turn(_MARKS[mark[2]], text[mark.end() : end].strip()) for mark, end in spoken)


def _message(item: Any, where: Where | None, field: str) -> Turn:
    if isinstance(item, Turn):
        return item
    if not isinstance(item, Mapping):
        raise bad_row(f"found a {type(item).__name__}", where, field=field, allowed="a message {role, content}")
    present = _present(item)
    called = bool(present.get("tool_calls"))
    keys = next((keys for keys in _KEYS if keys[0] in present and (keys[1] in item or called)), None)
    if keys is None:
        allowed = " or ".join("{" + ", ".join(keys) + "}" for keys in _KEYS)
        raise bad_row(f"a message with {', '.join(map(str, item)) or 'nothing'}", where, field=field, allowed=allowed)
    role, content = present.pop(keys[0]), _joined(present.pop(keys[1], "" if called else None))
    if twice := sorted(present.keys() & {"role", "content", "from", "value"}):
        raise bad_row(f"{twice[0]} beside {keys[0]} and {keys[1]}", where, field=field, allowed="one of the two forms")
    if (spoken_by := one_of(_ROLES, role)) is None:
        raise bad_row(f"role {role!r}", where, field=f"{field}.{keys[0]}", allowed=", ".join(_ROLES))
    if not isinstance(content, str):
        raise bad_row(f"found a {type(content).__name__}", where, field=f"{field}.{keys[1]}", allowed="a string")
    return Turn(spoken_by, content, _fields(present, where, field))


def _joined(content: Any) -> Any:
    """The text of a content that servers spell in parts, which are all texts; any other as it is."""
    parts = content if isinstance(content, list) else []
    texts = [part["text"] for part in parts if isinstance(part, Mapping) and isinstance(part.get("text"), str)]
    return "".join(texts) if texts and len(texts) == len(parts) else content


def _fields(present: Mapping[str, Any], where: Where | None, field: str) -> Fields:
    """The further fields of a message, checked where a template or a loss reads them."""
    for name in THOUGHTS:
        if not isinstance(present.get(name, ""), str):
            problem = f"found a {type(present[name]).__name__}"
            raise bad_row(problem, where, field=f"{field}.{name}", allowed="a string")
    if present.get("weight", 1) not in (0, 1):
        allowed = "1, or 0 for a turn that is not learned from"
        raise bad_row(f"found {present['weight']!r}", where, field=f"{field}.weight", allowed=allowed)
    fields = dict(present)
    if not fields.get("tool_calls", True):
        del fields["tool_calls"]  # an empty list, as logs have it beside every text
    if "tool_calls" in fields:
        fields["tool_calls"] = _calls(fields["tool_calls"], where, f"{field}.tool_calls")
    for name in OF_CONVERSATION:
        if name in fields:
            fields[name] = of_row(name, fields[name], where)
    return fields


def of_row(name: str, value: Any, where: Where | None) -> Any:
    """A column of `OF_CONVERSATION` as templates take it, a text read as JSON; InputError for one that is not such."""
    found = _json(value, where, name) if isinstance(value, str) else _present(value)
    if name == "tools" and isinstance(found, list) and all(isinstance(each, Mapping) for each in found):
        return found
    if name == "chat_template_kwargs" and isinstance(found, Mapping):
        if taken := sorted(found.keys() & _NOT_OF_ROWS):
            raise bad_row(f"found {taken[0]!r}", where, field=name, allowed="what the template itself reads")
        return found
    allowed = "a list of tools, each an object" if name == "tools" else "an object of arguments for the template"
    raise bad_row(f"found {str(value)[:40]!r}", where, field=name, allowed=allowed)


def _calls(value: Any, where: Where | None, field: str) -> list[Any]:
    """Tool calls with their arguments as objects: templates spell them out themselves."""
    found = _json(value, where, field)
    if not isinstance(found, list) or not all(isinstance(call, Mapping) for call in found):
        raise bad_row(f"found {str(value)[:40]!r}", where, field=field, allowed="a list of calls, each an object")
    return [_call(call, where, f"{field}[{index}]") for index, call in enumerate(found)]


def _call(call: Mapping[str, Any], where: Where | None, field: str) -> Mapping[str, Any]:
    if isinstance(call.get("function"), Mapping):
        return {**call, "function": _call(call["function"], where, f"{field}.function")}
    if "function" in call:
        raise bad_row(f"found {str(call)[:40]!r}", where, field=field, allowed="{name, arguments: {...}}")
    arguments = _json(call.get("arguments") or {}, where, f"{field}.arguments")
    if not isinstance(call.get("name"), str) or not isinstance(arguments, Mapping):
        raise bad_row(f"found {str(call)[:40]!r}", where, field=field, allowed="{name, arguments: {...}}")
    return {**call, "arguments": arguments}


def _present(value: Any) -> Any:
    """A value without the nulls in its objects, which tables have for what other rows have."""
    if isinstance(value, Mapping):
        return {name: _present(each) for name, each in value.items() if each is not None}
    return list(map(_present, value)) if isinstance(value, list) else value


def _json(value: Any, where: Where | None, field: str) -> Any:
    """What a text spells as JSON; any other value as it is."""
    if not isinstance(value, str):
        return value
    try:
        return parsed(value)
    except ValueError as error:
        raise bad_row(f"found {value[:40]!r}: {error}", where, field=field, allowed="JSON") from error
