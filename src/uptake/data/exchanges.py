"""Logs of real conversations, cut into exchanges: a response, and what the user said right after it."""

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import fmean
from typing import Any

from uptake.data.convert import response_turns
from uptake.data.values import number
from uptake.data.where import bad_row
from uptake.errors import InputError
from uptake.support.keys import prompt_key
from uptake.types import Dialogue, Fields, Preference, Prompt, Row, Turn, Where


@dataclass(frozen=True, slots=True)
class Exchange:
    """A response and the user's next turn: `Exchange(prompt, "At eight.", "Thanks!", conversation=0)`.

    `conversation` numbers the row it came from; `rating` is what the user gave the response, where the log says so.
    """

    prompt: Prompt
    response: str
    follow_up: str
    conversation: int
    rating: float | None = None
    fields: Fields = field(default_factory=dict, hash=False)

    @property
    def dialogue(self) -> Dialogue:
        """The conversation up to the response."""
        return (*self.prompt.turns, Turn("assistant", self.response, self.fields))


@dataclass(frozen=True, slots=True)
class Reacted:
    """A response with everything that users said right after it, no two alike, and the mean of their ratings.

    `Reacted(prompt, "At eight.", ("Thanks!", "That is wrong."))`. `conversation` is the first it came from.
    """

    prompt: Prompt
    response: str
    follow_ups: tuple[str, ...]
    conversation: int = 0
    rating: float | None = None
    fields: Fields = field(default_factory=dict, hash=False)

    @property
    def dialogue(self) -> Dialogue:
        """The conversation up to the response."""
        return (*self.prompt.turns, Turn("assistant", self.response, self.fields))


def exchanges(rows: Iterable[Row], ratings: str | None = None) -> tuple[list[Exchange], Counter[str]]:
    """All exchanges of `each_exchange`, and why other responses are left out, with counts."""
    lost = Counter[str]()
    return list(each_exchange(rows, lost, ratings)), lost


def each_exchange(rows: Iterable[Row], lost: Counter[str], ratings: str | None = None) -> Iterator[Exchange]:
    """Every response that a user turn follows, in the order of the log; why others are left out is counted in `lost`.

    `ratings` names the column with the users' ratings: a number or true and false for the whole conversation, which
    every response in it gets, or a list with one of them (or null) for every message. Raises InputError for ratings
    that are none, and at the end where no row had any, or no user turn follows any response.
    """
    columns, any_found = set[str](), False
    path: Path | None = None
    for index, row in enumerate(rows):
        prompt, turns = _prompt(row), _turns(row)
        path = path or (prompt.where.path if prompt.where else None)
        given: Sequence[float | None] = ()
        if ratings is not None:
            columns.update(prompt.extra)
            given = _ratings(prompt.extra.get(ratings), turns, prompt.where, ratings)
        for each in _cut(turns, index, prompt.where, given):
            if isinstance(each, str):
                lost[each] += 1
            else:
                any_found = True
                yield each
    if ratings is not None and ratings not in columns:
        allowed = ", ".join(sorted(columns)) or "no other columns here"
        raise InputError("no row has this column", field=ratings, allowed=allowed)
    if not any_found:
        reasons = "; ".join(f"{reason}: {count}" for reason, count in lost.items()) or "no response at all"
        allowed = "conversations in which the user answers a response"
        raise InputError(f"no user turn follows a response ({reasons})", path=path, allowed=allowed)


def merged(found: Iterable[Exchange]) -> list[Reacted]:
    """Exchanges by prompt and response, in the order in which each first comes up; equal words of users count once."""
    groups: dict[tuple[str, str, str], list[Exchange]] = {}
    for each in found:
        groups.setdefault((each.prompt.key, each.response, repr(each.fields)), []).append(each)
    return [_heard(group) for group in groups.values()]


def _heard(group: Sequence[Exchange]) -> Reacted:
    first, given = group[0], [each.rating for each in group if each.rating is not None]
    follow_ups = tuple(dict.fromkeys(each.follow_up for each in group))
    return Reacted(
        first.prompt, first.response, follow_ups, first.conversation, fmean(given) if given else None, first.fields
    )


def _cut(turns: Dialogue, number: int, where: Where | None, given: Sequence[float | None]) -> Iterator[Exchange | str]:
    for index, turn in enumerate(turns):
        if turn.role != "assistant":
            continue
        if not turn.content.strip() and "tool_calls" not in turn.fields:
            yield "blank response"
        elif all(before.role != "user" for before in turns[:index]):
            yield "before the user's first turn"
        elif index + 1 == len(turns):
            yield "no user turn after the response"
        elif turns[index + 1].role == "tool":
            yield "a tool was called, and answered first"
        elif not turns[index + 1].content.strip():
            yield "blank user turn after the response"
        else:
            prompt = Prompt(turns[:index], prompt_key(turns[:index]), where)
            follow_up = turns[index + 1].content.strip()
            yield Exchange(prompt, turn.content, follow_up, number, given[index] if given else None, turn.fields)


def _turns(row: Row) -> Dialogue:
    """All turns of a row; of a preference those of its prompt, since neither answer was the last word."""
    prompt = _prompt(row)
    return prompt.turns if isinstance(row, Prompt | Preference) else (*prompt.turns, *response_turns(row))


def _prompt(row: Row) -> Prompt:
    return row if isinstance(row, Prompt) else row.prompt


def _ratings(value: Any, turns: Dialogue, where: Where | None, field: str) -> list[float | None]:
    """The rating of every turn."""
    if not isinstance(value, Sequence) or isinstance(value, str):
        return [rating_of(value, where, field)] * len(turns)
    if len(value) < len(turns):
        problem, allowed = f"{len(value)} ratings of {len(turns)} messages", "one for every message, or null"
        raise bad_row(problem, where, field=field, allowed=allowed)
    # Counted from the end: assistant turns before the user's first are gone from the conversation.
    return [rating_of(value[index - len(turns)], where, field) for index in range(len(turns))]


def rating_of(value: Any, where: Where | None, field: str) -> float | None:
    """A user's rating as a number, None where a cell holds none; raises InputError for what is no rating."""
    if value is None or (isinstance(value, str) and not value.strip()):
        return None
    if (found := number(value)) is None:
        allowed = "a number, true, false or null, or a list of these, one a message"
        raise bad_row(f"found {value!r}", where, field=field, allowed=allowed)
    return found
