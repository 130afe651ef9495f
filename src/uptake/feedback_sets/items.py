"""What a feedback set holds: a question, an answer, and what a reader wrote about it."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal, TypeVar

from uptake.benchmarks.chats import joined
from uptake.data.where import bad_row
from uptake.support.keys import prompt_key
from uptake.types import Dialogue, Turn, Where

Split = Literal["train", "heldout"]
Polarity = Literal["positive", "negative", "unknown"]
Grade = TypeVar("Grade")

# Where a set has no split of its own, one question in so many is held out.
HELD_OUT = 10


@dataclass(frozen=True, slots=True)
class Feedback:
    """A conversation that ends with what a reader wrote about the response before it, as the user's last turn.

    `Feedback((Turn("user", "When?"), Turn("assistant", "At one."), Turn("user", "No!")), "negative", "train")`.
    `rating` is the reader's grade of the response where the set has one, in the set's own numbers; more is better.
    """

    dialogue: Dialogue
    polarity: Polarity
    split: Split
    rating: float | None = None


# What a reader of files yields for a row: feedback, or why the row is left out.
Row = Feedback | str


def feedback(
    asked: str | Sequence[Turn],
    answer: str,
    text: str,
    polarity: Polarity = "unknown",
    split: Split | None = None,
    *,
    rating: float | None = None,
) -> Row:
    """Feedback, or why there is none: a blank question, answer or text. Without a split, the question decides."""
    question = joined([Turn("user", asked.strip())] if isinstance(asked, str) else asked)
    if not question:
        return "no question"
    if not answer.strip():
        return "no response"
    if not text.strip():
        return "no feedback"
    dialogue = (*question, Turn("assistant", answer.strip()), Turn("user", text.strip()))
    return Feedback(dialogue, polarity, split or split_of(question), rating)


def graded(texts: Sequence[str], grades: Sequence[Grade], where: Where) -> Iterator[tuple[str, Grade]]:
    """What several readers wrote, each with the grade; InputError where there are more of one than of the other."""
    if len(texts) != len(grades):
        raise bad_row(f"{len(texts)} texts with {len(grades)} grades", where, allowed="one grade for every text")
    return zip(texts, grades, strict=True)


def split_of(question: Dialogue) -> Split:
    """The split of a question in a set that has none: the same for equal questions, whatever is answered."""
    return "train" if int(prompt_key(question), 16) % HELD_OUT else "heldout"
