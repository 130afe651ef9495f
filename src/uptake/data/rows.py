"""Records to rows and back: every row shape of TRL, the HH-RLHF texts, and responses with edits or marked spans."""

import re
from collections.abc import Mapping, Sequence
from typing import Any

from uptake.data.edited import EDITED, MARKS, edited_columns, edited_row
from uptake.data.turns import conversation, is_marked, messages
from uptake.data.where import Record, bad_row
from uptake.support.keys import prompt_key
from uptake.types import Answered, Dialogue, Edited, Preference, Prompt, Rated, Row, Turn, Where

FIELDS = ("messages", "prompt", "completion", "chosen", "rejected", "label", "text", *MARKS)
SHAPES = (
    "prompt | messages | prompt, completion | prompt, completion, label | prompt, completion, spans or edited "
    "| [prompt,] chosen, rejected | text"
)

_OPEN_END = re.compile(r"\s+Assistant:\s*\Z")


def to_row(record: Record, where: Where | None = None) -> Row:
    """The row that a record spells; which kind it is follows from its columns.

    - `chosen`, `rejected`, with or without `prompt`: Preference. Strings, one assistant message each, or whole
      conversations; the prompt of whole conversations is what they begin with alike.
    - `text` as a list [better, worse] of marked texts: Preference. `text` as one marked text: as `messages`.
    - `prompt`, `completion`: Answered, Rated with a `label` (true or false), or Edited with `spans` or `edited`.
    - `messages`: Answered where the assistant speaks last, else Prompt.
    - `prompt`: Prompt.

    The columns that the kind does not use go to `extra`. Raises InputError with place and field for any other row,
    and for a text that is not Unicode.
    """
    _check_unicode(record, where)
    if "chosen" in record or "rejected" in record:
        return _preference(record, where)
    if isinstance(record.get("text"), list | tuple):
        return _better_and_worse(record, where)
    if "completion" in record:
        return _completed(record, where)
    for field in ("messages", "text"):
        if field in record:
            return _transcript(record, field, where)
    if "prompt" in record:
        return _prompt(_question(record["prompt"], where), record, where, ("prompt",))
    raise bad_row(f"no known row shape, the columns are: {', '.join(record) or 'none'}", where, allowed=SHAPES)


def _check_unicode(record: Record, where: Where | None) -> None:
    """JSON can spell half of a surrogate pair, which is no character, and no tokenizer reads it."""
    for field in record.keys() & set(FIELDS):
        try:
            _encode(record[field])
        except UnicodeEncodeError as error:
            problem = f"half of a surrogate pair, U+{ord(error.object[error.start]):04X}"
            raise bad_row(problem, where, field=field, allowed="whole characters") from error


def _encode(value: Any) -> None:
    """Encode every text in a value of JSON."""
    if isinstance(value, str):
        value.encode()
    elif isinstance(value, Mapping):
        for each in value.values():
            _encode(each)
    elif isinstance(value, Sequence):
        for each in value:
            _encode(each)


def to_record(row: Row) -> dict[str, Any]:
    """The TRL record of a row, all parts as lists of messages, with the columns of `extra` beside them.

    A column of `extra` that would make another kind of the row is left out.
    """
    prompt = row if isinstance(row, Prompt) else row.prompt
    parts: dict[str, Any] = {"prompt": [{"role": turn.role, "content": turn.content} for turn in prompt.turns]}
    match row:
        case Answered():
            parts["completion"] = _said(row.response)
        case Preference():
            parts |= {"chosen": _said(row.chosen), "rejected": _said(row.rejected)}
        case Rated():
            parts |= {"completion": _said(row.response), "label": row.good}
        case Edited():
            parts |= {"completion": _said(row.response), **edited_columns(row)}
    reserved = _reserved(row)
    return parts | {name: value for name, value in prompt.extra.items() if name not in reserved}


def _reserved(row: Row) -> set[str]:
    """The columns that would make another kind of a row, or another row of its kind."""
    match row:
        case Prompt() | Preference():
            return set(FIELDS) - {"label", *MARKS}
        case Rated():
            return set(FIELDS) - {*MARKS}
        case Edited():
            return {*FIELDS, *EDITED}
    return set(FIELDS)


def _preference(record: Record, where: Where | None) -> Row:
    chosen, rejected = _column(record, "chosen", where), _column(record, "rejected", where)
    if "prompt" in record and not _is_conversation(chosen):
        prompt = _prompt(_question(record["prompt"], where), record, where, ("prompt", "chosen", "rejected"))
        return Preference(prompt, _answer(chosen, where, "chosen"), _answer(rejected, where, "rejected"))
    sides = conversation(chosen, where, "chosen"), conversation(rejected, where, "rejected")
    row = _after_common_turns(sides, ("chosen", "rejected"), record, where)
    if "prompt" in record and _question(record["prompt"], where)[-1] not in row.prompt.turns:
        raise bad_row(
            "the prompt is not in the conversations beside it", where, field="prompt", allowed="one of the two"
        )
    return row


