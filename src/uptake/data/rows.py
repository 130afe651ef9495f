"""Records to rows and back: every row shape of TRL, the HH-RLHF texts, and responses with edits or marked spans."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from uptake.data.edited import EDITED, MARKS, edited_columns, edited_row
from uptake.data.turns import (
    conversation,
    is_marked,
    message,
    message_list,
    messages,
    of_conversation,
    of_row,
    unspelled,
)
from uptake.data.values import finite, present
from uptake.data.where import Record, bad_row, truth
from uptake.support.keys import OF_CONVERSATION, prompt_key, words
from uptake.types import Answered, Dialogue, Edited, Fields, PairIds, Preference, Prompt, Rated, Row, Turn, Where

FIELDS = ("messages", "prompt", "completion", "chosen", "rejected", "label", "text", *MARKS)
# The columns of `token_ids` that hold ids.
_SAMPLED = ("prompt", "chosen", "rejected")
# Columns that belong to the conversation, whatever its shape: they are read into its system turn.
_OF_SYSTEM = ("system", *OF_CONVERSATION)
# All that a row is read from.
COLUMNS = (*FIELDS, *_OF_SYSTEM)
_READ = {*COLUMNS, *EDITED}
SHAPES = (
    "prompt | messages | prompt, completion | prompt, completion, label | prompt, completion, spans or edited "
    "| [prompt,] chosen, rejected | text"
)

_OPEN_END = "Assistant:"


def to_row(record: Record, where: Where | None = None) -> Row:
    """The row that a record spells; which kind it is follows from its columns.

    - `chosen`, `rejected`, with or without `prompt`: Preference. Strings, one assistant message each, or whole
      conversations; the prompt of whole conversations is what they begin with alike, after what only `prompt` has.
    - `text` as a list [better, worse] of marked texts: Preference. `text` as one marked text: as `messages`.
    - `prompt`, `completion`: Answered, Rated with a `label` (true or false), or Edited with `spans` or `edited`.
    - `messages`: Answered where the assistant speaks last, else Prompt.
    - `prompt`: Prompt.

    `system`, `tools` and `chat_template_kwargs` beside any of these go to the system turn, a preference's `margin` and
    `token_ids`, as mined rows have them, to fields of these names, the columns that the kind does not use to `extra`.
    Messages may hold tool calls, thoughts and other fields. A column that is null, or NaN, is absent. Raises InputError
    with place and field for any other row, and as `values.present` does.
    """
    record = present(record, _READ, where)
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


def to_record(row: Row) -> dict[str, Any]:
    """The TRL record of a row, all parts as lists of messages, with the columns of `extra` beside them.

    A column of `extra` that would make another kind of the row is left out.
    """
    prompt = row if isinstance(row, Prompt) else row.prompt
    parts: dict[str, Any] = {"prompt": message_list(prompt.turns)}
    match row:
        case Answered():
            parts["completion"] = _response(row.response, row.fields)
        case Preference():
            chosen, rejected = _response(row.chosen, row.chosen_fields), _response(row.rejected, row.rejected_fields)
            parts |= {"chosen": chosen, "rejected": rejected, **_mined_columns(row)}
        case Rated():
            parts |= {"completion": _response(row.response, row.fields), "label": row.good}
        case Edited():
            parts |= {"completion": _response(row.response), **edited_columns(row)}
    parts |= of_conversation(prompt.turns)
    reserved = _reserved(row)
    return parts | {name: value for name, value in prompt.extra.items() if name not in reserved}


def further_columns(row: Row) -> Mapping[str, Any]:
    """The columns of a row's record beside its conversation, its responses and their labels."""
    if isinstance(row, Prompt):
        return row.extra
    return {**row.prompt.extra, **_mined_columns(row)} if isinstance(row, Preference) else row.prompt.extra


def bare(row: Row) -> Row:
    """The row without its further columns."""
    if isinstance(row, Prompt):
        return replace(row, extra={})
    row = replace(row, margin=None, token_ids=None) if isinstance(row, Preference) else row
    return replace(row, prompt=replace(row.prompt, extra={}))


def _mined_columns(row: Preference) -> dict[str, Any]:
    """The columns of a mined preference's margin and token ids, as far as it has them."""
    margin = {} if row.margin is None else {"margin": row.margin}
    if row.token_ids is None:
        return margin
    ids = {name: list(getattr(row.token_ids, name)) for name in _SAMPLED}
    return margin | {"token_ids": {"tokenizer": row.token_ids.tokenizer, **ids}}


