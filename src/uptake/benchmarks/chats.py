"""What the readers of rating sets share: what two speakers said as turns, and the rating of one of these turns."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import cycle, groupby, takewhile
from typing import Literal

from uptake.benchmarks.items import Rating
from uptake.types import Dialogue, Role, Turn, Where


def joined(turns: Iterable[Turn]) -> Dialogue:
    """Turns in alternation, the user's first: those of one role in a row are joined by line breaks.

    Blank turns go, and what the assistant says before the user's first turn.
    """
    runs = groupby((turn for turn in turns if turn.content.strip()), key=lambda turn: turn.role)
    whole = [Turn(role, "\n".join(turn.content for turn in run)) for role, run in runs]
    return tuple(whole[1:] if whole and whole[0].role == "assistant" else whole)


def context(lines: Sequence[str]) -> Dialogue:
    """The lines of two people by turns, of which the last is the user's.

    A first line that would be the assistant's is the user's too: who speaks is arbitrary here, and nothing that people
    saw when they rated the response may be missing.
    """
    roles: Iterator[Role] = cycle(("user", "assistant"))
    *turns, opening = (Turn(role, line.strip()) for role, line in zip(roles, reversed(lines), strict=False))
    return joined((Turn("user", opening.content), *reversed(turns)))


def rated(
    turns: Sequence[Turn],
    ratings: Mapping[str, float],
    *,
    where: Where,
    place: int | None = None,
    level: Literal["turn", "dialogue"] = "turn",
    system: str = "",
    group: str = "",
) -> Rating | str:
    """The rating of the assistant's turn at `place`, else of its last one, or why there is none.

    The conversation ends there; what the user says right after it is the follow-up.
    """
    if not ratings:
        return "no rating"
    responses = [each for each, turn in enumerate(turns) if turn.role == "assistant" and turn.content.strip()]
    end = place if place is not None else max(responses, default=None)
    if end not in responses:
        return "no response"
    dialogue = joined(turns[: end + 1])
    if not dialogue:
        return "nothing before the response"
    said = takewhile(lambda turn: turn.role == "user", turns[end + 1 :])
    follow_up = "\n".join(turn.content for turn in said).strip()
    return Rating(dialogue, ratings, level, system, follow_up, group, where)