def _better_and_worse(record: Record, where: Where | None) -> Row:
    texts, scores = record["text"], record.get("score")
    if len(texts) != 2 or (isinstance(scores, list) and not scores[0] > scores[-1]):
        allowed = "a marked text, or a list [better text, worse text] with scores, if any, that fall"
        raise bad_row(f"{len(texts)} texts with score {scores}", where, field="text", allowed=allowed)
    sides = conversation(texts[0], where, "text"), conversation(texts[1], where, "text")
    return _after_common_turns(sides, ("text", "text"), record, where)


def _after_common_turns(
    sides: tuple[Dialogue, Dialogue], fields: tuple[str, str], record: Record, where: Where | None
) -> Preference:
    """The preference between two whole conversations, after the turns that they begin with alike."""
    differ = (place for place, (one, other) in enumerate(zip(*sides, strict=False)) if one != other)
    alike = next(differ, min(map(len, sides)) - 1)
    for side, field in zip(sides, fields, strict=True):
        rest = ", ".join(turn.role for turn in side[alike:])
        if rest != "assistant":
            problem = f"after {alike} turns in common with the other side: {rest}"
            raise bad_row(problem, where, field=field, allowed="exactly one assistant turn after the common turns")
    chosen, rejected = (_spoken(side[-1].content, where, field) for side, field in zip(sides, fields, strict=True))
    return Preference(_prompt(sides[0][:alike], record, where, fields), chosen, rejected)


def _completed(record: Record, where: Where | None) -> Row:
    question = _question(_column(record, "prompt", where), where)
    response = _answer(record["completion"], where, "completion")
    if "label" not in record and any(record.get(name) is not None for name in MARKS):
        prompt = _prompt(question, record, where, ("prompt", "completion", *EDITED))
        return edited_row(prompt, response, record)
    prompt = _prompt(question, record, where, ("prompt", "completion", "label"))
    if "label" not in record:
        return Answered(prompt, response)
    good = {"true": True, "1": True, "false": False, "0": False}.get(str(record["label"]).lower())
    if good is None:
        raise bad_row(f"found {record['label']!r}", where, field="label", allowed="true or false")
    return Rated(prompt, response, good)


def _transcript(record: Record, field: str, where: Where | None) -> Row:
    turns = conversation(record[field], where, field)
    if isinstance(record[field], str):
        turns = _open(turns)
    if turns[-1].role == "user":
        return _prompt(turns, record, where, (field,))
    return Answered(_prompt(turns[:-1], record, where, (field,)), _spoken(turns[-1].content, where, field))


def _prompt(turns: Dialogue, record: Record, where: Where | None, used: tuple[str, ...]) -> Prompt:
    """The prompt of a row that makes use of the columns `used`, of which the first holds the prompt."""
    if not turns[-1].content.strip():
        raise bad_row("the user's last turn is blank", where, field=used[0], allowed="some text")
    extra = {name: value for name, value in record.items() if name not in used}
    return Prompt(turns, prompt_key(turns), where, extra)


def _question(value: Any, where: Where | None) -> Dialogue:
    """The turns of a prompt: a list of messages, a marked text, or the text of one user turn."""
    if isinstance(value, str) and not is_marked(value):
        return (Turn("user", _OPEN_END.sub("", value)),)
    turns = conversation(value, where, "prompt")
    turns = _open(turns) if isinstance(value, str) else turns
    if turns[-1].role != "user":
        raise bad_row("the prompt ends with an assistant turn", where, field="prompt", allowed="a user turn at its end")
    return turns


def _answer(value: Any, where: Where | None, field: str) -> str:
    """The text of a response: a string, one assistant message, or a list of one."""
    if isinstance(value, str):
        return _spoken(value, where, field)
    turns = messages([value] if isinstance(value, Mapping) else value, where, field)
    if [turn.role for turn in turns] != ["assistant"]:
        found = ", ".join(turn.role for turn in turns) or "no turn"
        raise bad_row(f"found {found}", where, field=field, allowed="a string, or exactly one assistant message")
    return _spoken(turns[0].content, where, field)


def _spoken(response: str, where: Where | None, field: str) -> str:
    if not response.strip():
        raise bad_row("the response is blank", where, field=field, allowed="some text")
    return response


def _open(turns: Dialogue) -> Dialogue:
    """The turns of a marked text without the bare "Assistant:" that asks for a response."""
    return turns[:-1] if turns[-1] == Turn("assistant", "") else turns


def _is_conversation(value: Any) -> bool:
    return isinstance(value, list) and len(value) > 1


def _column(record: Record, name: str, where: Where | None) -> Any:
    if name not in record:
        problem = f"no such column, the columns are: {', '.join(record)}"
        raise bad_row(problem, where, field=name, allowed=SHAPES)
    return record[name]


def _said(response: str) -> list[dict[str, str]]:
    return [{"role": "assistant", "content": response}]
