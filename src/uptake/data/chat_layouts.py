"""Rows of chats as other tools write them: of ShareGPT, Alpaca, LLaMA-Factory, OpenAI, LMSYS and WildChat."""

import json
from collections.abc import Mapping, Sequence
from typing import Any, Final

from uptake.data.turns import unspelled
from uptake.data.where import Record, bad_row, without
from uptake.types import Where

# Who speaks in shared logs, beside those of `turns`.
_SPEAKERS: Final = {"chatgpt": "gpt", "bing": "gpt", "bard": "gpt", "function_response": "tool"}
# What stands beside an instruction in Alpaca, Dolly and LLaMA-Factory, by the name that it has here.
_ALPACA: Final = {
    "response": "completion",
    "output": "completion",
    "kto_tag": "label",
    "chosen_response": "chosen",
    "rejected_response": "rejected",
}
# What a pair has not.
_SINGLE: Final = ("completion", "label")
# Which of two sides is better, by what an arena says of them.
_WINNERS: Final = {"model_a": 0, "model_b": 1}


def sharegpt(record: Record, where: Where | None) -> list[Record]:
    """Conversations of `from` and `value`; beside them a pair `chosen`, `rejected`, or the label `kto_tag`."""
    turns = unspelled(record["conversations"], where, "conversations")
    turns = list(map(_message, turns)) if isinstance(turns, list) else turns
    rest = without(record, "conversations", "kto_tag")
    if "chosen" in record and "rejected" in record:
        return [{**rest, "prompt": turns}]
    if "kto_tag" in record and isinstance(turns, list):
        return [{**rest, "prompt": turns[:-1], "completion": turns[-1:], "label": record["kto_tag"]}]
    return [{**rest, "messages": turns}]


def _message(message: Any) -> Any:
    """A message as `turns` reads it: a call of a function is the assistant's, and its value spells it as JSON."""
    if not isinstance(message, Mapping) or not isinstance(message.get("from"), str):
        return message
    if message["from"] == "function_call":
        spelled = str(message.get("value")).strip()
        return {"role": "assistant", "content": "", "tool_calls": spelled if spelled[:1] == "[" else f"[{spelled}]"}
    return {**message, "from": _SPEAKERS.get(message["from"], message["from"])}


def chat_log(record: Record, where: Where | None) -> list[Record]:
    """A logged conversation."""
    return [{**without(record, "conversation"), "messages": record["conversation"]}]


def alpaca(record: Record, where: Where | None) -> list[Record]:
    """An instruction, after a `history` of pairs where there is one, and its output, or a better and a worse one.

    The `input` (or `context`) follows the instruction on a line of its own. The column `text`, which spells all this by
    a template of Alpaca, goes.
    """
    texts = [record[name] for name in ("instruction", "input", "context") if record.get(name, "") != ""]
    before = record.get("history", [])
    pairs = isinstance(before, list) and all(isinstance(pair, Sequence) and len(pair) == 2 for pair in before)
    if not pairs or not all(isinstance(text, str) for text in texts):
        allowed = "texts, and a history of pairs of texts"
        raise bad_row("an instruction that is no text", where, field="instruction", allowed=allowed)
    pair = not record.keys().isdisjoint(("chosen", "chosen_response"))
    names = {ours: theirs for theirs, ours in _ALPACA.items() if theirs in record and not (pair and ours in _SINGLE)}
    rest = without(record, "instruction", "input", "context", "history", "text", *names.values())
    answers = {ours: record[theirs] for ours, theirs in names.items()}
    turns = [_turn(role, text) for pair in before for role, text in zip(("user", "assistant"), pair, strict=True)]
    return [{**rest, "prompt": [*turns, _turn("user", "\n".join(texts))], **answers}]


def preferences(record: Record, where: Where | None) -> list[Record]:
    """A pair of OpenAI: an `input` with messages and tools, and two outputs."""
    names = ("preferred_output", "non_preferred_output")
    question = _object(record, "input", where, ("messages",))
    sides = {"chosen": record[names[0]], "rejected": record[names[1]]}
    return [
        {**without(record, "input", *names), **without(question, "messages"), "prompt": question["messages"], **sides}
    ]


def batch_request(record: Record, where: Where | None) -> list[Record]:
    """A request of a batch of OpenAI, to complete chats or texts, or to respond; its settings become columns."""
    body = _object(record, "body", where, ("messages", "input", "prompt"))
    row = {**without(record, "body"), **without(body, "input", "instructions")}
    if "input" in body:
        row["prompt"] = body["input"]
    if body.get("instructions"):
        row["system"] = body["instructions"]
    return [row]


def batch_result(record: Record, where: Where | None) -> list[Record]:
    """Nothing: an answer alone cannot be read."""
    allowed = "the requests with the answers as completion, joined by custom_id"
    raise bad_row("the result of a batch, which does not hold its question", where, field="response", allowed=allowed)


def arena(record: Record, where: Where | None) -> list[Record]:
    """Two conversations, and which of the two models was preferred."""
    sides = ("conversation_a", "conversation_b")
    winner = _WINNERS.get(str(record["winner"]))
    return [{**without(record, *sides), **preferred([record[name] for name in sides], winner, where, "winner")}]


def arena_table(record: Record, where: Where | None) -> list[Record]:
    """The same, each turn a text in one of three lists, spelled as JSON, and the winner in three columns of 0 and 1."""
    names = ("prompt", "response_a", "response_b")
    questions, *answers = (_texts(record[name], where, name) for name in names)
    for name, texts in zip(names[1:], answers, strict=True):
        if len(texts) != len(questions):
            problem = f"{len(texts)} texts after {len(questions)} prompts"
            raise bad_row(problem, where, field=name, allowed="one for every prompt")
    sides = [
        [
            _turn(role, text)
            for pair in zip(questions, texts, strict=True)
            for role, text in zip(_ROLES, pair, strict=True)
        ]
        for texts in answers
    ]
    winner = next((side for name, side in _WINNERS.items() if record.get(f"winner_{name}") in (1, "1")), None)
    return [{**without(record, *names), **preferred(sides, winner, where, "winner_tie")}]


_ROLES: Final = ("user", "assistant")


def preferred(sides: Sequence[Any], better: int | None, where: Where | None, field: str) -> dict[str, Any]:
    """The columns of a pair, of which side number `better` won; InputError where none did."""
    if better is None:
        raise bad_row("neither of the two is preferred", where, field=field, allowed="one of them, or --drop-bad")
    return {"chosen": sides[better], "rejected": sides[1 - better]}


def _object(record: Record, name: str, where: Where | None, any_of: Sequence[str]) -> Mapping[str, Any]:
    found = record[name]
    if not isinstance(found, Mapping) or found.keys().isdisjoint(any_of):
        raise bad_row(f"no {' or '.join(any_of)} in it", where, field=name, allowed=f"{{{any_of[0]}: [...]}}")
    return found


def _texts(value: Any, where: Where | None, field: str) -> list[str]:
    try:
        found = json.loads(value) if isinstance(value, str) else value
    except ValueError:
        found = None
    if not isinstance(found, list) or not all(isinstance(text, str) for text in found):
        raise bad_row(f"found {str(value)[:40]!r}", where, field=field, allowed="a list of texts, one a turn")
    return found


def _turn(role: str, content: Any) -> dict[str, Any]:
    return {"role": role, "content": content}
