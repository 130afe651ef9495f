"""Every right answer to a question of the town."""

from dataclasses import dataclass
from functools import cache
from itertools import product

from uptake.town import lines
from uptake.town.facts import Attribute, Values, town_facts, town_rumours
from uptake.town.lines import fill, listed
from uptake.town.questions import Question


@dataclass(frozen=True, slots=True)
class AnswerDraft:
    """An answer in parts: `AnswerDraft("the bakery opens at eight.", closer="have a lovely day!", hello="hello!")`.

    `values` are those that its core gives, true or not.
    """

    core: str
    opener: str = ""
    closer: str = ""
    hello: str = ""
    goodbye: str = ""
    values: Values = ()

    @property
    def text(self) -> str:
        """The parts in the order in which they are said."""
        parts = (self.hello, self.opener, self.core, self.closer, self.goodbye)
        return " ".join(part for part in parts if part)


WARMTH = (*((opener, "") for opener in lines.WARM_OPENERS), *(("", closer) for closer in lines.WARM_CLOSERS))


def claims(attribute: Attribute, subject: str, values: Values) -> Values:
    """Return every way to say that `attribute` of `subject` is `values`."""
    return tuple(fill(line, subject, listed(values)) for line in lines.CLAIMS[attribute])


def truth(seed: int, question: Question) -> Values:
    """Return the values a right answer gives, in the order asked for."""
    return _in_order(question, town_facts(seed)[question.attribute, question.subject])


def rumour(seed: int, question: Question) -> Values:
    """Return the values that are wrongly given, in the order asked for."""
    return _in_order(question, town_rumours(seed)[question.attribute, question.subject])


def _in_order(question: Question, values: Values) -> Values:
    if question.attribute == "sells":
        return tuple(sorted(values, reverse=question.asks("backward")))
    return values


def right_drafts(seed: int, question: Question) -> tuple[AnswerDraft, ...]:
    """Return every right answer: a true claim with one warm sentence, or a single word where that was asked for."""
    return drafts(question, truth(seed, question))


@cache
def drafts(question: Question, values: Values) -> tuple[AnswerDraft, ...]:
    """Return every answer that gives `values` and is in its form as a right one is."""
    if question.asks("one_word"):
        return tuple(AnswerDraft(values[0] + mark, values=values) for mark in ".!")
    hello = lines.HELLO if question.asks("hello") else ""
    goodbye = lines.GOODBYE if question.asks("goodbye") else ""
    return tuple(
        AnswerDraft(core, opener, closer, hello, goodbye, values)
        for core, (opener, closer) in product(claims(question.attribute, question.subject, values), WARMTH)
    )
