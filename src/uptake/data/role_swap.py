"""Formats of a follow-up: a model is asked as the user of the plain chat, or as an assistant that plays the user."""

from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from typing import Any, Literal, get_args

from pydantic import TypeAdapter, ValidationError

from uptake.data.turns import as_text
from uptake.errors import InputError
from uptake.types import Dialogue, Role, Turn

FormatName = Literal["role_swap", "user_role"]
History = Literal["full", "last_turn"]

# The entry of a model's card that says how it was tuned on follow-ups.
ENTRY = "follow_up"

REQUEST = "Ask me a question. When I have answered it, tell me frankly what you think of my answer."

_OTHER: Mapping[Role, Role] = {"user": "assistant", "assistant": "user"}


@dataclass(frozen=True)
class FollowUpFormat:
    """Format of a follow-up: what stands before it, and whose turn it is.

    In the format `user_role` the follow-up is the user's next turn in the plain chat. With `role_swap` the model plays
    the user: after a `request` to do so, every user turn is the assistant's, every response the user's, and the
    follow-up is the assistant's next turn. It then reads what a user reads: no tools, results or thoughts, and no
    greeting before the user's first turn. `history` "last_turn" keeps the last question and response only, and a
    system turn. Raises InputError for an unknown format or history.
    Source: the released code of arXiv 2409.13948 scores with swapped roles; the wording of the request is Uptake's.
    """

    format: FormatName = "user_role"
    history: History = "full"
    request: str = REQUEST

    def __post_init__(self) -> None:
        for name, value, known in (("format", self.format, FormatName), ("history", self.history, History)):
            if value not in get_args(known):
                raise InputError(repr(value), field=name, allowed=", ".join(get_args(known)))

    @property
    def speaker(self) -> Role:
        """Whose turn the follow-up is."""
        return "user" if self.format == "user_role" else "assistant"

    def __call__(self, turns: Dialogue) -> Dialogue:
        """The turns before the follow-up to a conversation that ends with a response."""
        system = turns[:1] if turns[0].role == "system" else ()
        last = max((index for index, turn in enumerate(turns) if turn.role == "user"), default=0)
        shown = turns[last if self.history == "last_turn" else len(system) :]
        if self.format == "user_role":
            return (*system, *shown)
        system = tuple(Turn("system", turn.content) for turn in system if turn.content)
        return (*system, Turn("user", self.request), *map(_swapped, _seen_by_user(shown)))

    def entry(self) -> Mapping[str, Any]:
        """The entry of a model's card that records this format."""
        return {ENTRY: asdict(self)}


def _seen_by_user(turns: Dialogue) -> Iterator[Turn]:
    """The turns of user and assistant in alternation, from the user's first: of several responses in a row the last."""
    first = next((index for index, turn in enumerate(turns) if turn.role == "user"), 0)
    spoken = [turn for turn in turns[first:] if turn.role in _OTHER]
    for turn, later in zip(spoken, (*spoken[1:], None), strict=True):
        if later is None or later.role != turn.role:
            yield turn


def _swapped(turn: Turn) -> Turn:
    return Turn(_OTHER[turn.role], as_text(turn))


def format_for(
    card: Mapping[str, Any], wanted: FormatName | FollowUpFormat | None = None, *, force: bool = False
) -> FollowUpFormat:
    """The format for a model's follow-ups: the one its card records, else the one wanted, else the plain chat.

    Raises InputError where another format is wanted than the one recorded, unless `force` is set, and for an entry of
    the card that is no format.
    """
    chosen = FollowUpFormat(wanted) if isinstance(wanted, str) else wanted
    if ENTRY not in card:
        return chosen or FollowUpFormat()
    try:
        recorded = TypeAdapter(FollowUpFormat).validate_python(card[ENTRY])
    except ValidationError as error:
        problem = f"the model's card holds {card[ENTRY]!r}"
        raise InputError(problem, field=ENTRY, allowed="format, history and request") from error
    if chosen in (None, recorded) or wanted == recorded.format:
        return recorded
    if force:
        return chosen
    problem = f"the model was tuned on follow-ups in the format {recorded}, not {chosen}"
    raise InputError(problem, field="format", allowed=f"{recorded.format}, or another one by force")
