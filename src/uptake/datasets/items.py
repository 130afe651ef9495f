"""Items of data sets: judged responses, feedback and edits; a row of a file becomes one, or the reason why it does not.

Each `to_...` returns the item or that reason.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import takewhile
from typing import Literal, TypeVar

from uptake.data.where import bad_row
from uptake.datasets.parse import joined
from uptake.ops.alignment import align
from uptake.support.keys import prompt_key
from uptake.types import MAX_EDIT_RATIO, NO_EDIT_WEIGHT, Dialogue, Edited, Prompt, Span, Split, Turn, Where

Level = Literal["turn", "dialogue"]
FeedbackPolarity = Literal["positive", "negative", "unknown"]
Grade = TypeVar("Grade")

# Where a set has no split of its own, one question in so many is held out.
HELD_OUT = 10


@dataclass(frozen=True, slots=True)
class Comparison:
    """Comparison of two responses to one prompt: 1 prefers the first, 0 the second, 0.5 neither; shares between.

    `Comparison(prompt, ("At eight.", "It sells bread."), preference=1.0)`. `group` names a part of the set that is
    reported on its own.
    """

    prompt: Prompt
    responses: tuple[str, str]
    preference: float
    group: str = ""
    where: Where | None = None


@dataclass(frozen=True, slots=True)
class Rating:
    """A conversation that ends with a response, and what people gave the response (or the whole of it); more is better.

    `Rating((Turn("user", "Hi"), Turn("assistant", "Hello!")), {"overall": 4.0}, level="turn")`. `ratings` are means
    over annotators, by quality; `system` is who answered; `follow_up` is what the user really said next; `group` names
    a part of the set that is reported on its own.
    """

    dialogue: Dialogue
    ratings: Mapping[str, float]
    level: Level
    system: str = ""
    follow_up: str = ""
    group: str = ""
    where: Where | None = None


@dataclass(frozen=True, slots=True)
class Candidates:
    """Several responses to one prompt with the quality of each: `Candidates(prompt, ("a", "b"), (0.2, 0.9))`."""

    prompt: Prompt
    responses: tuple[str, ...]
    qualities: tuple[float, ...]
    group: str = ""
    where: Where | None = None


# What `uptake bench` measures rewards and annotators with.
Item = Comparison | Rating | Candidates


@dataclass(frozen=True, slots=True)
class Feedback:
    """A conversation that ends with what a reader wrote about the response before it, as the user's last turn.

    `Feedback((Turn("user", "When?"), Turn("assistant", "At one."), Turn("user", "No!")), "negative", "train")`.
    `rating` is the reader's grade of the response where the set has one, in the set's own numbers; more is better.
    """

    dialogue: Dialogue
    polarity: FeedbackPolarity
    split: Split
    rating: float | None = None


def to_comparison(
    prompt: Prompt, responses: tuple[str, str], preference: float, where: Where, group: str = ""
) -> Comparison | str:
    """A comparison; none of a blank prompt or response, or of two responses that are the same."""
    first, second = (response.strip() for response in responses)
    if not prompt.turns[-1].content.strip():
        return "no prompt"
    if not first or not second:
        return "no response"
    if first == second:
        return "the same response twice"
    return Comparison(prompt, responses, preference, group, where)


def to_rating(
    turns: Sequence[Turn],
    ratings: Mapping[str, float],
    *,
    where: Where,
    index: int | None = None,
    level: Level = "turn",
    system: str = "",
    group: str = "",
) -> Rating | str:
    """The rating of the assistant's turn at `index`, else of its last one.

    The conversation ends there; what the user says right after it is the follow-up.
    """
    if not ratings:
        return "no rating"
    responses = [each for each, turn in enumerate(turns) if turn.role == "assistant" and turn.content.strip()]
    end = index if index is not None else max(responses, default=None)
    if end not in responses:
        return "no response"
    dialogue = joined(turns[: end + 1])
    if not dialogue:
        return "nothing before the response"
    answered = takewhile(lambda turn: turn.role == "user", turns[end + 1 :])
    follow_up = "\n".join(turn.content for turn in answered).strip()
    return Rating(dialogue, ratings, level, system, follow_up, group, where)


def to_feedback(
    question: str | Sequence[Turn],
    response: str,
    text: str,
    polarity: FeedbackPolarity = "unknown",
    split: Split | None = None,
    *,
    rating: float | None = None,
) -> Feedback | str:
    """Feedback; none of a blank question, response or text. Without a split, the question decides."""
    turns = joined([Turn("user", question.strip())] if isinstance(question, str) else question)
    if not turns:
        return "no question"
    if not response.strip():
        return "no response"
    if not text.strip():
        return "no feedback"
    dialogue = (*turns, Turn("assistant", response.strip()), Turn("user", text.strip()))
    return Feedback(dialogue, polarity, split or split_of(turns), rating)


def to_edited(
    prompt: Prompt,
    source: str,
    response: str,
    edit: str | None = None,
    spans: Sequence[Span] | None = None,
    *,
    split: Split | None = None,
    group: str = "",
) -> Edited | str:
    """An edited row; `extra` has its source and split. Without a split, the question decides.

    Spans that overlap are merged. Beside spans, an edit that is not minimal is left away; without spans, it is demoted.
    """
    if not response.strip():
        return "no response"
    if spans is None and not (edit or "").strip():
        return "no edit"
    extra = {"source": source, "split": split or split_of(prompt.turns)}
    marks = None if spans is None else merged(spans)
    row = Edited(replace(prompt, extra=extra), response, edit or None, marks, group=group)
    if row.edited is None or minimal(response, row.edited):
        return replace(row, weight=NO_EDIT_WEIGHT) if row.edited == response and spans is None else row
    return replace(row, demoted=True) if spans is None else replace(row, edited=None)


def minimal(response: str, edit: str) -> bool:
    """Minimal edit or not: whether at most half of the words change."""
    old, new = response.split(), edit.split()
    return align(old, new).distance <= MAX_EDIT_RATIO * max(len(old), len(new))


def merged(spans: Sequence[Span]) -> tuple[Span, ...]:
    """Spans from left to right; of those that overlap, one from the first start to the last end."""
    found: list[Span] = []
    for span in sorted(spans, key=lambda each: each.start):
        if found and span.start < found[-1].end:
            found[-1] = replace(found[-1], end=max(span.end, found[-1].end))
        else:
            found.append(span)
    return tuple(found)


def graded(texts: Sequence[str], grades: Sequence[Grade], where: Where) -> Iterator[tuple[str, Grade]]:
    """Texts of several readers, each with its grade; InputError where there are more of one than of the other."""
    if len(texts) != len(grades):
        raise bad_row(f"{len(texts)} texts with {len(grades)} grades", where, allowed="one grade for every text")
    return zip(texts, grades, strict=True)


def split_of(question: Dialogue) -> Split:
    """Split of a question in a set that has none: the same for equal questions, whatever is answered."""
    return "train" if int(prompt_key(question), 16) % HELD_OUT else "heldout"
