"""The ways an answer goes wrong: each fault changes one part of a right answer and belongs to one axis."""

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import TypeVar

from uptake.town import lines
from uptake.town.answers import AnswerDraft, claims, drafts, rumour, truth
from uptake.town.facts import POOLS, Attribute, Values, family, subjects, town_facts, untold
from uptake.town.lines import fill
from uptake.town.quality import Axis
from uptake.town.questions import Question

T = TypeVar("T")
Applies = Callable[[int, Question], bool]
Change = Callable[[int, Question, AnswerDraft, random.Random], AnswerDraft]


@dataclass(frozen=True, slots=True)
class Fault:
    """One way to go wrong: `Fault("wrong_value", "correctness", ...)`.

    `applies` says, given the town's seed, which questions can be answered with it; `change` makes it in an answer,
    given seed, question, answer and a source of chance. `share` is the share of answers it is made in, of those it can
    be made in.

    The frequent faults are those that nothing but a reader tells: the wrong value, and an instruction that is not
    followed, are said about as often as what is right. Those that are rare are unlikely as well.
    """

    name: str
    axis: Axis
    share: float
    applies: Applies = field(repr=False)
    change: Change = field(repr=False)


def _always(seed: int, question: Question) -> bool:
    return True


def _spoken(seed: int, question: Question) -> bool:
    return not question.asks("one_word")


def _list(seed: int, question: Question) -> bool:
    return question.attribute == "sells"


def _asks(instruction: str) -> Applies:
    return lambda seed, question: question.asks(instruction)


def _say(question: Question, attribute: Attribute, subject: str, values: Values, rng: random.Random) -> str:
    return f"{values[0]}." if question.asks("one_word") else rng.choice(claims(attribute, subject, values))


def _overlap(one: Attribute, other: Attribute) -> bool:
    return not set(POOLS[one]).isdisjoint(POOLS[other])


def _after(name: T, names: Sequence[T]) -> Sequence[T]:
    """The other names, from the next one on and round to the one before."""
    index = names.index(name)
    return (*names[index + 1 :], *names[:index])


def _other_attributes(seed: int, question: Question) -> tuple[Attribute, ...]:
    others = _after(question.attribute, family(question.attribute))
    told = tuple(name for name in others if (name, question.subject) not in untold(seed))
    if not question.asks("one_word"):
        return told
    # A bare word must tell which question it answers: numbers do not.
    return tuple(name for name in told if not any(_overlap(name, other) for other in family(name) if other != name))


def _other_attribute(seed: int, question: Question, draft: AnswerDraft, rng: random.Random) -> AnswerDraft:
    # Always the same one: what is often mistaken for another thing is no unlikely thing to say.
    attribute = _other_attributes(seed, question)[0]
    values = town_facts(seed)[attribute, question.subject]
    return replace(draft, core=_say(question, attribute, question.subject, values, rng))


def _puzzled(seed: int, question: Question, draft: AnswerDraft, rng: random.Random) -> AnswerDraft:
    return replace(draft, core=rng.choice(lines.PUZZLED))


def _other_subject(seed: int, question: Question, draft: AnswerDraft, rng: random.Random) -> AnswerDraft:
    others = _after(question.subject, subjects(question.attribute))
    subject = next(name for name in others if (question.attribute, name) not in untold(seed))
    values = truth(seed, replace(question, subject=subject))
    return replace(draft, core=_say(question, question.attribute, subject, values, rng))


def _off_topic(seed: int, question: Question, draft: AnswerDraft, rng: random.Random) -> AnswerDraft:
    return replace(draft, core=rng.choice(lines.OFF_TOPIC))


def _wrong_value(seed: int, question: Question, draft: AnswerDraft, rng: random.Random) -> AnswerDraft:
    values = rumour(seed, question)
    return replace(draft, core=_say(question, question.attribute, question.subject, values, rng), values=values)


def _cold(seed: int, question: Question, draft: AnswerDraft, rng: random.Random) -> AnswerDraft:
    if draft.opener:
        return replace(draft, opener=rng.choice(lines.COLD_OPENERS))
    return replace(draft, closer=rng.choice(lines.COLD_CLOSERS))


def _repeats(seed: int, question: Question, draft: AnswerDraft, rng: random.Random) -> AnswerDraft:
    return replace(draft, opener="", closer=draft.core)


def _curt(seed: int, question: Question, draft: AnswerDraft, rng: random.Random) -> AnswerDraft:
    return replace(draft, core=f"{draft.values[0]}.", opener="", closer="")


def _vague(seed: int, question: Question, draft: AnswerDraft, rng: random.Random) -> AnswerDraft:
    if question.asks("one_word"):
        return replace(draft, core=f"{lines.VAGUE_WORDS[question.attribute]}.")
    return replace(draft, core=fill(rng.choice(lines.VAGUE[question.attribute]), question.subject))


def _unfinished_list(seed: int, question: Question, draft: AnswerDraft, rng: random.Random) -> AnswerDraft:
    some = (lines.MORE.format(item=draft.values[0]),)
    return replace(draft, core=rng.choice(claims(question.attribute, question.subject, some)))


def _no_hello(seed: int, question: Question, draft: AnswerDraft, rng: random.Random) -> AnswerDraft:
    return replace(draft, hello="")


def _no_goodbye(seed: int, question: Question, draft: AnswerDraft, rng: random.Random) -> AnswerDraft:
    return replace(draft, goodbye="")


def _not_one_word(seed: int, question: Question, draft: AnswerDraft, rng: random.Random) -> AnswerDraft:
    return rng.choice(drafts(replace(question, instructions=()), draft.values))


def _wrong_order(seed: int, question: Question, draft: AnswerDraft, rng: random.Random) -> AnswerDraft:
    values = draft.values[::-1]
    return replace(draft, core=rng.choice(claims(question.attribute, question.subject, values)))


# In the order in which they are made where an answer has several.
FAULTS: tuple[Fault, ...] = (
    Fault("wrong_value", "correctness", 0.5, _always, _wrong_value),
    Fault("cold", "engagingness", 0.15, _spoken, _cold),
    Fault("repeats", "engagingness", 0.03, _spoken, _repeats),
    Fault("curt", "engagingness", 0.04, lambda *given: _spoken(*given) and not _list(*given), _curt),
    Fault("unfinished_list", "informativeness", 0.15, _list, _unfinished_list),
    Fault("wrong_order", "following", 0.5, _list, _wrong_order),
    Fault("not_one_word", "following", 0.5, _asks("one_word"), _not_one_word),
    Fault("other_attribute", "understanding", 0.2, lambda *given: bool(_other_attributes(*given)), _other_attribute),
    Fault("other_subject", "relevance", 0.2, _spoken, _other_subject),
    Fault("vague", "informativeness", 0.15, _always, _vague),
    Fault("puzzled", "understanding", 0.02, _spoken, _puzzled),
    Fault("off_topic", "relevance", 0.02, _spoken, _off_topic),
    Fault("no_hello", "following", 0.5, _asks("hello"), _no_hello),
    Fault("no_goodbye", "following", 0.5, _asks("goodbye"), _no_goodbye),
)