def _mined_fields(record: Record) -> dict[str, Any]:
    """A preference's margin and token ids by field; a column of such a name that holds other things is none of them."""
    margin, ids = record.get("margin"), record.get("token_ids")
    found: dict[str, Any] = {}
    if finite(margin) is not None:
        found["margin"] = margin
    if isinstance(ids, Mapping) and ids.keys() == {"tokenizer", *_SAMPLED} and all(_are_ids(ids[n]) for n in _SAMPLED):
        found["token_ids"] = PairIds(str(ids["tokenizer"]), *(tuple(ids[name]) for name in _SAMPLED))
    return found


def _are_ids(value: Any) -> bool:
    return isinstance(value, list | tuple) and all(type(each) is int and each >= 0 for each in value)


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
    sides = [unspelled(_column(record, name, where), where, name) for name in ("chosen", "rejected")]
    if "prompt" in record and not any(map(_is_conversation, sides)):
        mined = _mined_fields(record)
        prompt = _prompt(_question(record["prompt"], where), record, where, ("prompt", "chosen", "rejected", *mined))
        chosen, rejected = response_turn(sides[0], where, "chosen"), response_turn(sides[1], where, "rejected")
        return Preference(prompt, chosen.content, rejected.content, chosen.fields, rejected.fields, **mined)
    both = conversation(sides[0], where, "chosen"), conversation(sides[1], where, "rejected")
    return _after_common_turns(both, ("chosen", "rejected"), record, where)


def _better_and_worse(record: Record, where: Where | None) -> Row:
    texts, scores = record["text"], record.get("score")
    if len(texts) != 2 or (isinstance(scores, list) and not _fall(scores)):
        allowed = "a marked text, or a list [better text, worse text] with scores, if any, that fall"
        raise bad_row(f"{len(texts)} texts with score {scores}", where, field="text", allowed=allowed)
    sides = conversation(texts[0], where, "text"), conversation(texts[1], where, "text")
    return _after_common_turns(sides, ("text", "text"), record, where)


def _fall(scores: Sequence[Any]) -> bool:
    """Whether the first of some scores is above the last."""
    first, last = (finite(each[0]) if each else None for each in (scores[:1], scores[-1:]))
    return first is not None and last is not None and first > last


def _after_common_turns(
    sides: tuple[Dialogue, Dialogue], fields: tuple[str, str], record: Record, where: Where | None
) -> Preference:
    """The preference between two whole conversations, after the turns that they begin with alike and their prompt."""
    differ = (index for index, (one, other) in enumerate(zip(*sides, strict=False)) if words(one) != words(other))
    alike = next(differ, min(map(len, sides)) - 1)
    for side, field in zip(sides, fields, strict=True):
        rest = ", ".join(turn.role for turn in side[alike:])
        if rest != "assistant":
            problem = f"after {alike} turns in common with the other side: {rest}"
            raise bad_row(problem, where, field=field, allowed="exactly one assistant turn after the common turns")
    chosen, rejected = (_spoken(side[-1], where, field) for side, field in zip(sides, fields, strict=True))
    mined, used = _mined_fields(record), ("prompt", *fields) if "prompt" in record else fields
    prompt = _prompt(_with_prompt(sides[0][:alike], record, where), record, where, (*used, *mined))
    return Preference(prompt, chosen.content, rejected.content, chosen.fields, rejected.fields, **mined)


def _with_prompt(common: Dialogue, record: Record, where: Where | None) -> Dialogue:
    """The turns that two conversations begin with, after those of the row's prompt that stand before them.

    Raises InputError for a prompt of which a turn would be lost.
    """
    question = _question(record["prompt"], where) if "prompt" in record else ()
    wanted, found = (list(map(words, turns)) for turns in (question, common))
    if any(_hold(found[index : index + len(wanted)], wanted) for index in range(len(found))):
        return common
    for before in range(1, len(wanted)):
        if _hold(found[: len(wanted) - before], wanted[before:]):
            return (*question[:before], *common)
    allowed = "turns of both, or turns that end with what both begin with"
    raise bad_row("the prompt is not in the conversations beside it", where, field="prompt", allowed=allowed)


def _hold(turns: Sequence[Record], others: Sequence[Record]) -> bool:
    """Whether turns hold all that as many others say."""
    return len(turns) == len(others) and all(
        one.items() >= other.items() for one, other in zip(turns, others, strict=True)
    )


def _completed(record: Record, where: Where | None) -> Row:
    question = _question(_column(record, "prompt", where), where)
    response = response_turn(unspelled(record["completion"], where, "completion"), where, "completion")
    if "label" not in record and any(record.get(name) is not None for name in MARKS):
        prompt = _prompt(question, record, where, ("prompt", "completion", *EDITED))
        if response.fields:
            allowed = "a text alone"
            raise bad_row(f"an edit of a response with {', '.join(response.fields)}", where, allowed=allowed)
        return edited_row(prompt, response.content, record)
    prompt = _prompt(question, record, where, ("prompt", "completion", "label"))
    if "label" not in record:
        return Answered(prompt, response.content, response.fields)
    return Rated(prompt, response.content, truth(record["label"], where, "label"), response.fields)


