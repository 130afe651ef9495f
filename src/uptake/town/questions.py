"""Every question the town's users can ask, and reading one back from its text."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from itertools import product
from types import MappingProxyType
from typing import Literal, get_args

from uptake.errors import InputError
from uptake.support.keys import prompt_key
from uptake.town.facts import ATTRIBUTES, Attribute, Values, subjects, untold
from uptake.town.lines import INSTRUCTIONS, QUESTIONS, fill, words
from uptake.types import Prompt, Turn

TownSplit = Literal["train", "development", "heldout"]
SPLITS: tuple[TownSplit, ...] = get_args(TownSplit)
PHRASINGS = 5


@dataclass(frozen=True, slots=True)
class Question:
    """Question about an `attribute` of a `subject`, in one of five phrasings, under some instructions.

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
def all_questions(seed: int, split: TownSplit) -> tuple[Question, ...]:
    """Return every question of `split`.

    Of the five phrasings of each fact one is held out and one is for development, others from subject to subject, so
    that every phrasing is seen in training, as is every fact that is told, and their combinations in the other two
    splits never are. Untold facts are asked for in these two splits only.
    """
    return tuple(
        Question(attribute, subject, phrasing, instructions)
        for row, attribute in enumerate(ATTRIBUTES)
        for column, subject in enumerate(subjects(attribute))
        for phrasing in range(len(QUESTIONS[attribute]))
        if _split(phrasing - row - column - seed) == split
        if split != "train" or (attribute, subject) not in untold(seed)
        for instructions in instruction_sets(attribute)
    )


def _split(turn: int) -> TownSplit:
    reserved: Mapping[int, TownSplit] = {0: "heldout", 1: "development"}
    return reserved.get(turn % PHRASINGS, "train")


@cache
def questions_about(seed: int, split: TownSplit, attribute: Attribute) -> tuple[Question, ...]:
    """Return the questions of `split` that ask for `attribute`."""
    return tuple(question for question in all_questions(seed, split) if question.attribute == attribute)


@cache
def _by_words() -> Mapping[Values, Question]:
    return MappingProxyType(
        {
            words(question.text): question
            for attribute in ATTRIBUTES
            for subject, phrasing in product(subjects(attribute), range(PHRASINGS))
            for question in (Question(attribute, subject, phrasing, each) for each in instruction_sets(attribute))
        }
    )


def read_question(text: str) -> Question:
    """Read a question back from its text, whatever its case and blanks; raise `InputError` where it is none."""
    question = _by_words().get(words(text))
    if question is None:
        allowed = "a question of the town, for example 'when does the bakery open?'"
        raise InputError(f"not a question of the town: {text!r}", allowed=allowed)
    return question
