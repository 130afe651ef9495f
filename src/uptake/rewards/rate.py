"""Rating of dialogues: every one that can be rated is, and the others are invalid and say why."""

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

from uptake.data.turns import conversation
from uptake.data.where import bad_row
from uptake.errors import EmptyResponse, InputError, TooLong
from uptake.rewards.base import Response, RewardDetails
from uptake.types import Answered, Dialogue, Dropped, Judgement, Rollout, Turn, Where

if TYPE_CHECKING:
    import uptake.data.chat

_Prepared = TypeVar("_Prepared")


def dialogue_of(response: Response) -> Dialogue:
    """The dialogue that ends with a response."""
    if isinstance(response, Answered | Rollout):
        return (*response.prompt.turns, Turn("assistant", response.response, response.fields))
    return response


def where_of(response: Response) -> Where | None:
    """The row that a response came from, where it is known."""
    return response.prompt.where if isinstance(response, Answered | Rollout) else None


def rate_each(
    responses: Sequence[Response],
    prepare: Callable[[Dialogue], _Prepared],
    judge: Callable[[Sequence[_Prepared]], Sequence[Judgement]],
) -> list[Judgement]:
    """Prepare every response, and judge together all those that could be; where `prepare` raises InputError, none is.

    `prepare` gets turns in good order that end with a response.
    """
    return [judgement for judgement, _ in _rated(responses, prepare, judge)]


def rate_fitted(
    responses: Sequence[Response],
    prepare: Callable[[Dialogue], tuple[_Prepared, int | None]],
    judge: Callable[[Sequence[_Prepared]], Sequence[Judgement]],
) -> list[RewardDetails]:
    """Judgements as `rate_each` gives them, where `prepare` also says how many of the oldest turns it has left out."""
    rated = _rated(responses, prepare, lambda ready: judge([prepared for prepared, _ in ready]))
    return [RewardDetails(judgement, dropped_turns=ready[1] if ready else None) for judgement, ready in rated]


def _rated(
    responses: Sequence[Response],
    prepare: Callable[[Dialogue], _Prepared],
    judge: Callable[[Sequence[_Prepared]], Sequence[Judgement]],
) -> list[tuple[Judgement, _Prepared | None]]:
    """The judgement of every response beside what was prepared of it."""
    found: dict[int, tuple[Judgement, _Prepared | None]] = {}
    ready: dict[int, _Prepared] = {}
    for index, response in enumerate(responses):
        try:
            ready[index] = prepare(answered_turns(dialogue_of(response)))
        except InputError as error:
            found[index] = invalid(error), None
    for (index, prepared), judgement in zip(ready.items(), judge(list(ready.values())), strict=True):
        found[index] = judgement, prepared
    return [found[index] for index in range(len(responses))]


def invalid(error: InputError) -> Judgement:
    """The judgement of a response that cannot be rated; the detail is without the row, which its caller knows."""
    detail = InputError(error.problem, field=error.field, allowed=error.allowed)
    return Judgement(0.0, reason=reason_of(error), detail=str(detail))


def reason_of(error: InputError) -> Dropped:
    """What a response that cannot be rated is counted under."""
    if isinstance(error, TooLong):
        return Dropped.TOO_LONG
    return Dropped.EMPTY if isinstance(error, EmptyResponse) else Dropped.UNREADABLE


def answered_turns(messages: Sequence[Any], where: Where | None = None) -> Dialogue:
    """Messages, as dictionaries or turns, that end with a response; raises InputError for any others."""
    turns = conversation(messages, where, "messages")
    if turns[-1].role != "assistant":
        raise bad_row("the last turn is the user's", where, field="messages", allowed="a response to rate at the end")
    if not turns[-1].content.strip() and "tool_calls" not in turns[-1].fields:
        raise bad_row("the response is empty", where, field="messages", allowed="some text", kind=EmptyResponse)
    return turns


def token_offsets(chat: "uptake.data.chat.ChatFormat | None", rollout: Rollout) -> list[tuple[int, int]]:
    """The offsets of sampled ids in their text; raises InputError without the chat format that they are of."""
    if chat is None:
        problem = "marks on the text of sampled tokens, of a policy that is not known"
        raise InputError(problem, field="chat", allowed="a reward that was built for the policy: build(resources)")
    from uptake.data.response_tokens import rollout_offsets  # noqa: PLC0415 - loads Transformers

    return rollout_offsets(chat.tokenizer, rollout)