def _transcript(record: Record, field: str, where: Where | None) -> Row:
    turns = conversation(record[field], where, field)
    if isinstance(record[field], str):
        turns = _open(turns)
    if turns[-1].role != "assistant":
        return _prompt(turns, record, where, (field,))
    response = _spoken(turns[-1], where, field)
    return Answered(_prompt(turns[:-1], record, where, (field,)), response.content, response.fields)


def _prompt(turns: Dialogue, record: Record, where: Where | None, used: tuple[str, ...]) -> Prompt:
    """The prompt of a row that makes use of the columns `used`, of which the first holds the prompt."""
    if turns[-1].role == "user" and not turns[-1].content.strip():
        raise bad_row("the user's last turn is blank", where, field=used[0], allowed="some text")
    turns, read = _with_system(turns, record, where)
    extra = {name: value for name, value in record.items() if name not in (*used, *read)}
    return Prompt(turns, prompt_key(turns), where, extra)


def _with_system(turns: Dialogue, record: Record, where: Where | None) -> tuple[Dialogue, tuple[str, ...]]:
    """The turns with what the row says beside them in the system turn, and the names of these columns.

    A `system` that is no text, such as the number of one that answered, is a column like any other.
    """
    found = {name: record[name] for name in _OF_SYSTEM if record.get(name) not in (None, "", [], {})}
    if not isinstance(found.get("system", ""), str):
        del found["system"]
    has_turn = turns[0].role == "system"
    content = turns[0].content if has_turn else ""
    if found.get("system", content) != content and has_turn:
        raise bad_row("the conversation begins with another", where, field="system", allowed="one system turn")
    fields = dict(turns[0].fields) if has_turn else {}
    fields |= {name: of_row(name, found[name], where) for name in OF_CONVERSATION if name in found}
    if fields and has_turn and not content:
        raise bad_row("a blank system turn beside tools", where, field="system", allowed="some text, or no such turn")
    if not found:
        return turns, ()
    return (Turn("system", found.get("system", content), fields), *turns[has_turn:]), tuple(found)


def _question(value: Any, where: Where | None) -> Dialogue:
    """The turns of a prompt: a list of messages, a marked text, or the text of one user turn."""
    value = unspelled(value, where, "prompt")
    if isinstance(value, str) and not is_marked(value):
        return (Turn("user", _closed(value)),)
    turns = conversation(value, where, "prompt")
    turns = _open(turns) if isinstance(value, str) else turns
    if turns[-1].role == "assistant":
        allowed = "a user turn at its end, or the result of a tool"
        raise bad_row("the prompt ends with an assistant turn", where, field="prompt", allowed=allowed)
    return turns


def response_turn(value: Any, where: Where | None, field: str) -> Turn:
    """The turn of a response: a string, one assistant message, or a list of one."""
    if isinstance(value, str):
        return _spoken(Turn("assistant", value), where, field)
    turns = messages([value] if isinstance(value, Mapping) else value, where, field)
    if [turn.role for turn in turns] != ["assistant"]:
        found = ", ".join(turn.role for turn in turns) or "no turn"
        raise bad_row(f"found {found}", where, field=field, allowed="a string, or exactly one assistant message")
    return _spoken(turns[0], where, field)


def _spoken(response: Turn, where: Where | None, field: str) -> Turn:
    if not response.content.strip() and "tool_calls" not in response.fields:
        raise bad_row("the response is blank", where, field=field, allowed="some text")
    return response


def _closed(text: str) -> str:
    """A text without the bare "Assistant:" at its end that asks for a response."""
    before = text.rstrip().removesuffix(_OPEN_END)
    return before.rstrip() if before[-1:].isspace() and len(before) < len(text.rstrip()) else text


def _open(turns: Dialogue) -> Dialogue:
    """The turns of a marked text without the bare "Assistant:" that asks for a response."""
    return turns[:-1] if turns[-1] == Turn("assistant", "") else turns


def _is_conversation(value: Any) -> bool:
    return is_marked(value) if isinstance(value, str) else isinstance(value, list) and len(value) > 1


def _column(record: Record, name: str, where: Where | None) -> Any:
    if name not in record:
        problem = f"no such column, the columns are: {', '.join(record)}"
        raise bad_row(problem, where, field=name, allowed=SHAPES)
    return record[name]


def _response(content: str, fields: Fields | None = None) -> list[dict[str, Any]]:
    return [message(Turn("assistant", content, fields or {}))]
