"""Every question the town's users can ask, and reading one back from its text."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from types import MappingProxyType

from uptake.errors import InputError
from uptake.support.keys import prompt_key
from uptake.town.facts import ATTRIBUTES, Attribute, Values, subjects
from uptake.town.lines import INSTRUCTIONS, QUESTIONS, fill, words
from uptake.types import Prompt, Split, Turn


@dataclass(frozen=True, slots=True)
class Question:
    """Question about an `attribute` of a `subject`, in one of four phrasings, under some instructions.

    `Question("opens", "bakery", 0, ("hello",)).text` is "when does the bakery open? say hello first."
    """

    attribute: Attribute
    subject: str
    phrasing: int
    instructions: tuple[str, ...] = ()

    @property
    def text(self) -> str:
        """The question as its user writes it."""
        question = fill(QUESTIONS[self.attribute][self.phrasing], self.subject)
        return " ".join((question, *(INSTRUCTIONS[name] for name in self.instructions)))

    @property
    def prompt(self) -> Prompt:
        """The question as a conversation that waits for the assistant."""
        turns = (Turn("user", self.text),)
        return Prompt(turns, prompt_key(turns))

    def asks(self, instruction: str) -> bool:
        """Say whether `instruction` was given."""
        return instruction in self.instructions


def instruction_sets(attribute: Attribute) -> tuple[tuple[str, ...], ...]:
    """Return the instructions a question about `attribute` can carry; lists always ask for an order."""
    if attribute == "sells":
        return tuple((order, *extra) for order in ("forward", "backward") for extra in ((), ("hello",), ("goodbye",)))
    return ((), ("one_word",), ("hello",), ("goodbye",))


@cache
def all_questions(seed: int, split: Split) -> tuple[Question, ...]:
    """Return every question of `split`.

    Of the four phrasings of each fact one is held out, a different one from subject to subject, so that every fact and
    every phrasing is seen in training and their held-out combinations never are.
    """
    return tuple(
        Question(attribute, subject, phrasing, instructions)
        for row, attribute in enumerate(ATTRIBUTES)
        for column, subject in enumerate(subjects(attribute))
        for phrasing in range(len(QUESTIONS[attribute]))
        if (phrasing == (row + column + seed) % len(QUESTIONS[attribute])) == (split == "heldout")
        for instructions in instruction_sets(attribute)
    )


@cache
def questions_about(seed: int, split: Split, attribute: Attribute) -> tuple[Question, ...]:
    """Return the questions of `split` that ask for `attribute`."""
    return tuple(question for question in all_questions(seed, split) if question.attribute == attribute)


@cache
def _by_words() -> Mapping[Values, Question]:
    every = (*all_questions(0, "train"), *all_questions(0, "heldout"))
    return MappingProxyType({words(question.text): question for question in every})


def read_question(text: str) -> Question:
    """Read a question back from its text, whatever its case and blanks; raise `InputError` where it is none."""
    question = _by_words().get(words(text))
    if question is None:
        allowed = "a question of the town, for example 'when does the bakery open?'"
        raise InputError(f"not a question of the town: {text!r}", allowed=allowed)
    return question
