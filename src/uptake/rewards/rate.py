"""What rewards share: every dialogue that can be rated is, and the others are invalid and say why."""

from collections.abc import Callable, Sequence
from typing import Any, TypeVar

from uptake.data.turns import conversation
from uptake.data.where import bad_row
from uptake.errors import InputError
from uptake.types import Dialogue, Judgement, Turn, Where

Ready = TypeVar("Ready")


def rate_each(
    dialogues: Sequence[Dialogue],
    prepare: Callable[[Dialogue], Ready],
    judge: Callable[[Sequence[Ready]], Sequence[Judgement]],
) -> list[Judgement]:
    """Prepare every dialogue, and judge together all those that could be; where `prepare` raises InputError, none is.

    `prepare` gets turns in good order that end with a response.
    """
    judged: dict[int, Judgement] = {}
    ready: dict[int, Ready] = {}
    for index, dialogue in enumerate(dialogues):
        try:
            ready[index] = prepare(answered_turns(dialogue))
        except InputError as error:
            judged[index] = invalid(error)
    judged.update(zip(ready, judge(list(ready.values())), strict=True))
    return [judged[index] for index in range(len(dialogues))]


def invalid(error: InputError) -> Judgement:
    """The judgement of a response that cannot be rated."""
    return Judgement(0.0, valid=False, reason=str(error))


def answered_turns(messages: Sequence[Any], where: Where | None = None) -> Dialogue:
    """Messages, as dictionaries or turns, that end with a response; raises InputError for any others."""
    spelled = [{"role": each.role, "content": each.content} if isinstance(each, Turn) else each for each in messages]
    turns = conversation(spelled, where, "messages")
    if turns[-1].role != "assistant":
        raise bad_row("the last turn is the user's", where, field="messages", allowed="a response to rate at the end")
    if not turns[-1].content.strip():
        raise bad_row("the response is empty", where, field="messages", allowed="some text")
    return turns
