"""From rows of any kind to rows of one kind; a row that cannot be converted is an error that names it."""

from collections.abc import Iterable

from uptake.data.where import bad_row
from uptake.errors import InputError
from uptake.support.keys import THOUGHTS
from uptake.types import Answered, Fields, Preference, Prompt, Rated, Row, Turn


def prompts(rows: Iterable[Row]) -> list[Prompt]:
    """The prompt of every row; responses and labels are left behind."""
    return [row if isinstance(row, Prompt) else row.prompt for row in rows]


def answered(rows: Iterable[Row]) -> list[Answered]:
    """The response of every row that has exactly one; the label of a rated row is left behind.

    Raises InputError for a prompt, and for a preference: which of its two responses is meant is for the caller to say.
    """
    return [_answered(row) for row in rows]


def preferences(rows: Iterable[Row]) -> list[Preference]:
    """The rows, each of which must be a preference: InputError for any other kind."""
    return [preference(row) for row in rows]


def responses(row: Row) -> tuple[str, ...]:
    """The recorded responses of a row, chosen before rejected; raises InputError where there is none."""
    if isinstance(row, Prompt):
        allowed = "messages that end with the assistant, a completion, or chosen and rejected"
        raise bad_row("this row has no response", row.where, allowed=allowed)
    return (row.chosen, row.rejected) if isinstance(row, Preference) else (row.response,)


def response_turns(row: Row) -> tuple[Turn, ...]:
    """The recorded responses of a row as turns, with their fields; raises as `responses` does."""
    match row:
        case Preference():
            fields: tuple[Fields, ...] = (row.chosen_fields, row.rejected_fields)
        case Answered() | Rated():
            fields = (row.fields,)
        case _:
            fields = ({},)
    return tuple(Turn("assistant", text, more) for text, more in zip(responses(row), fields, strict=True))


def as_texts(row: Row) -> Row:
    """The row, whose responses are texts and nothing else: InputError where one has tool calls or a thought beside."""
    for turn in () if isinstance(row, Prompt) else response_turns(row):
        if names := sorted(turn.fields.keys() & {"tool_calls", *THOUGHTS}):
            where = row.where if isinstance(row, Prompt) else row.prompt.where
            raise bad_row(f"a response with {', '.join(names)}", where, allowed="responses that are texts alone")
    return row


def _answered(row: Row) -> Answered:
    match row:
        case Answered():
            return row
        case Rated():
            return Answered(row.prompt, row.response, row.fields)
    raise _wrong_kind(row, "one response: messages that end with the assistant, or prompt and completion")


def preference(row: Row) -> Preference:
    if isinstance(row, Preference):
        return row
    raise _wrong_kind(row, "a better and a worse response: chosen and rejected")


def _wrong_kind(row: Row, allowed: str) -> InputError:
    prompt = row if isinstance(row, Prompt) else row.prompt
    return bad_row(f"a row of the kind {type(row).__name__}", prompt.where, allowed=f"rows with {allowed}")
