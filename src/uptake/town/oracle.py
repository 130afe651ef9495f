"""The oracle: the exact quality, faulty words and minimal edit of any text given as an answer."""

import re
from dataclasses import dataclass, replace
from functools import cache, lru_cache
from itertools import groupby
from statistics import fmean

from uptake.errors import InputError
from uptake.ops.alignment import ADDED, UNCHANGED, align
from uptake.town.answers import right_drafts
from uptake.town.edits import distance, shared
from uptake.town.facts import Values, town_facts
from uptake.town.lines import words
from uptake.town.quality import Quality
from uptake.town.questions import Question, read_question
from uptake.town.reading import ENDS, Claim, Reading, read, sentences
from uptake.types import Dialogue

WORD = re.compile(r"\w+|[^\w\s]")

# What a failed axis scores. A wrong fact is worse than a vague one, and manners weigh least.
MISSING = 0.2
VAGUE = 0.2
PARTIAL = 0.5
COLD = 0.4
DISOBEYED = 0.2
# What each sentence too many leaves of engagingness, and what disorder leaves of understanding: no text but a right
# answer is perfect.
RAMBLING = 0.5
DISORDER = 0.8


@dataclass(frozen=True, slots=True)
class ReadAnswer:
    """An answer as the oracle hears it; `clarity` is the share of its words that stand in sentences it can read."""

    question: Question
    text: Values
    readings: tuple[Reading, ...]
    sentences: int
    clarity: float

    @property
    def claims(self) -> tuple[Claim, ...]:
        """What the answer says of the town, exactly or vaguely."""
        return tuple(reading for reading in self.readings if isinstance(reading, Claim))

    @property
    def on_question(self) -> tuple[Claim, ...]:
        """The claims about the attribute that was asked for, whatever their subject."""
        return tuple(claim for claim in self.claims if claim.attribute == self.question.attribute)


def hear(question: Question, response: str) -> ReadAnswer:
    """Read `response` sentence by sentence as an answer to `question`."""
    text = words(response)
    cut = sentences(text)
    heard = [(sentence, read(sentence, question)) for sentence in cut]
    readable = sum(len(sentence) for sentence, reading in heard if reading)
    readings = tuple(reading for _, reading in heard if reading)
    return ReadAnswer(question, text, readings, len(cut), readable / max(len(text), 1))


def _true(seed: int, claim: Claim) -> bool:
    fact = town_facts(seed)[claim.attribute, claim.subject]
    return set(claim.values) <= set(fact) and (claim.partial or len(claim.values) in (0, 1, len(fact)))


def _understanding(heard: ReadAnswer) -> float:
    if "puzzled" in heard.readings:
        return 0.0
    return float(bool(heard.on_question)) if heard.claims else MISSING


def _relevance(heard: ReadAnswer) -> float:
    topics = len(heard.claims) + heard.readings.count("off_topic")
    on_topic = sum(claim.subject == heard.question.subject for claim in heard.claims)
    return on_topic / topics if topics else MISSING


def _correctness(heard: ReadAnswer, seed: int) -> float:
    if not heard.claims:
        return MISSING
    return fmean(_true(seed, claim) for claim in heard.claims)


def _engagingness(heard: ReadAnswer) -> float:
    warm = "warm" in heard.readings or heard.question.asks("one_word")
    allowed = 2 + heard.question.asks("hello") + heard.question.asks("goodbye")
    manners = 1.0 if warm and "cold" not in heard.readings else COLD
    return manners * RAMBLING ** max(0, heard.sentences - allowed)


def _detail(claim: Claim) -> float:
    if not claim.values:
        return VAGUE
    return PARTIAL if claim.attribute == "sells" and len(claim.values) < 3 else 1.0


def _informativeness(heard: ReadAnswer) -> float:
    return max(map(_detail, heard.claims), default=MISSING)


def _following(heard: ReadAnswer) -> float:
    question = heard.question
    lists = [claim.values for claim in heard.on_question if claim.attribute == "sells"]
    obeyed = (
        (not question.asks("one_word") or sum(word not in ENDS for word in heard.text) == 1)
        and (not question.asks("hello") or heard.readings[:1] == ("hello",))
        and (not question.asks("goodbye") or heard.readings[-1:] == ("goodbye",))
        and all(values == tuple(sorted(values, reverse=question.asks("backward"))) for values in lists)
    )
    return 1.0 if obeyed else DISOBEYED


@cache
def right_words(seed: int, question: Question) -> dict[Values, str]:
    """Return every right answer by its words."""
    return {words(draft.text): draft.text for draft in right_drafts(seed, question)}


@lru_cache(maxsize=1 << 12)
def judge(seed: int, question: Question, response: str) -> Quality:
    """Score `response`; all six scores shrink with the share of words that make no sense, to 0 for gibberish."""
    heard = hear(question, response)
    scores = Quality(
        understanding=_understanding(heard),
        relevance=_relevance(heard),
        correctness=_correctness(heard, seed),
        engagingness=_engagingness(heard),
        informativeness=_informativeness(heard),
        following=_following(heard),
    )
    if heard.text not in right_words(seed, question) and scores.overall == 1:
        scores = replace(scores, understanding=DISORDER)
    return Quality(*(score * heard.clarity for score in scores.scores.values()))


def edit(seed: int, question: Question, response: str) -> str:
    """Return the right answer that is fewest word edits away; `response` itself where it is right.

    Of several, the one that begins as the response does for longest: what could still have become right is no fault.
    """
    written, right = words(response), right_words(seed, question)
    if written in right:
        return response
    return right[min(right, key=lambda answer: (distance(written, answer), -shared(written, answer)))]


def faults_in(seed: int, question: Question, response: str) -> tuple[slice, ...]:
    """Return the words to change or drop, each a slice of `response`, from left to right.

    Where a change only adds words, an empty slice marks the place: the start of the next word, or the end of the text.
    """
    places = [*(match.span() for match in WORD.finditer(response)), (len(response),) * 2]
    operations = align(words(response), words(edit(seed, question, response)), from_start=True).ops
    marks: list[slice] = []
    at = 0
    for equal, block in groupby(operations, key=lambda operation: operation == UNCHANGED):
        end = at + sum(operation != ADDED for operation in block)
        if not equal:
            marks += [slice(*span) for span in places[at:end]] or [slice(places[at][0], places[at][0])]
        at = end
    return tuple(marks)


def last_answer(dialogue: Dialogue) -> tuple[Question, str]:
    """Return the last question and its answer; raise `InputError` unless the dialogue ends with user, assistant."""
    roles = tuple(turn.role for turn in dialogue[-2:])
    if roles != ("user", "assistant"):
        raise InputError(f"the last two turns are {roles}", field="role", allowed="a user's question, then its answer")
    return read_question(dialogue[-2].content), dialogue[-1].content
