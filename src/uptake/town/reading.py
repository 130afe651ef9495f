"""Reading a sentence of the assistant: what it claims, or which stock phrase it is."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache, lru_cache
from types import MappingProxyType
from typing import Literal

from uptake.town import lines
from uptake.town.facts import POOLS, Attribute, Values, family, subjects
from uptake.town.lines import fill, words
from uptake.town.questions import Question

Stock = Literal["warm", "cold", "hello", "goodbye", "puzzled", "off_topic"]
ENDS = (".", "!", "?")


@dataclass(frozen=True, slots=True)
class Claim:
    """A statement on the town: `Claim("opens", "bakery", ("eight",))`; a vague one gives no values.

    `partial` marks a list that breaks off with "and more".
    """

    attribute: Attribute
    subject: str
    values: Values = ()
    partial: bool = False


Reading = Claim | Stock


def sentences(text: Values) -> tuple[Values, ...]:
    """Cut words at full stops, exclamation and question marks, each of which stays with its sentence."""
    cut: list[Values] = [()]
    for word in text:
        cut[-1] += (word,)
        if word in ENDS:
            cut.append(())
    return tuple(sentence for sentence in cut if sentence)


def _bare(sentence: Values) -> str:
    return " ".join(sentence[:-1] if sentence[-1] in ENDS else sentence)


@cache
def _fixed() -> Mapping[str, Reading]:
    """Return the meaning of every sentence without a value."""
    phrases: tuple[tuple[Stock, Values], ...] = (
        ("warm", (*lines.WARM_OPENERS, *lines.WARM_CLOSERS)),
        ("cold", (*lines.COLD_OPENERS, *lines.COLD_CLOSERS)),
        ("hello", (lines.HELLO,)),
        ("goodbye", (lines.GOODBYE,)),
        ("puzzled", lines.PUZZLED),
        ("off_topic", lines.OFF_TOPIC),
    )
    fixed: dict[str, Reading] = {_bare(words(line)): stock for stock, group in phrases for line in group}
    for attribute, templates in lines.VAGUE.items():
        for subject in subjects(attribute):
            fixed |= {_bare(words(fill(line, subject))): Claim(attribute, subject) for line in templates}
    return MappingProxyType(fixed)


@cache
def _patterns() -> tuple[tuple[Attribute, re.Pattern[str]], ...]:
    slots = {"subject": r"(?P<subject>\w+)", "a": r"(?P<a>\w+)", "b": r"(?P<b>\w+)"}
    one, several = r"(?P<value>\w+)", r"(?P<value>\w+ , \w+ and \w+|\w+ and more)"
    return tuple(
        (attribute, re.compile(line.rstrip(".").format(**slots, value=several if attribute == "sells" else one)))
        for attribute, templates in lines.CLAIMS.items()
        for line in templates
    )


def _claim(attribute: Attribute, match: re.Match[str]) -> Claim | None:
    found = match.groupdict()
    subject = found["subject"] if "subject" in found else f"{found['a']} {found['b']}"
    partial = found["value"].endswith(" and more")
    values = tuple(re.split(" , | and ", found["value"].removesuffix(" and more")))
    known = subject in subjects(attribute) and set(values) <= set(POOLS[attribute])
    return Claim(attribute, subject, values, partial) if known else None


def _one_word(word: str, question: Question) -> Claim | None:
    """Read a bare word as a value of what was asked, or else of the subject's first attribute that can have it."""
    if word == lines.VAGUE_WORDS.get(question.attribute):
        return Claim(question.attribute, question.subject)
    for attribute in sorted(family(question.attribute), key=lambda name: name != question.attribute):
        if word in POOLS[attribute]:
            return Claim(attribute, question.subject, (word,))
    return None


@lru_cache(maxsize=1 << 16)
def _read(text: str) -> Reading | None:
    if text in _fixed():
        return _fixed()[text]
    matches = ((attribute, pattern.fullmatch(text)) for attribute, pattern in _patterns())
    claims = (_claim(attribute, match) for attribute, match in matches if match)
    return next((claim for claim in claims if claim), None)


def read(sentence: Values, question: Question) -> Reading | None:
    """Say what `sentence` means as part of an answer to `question`, or None where the town has no such sentence."""
    text = _bare(sentence)
    return _read(text) or _one_word(text, question)
