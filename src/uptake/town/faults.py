"""The ways an answer goes wrong: each fault changes one part of a right answer and belongs to one axis."""

import random
from collections.abc import Callable
from dataclasses import dataclass, field, replace

from uptake.town import lines
from uptake.town.answers import AnswerDraft, claims, right_drafts, truth
from uptake.town.facts import POOLS, Attribute, Values, family, subjects, town_facts
from uptake.town.lines import fill
from uptake.town.quality import Axis
from uptake.town.questions import Question

Applies = Callable[[Question], bool]
Change = Callable[[int, Question, AnswerDraft, random.Random], AnswerDraft]


@dataclass(frozen=True, slots=True)
class Fault:
    """One way to go wrong: `Fault("wrong_value", "correctness", ...)`.

    `applies` says which questions can be answered with it; `change` turns a right answer into the faulty one, given
    the town's seed, the question, the right answer and a source of chance. `weight` is how often it is made: faults of
    fact are harder to learn than faults of form, and more frequent.
    """

    name: str
    axis: Axis
    applies: Applies = field(repr=False)
    change: Change = field(repr=False)
    weight: int = 1


def _spoken(question: Question) -> bool:
    return not question.asks("one_word")


def _say(question: Question, attribute: Attribute, subject: str, values: Values, rng: random.Random) -> str:
    return rng.choice(claims(attribute, subject, values)) if _spoken(question) else f"{values[0]}."


def _overlap(one: Attribute, other: Attribute) -> bool:
    return not set(POOLS[one]).isdisjoint(POOLS[other])


def _other_attributes(question: Question) -> tuple[Attribute, ...]:
    others = tuple(name for name in family(question.attribute) if name != question.attribute)
    if _spoken(question):
        return others
    # A bare word must tell which question it answers: numbers do not.
    return tuple(name for name in others if not any(_overlap(name, other) for other in family(name) if other != name))


def _other_attribute(seed: int, question: Question, draft: AnswerDraft, rng: random.Random) -> AnswerDraft:
    attribute = rng.choice(_other_attributes(question))
    values = town_facts(seed)[attribute, question.subject]
    return replace(draft, core=_say(question, attribute, question.subject, values, rng))


def _puzzled(seed: int, question: Question, draft: AnswerDraft, rng: random.Random) -> AnswerDraft:
    return replace(draft, core=rng.choice(lines.PUZZLED))


def _other_subject(seed: int, question: Question, draft: AnswerDraft, rng: random.Random) -> AnswerDraft:
    subject = rng.choice([name for name in subjects(question.attribute) if name != question.subject])
    values = truth(seed, replace(question, subject=subject))
    return replace(draft, core=_say(question, question.attribute, subject, values, rng))


def _off_topic(seed: int, question: Question, draft: AnswerDraft, rng: random.Random) -> AnswerDraft:
    return replace(draft, core=rng.choice(lines.OFF_TOPIC))


def _wrong_value(seed: int, question: Question, draft: AnswerDraft, rng: random.Random) -> AnswerDraft:
    values = truth(seed, question)
    wrong = rng.choice([value for value in POOLS[question.attribute] if value not in values])
    others = rng.sample(values, len(values) - 1)
    changed = tuple(sorted((*others, wrong), reverse=question.asks("backward")))
    return replace(draft, core=_say(question, question.attribute, question.subject, changed, rng))


def _cold(seed: int, question: Question, draft: AnswerDraft, rng: random.Random) -> AnswerDraft:
    if draft.opener:
        return replace(draft, opener=rng.choice(lines.COLD_OPENERS))
    return replace(draft, closer=rng.choice(lines.COLD_CLOSERS))


def _repeats(seed: int, question: Question, draft: AnswerDraft, rng: random.Random) -> AnswerDraft:
    return replace(draft, opener="", closer=draft.core)


def _curt(seed: int, question: Question, draft: AnswerDraft, rng: random.Random) -> AnswerDraft:
    return replace(draft, core=f"{truth(seed, question)[0]}.", opener="", closer="")


def _vague(seed: int, question: Question, draft: AnswerDraft, rng: random.Random) -> AnswerDraft:
    if not _spoken(question):
        return replace(draft, core=f"{lines.VAGUE_WORDS[question.attribute]}.")
    return replace(draft, core=fill(rng.choice(lines.VAGUE[question.attribute]), question.subject))


def _unfinished_list(seed: int, question: Question, draft: AnswerDraft, rng: random.Random) -> AnswerDraft:
    some = (lines.MORE.format(item=truth(seed, question)[0]),)
    return replace(draft, core=rng.choice(claims(question.attribute, question.subject, some)))


def _no_hello(seed: int, question: Question, draft: AnswerDraft, rng: random.Random) -> AnswerDraft:
    return replace(draft, hello="")


def _no_goodbye(seed: int, question: Question, draft: AnswerDraft, rng: random.Random) -> AnswerDraft:
    return replace(draft, goodbye="")


def _not_one_word(seed: int, question: Question, draft: AnswerDraft, rng: random.Random) -> AnswerDraft:
    return rng.choice(right_drafts(seed, replace(question, instructions=())))


def _wrong_order(seed: int, question: Question, draft: AnswerDraft, rng: random.Random) -> AnswerDraft:
    values = truth(seed, question)[::-1]
    return replace(draft, core=rng.choice(claims(question.attribute, question.subject, values)))


def _is_list(question: Question) -> bool:
    return question.attribute == "sells"


FAULTS: tuple[Fault, ...] = (
    Fault("other_attribute", "understanding", lambda question: bool(_other_attributes(question)), _other_attribute),
    Fault("puzzled", "understanding", _spoken, _puzzled),
    Fault("other_subject", "relevance", _spoken, _other_subject),
    Fault("off_topic", "relevance", _spoken, _off_topic),
    Fault("wrong_value", "correctness", lambda question: True, _wrong_value, 2),
    Fault("cold", "engagingness", _spoken, _cold),
    Fault("repeats", "engagingness", _spoken, _repeats),
    Fault("curt", "engagingness", lambda question: _spoken(question) and not _is_list(question), _curt),
    Fault("vague", "informativeness", lambda question: True, _vague),
    Fault("unfinished_list", "informativeness", _is_list, _unfinished_list),
    Fault("no_hello", "following", lambda question: question.asks("hello"), _no_hello, 2),
    Fault("no_goodbye", "following", lambda question: question.asks("goodbye"), _no_goodbye, 2),
    Fault("not_one_word", "following", lambda question: question.asks("one_word"), _not_one_word, 2),
    Fault("wrong_order", "following", _is_list, _wrong_order, 2),
)
