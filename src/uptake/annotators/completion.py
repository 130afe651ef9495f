"""Chat completions, and which of the choices an answer is: strictly, or not at all."""

import re
from collections.abc import Iterator, Mapping, Sequence
from math import exp
from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator, Field

from uptake.annotators.question import CHOICES
from uptake.client import ChatChoice, Choices, Lenient


class _Alternative(BaseModel):
    """A token that could have been written, with its log-probability in nats."""

    token: str
    # Above 0 by rounding; a token that cannot be written has the lowest number that a server can spell.
    logprob: float = Field(le=0.01)


def _listed(tops: Any) -> Any:
    """Alternatives as a list, where a server sends a mapping of tokens to log-probabilities, or nothing."""
    if isinstance(tops, Mapping):
        return [{"token": token, "logprob": logprob} for token, logprob in tops.items()]
    return tops if isinstance(tops, list) else []


class _Token(BaseModel):
    """A token that was written, with the likeliest tokens in its place."""

    token: str
    top_logprobs: Annotated[list[Lenient[_Alternative]], BeforeValidator(_listed)] = []


class _Logprobs(BaseModel):
    content: list[_Token] | None = None


class _Choice(ChatChoice):
    logprobs: Lenient[_Logprobs] = None


class ChatCompletion(Choices):
    """The part of a chat completion that matters here; without choices where the server sent something else."""

    choices: tuple[_Choice, ...] = ()

    @property
    def answer(self) -> str:
        """What was said, after the thoughts that it begins with; empty where nothing was."""
        return self.choices[0].message.answer if self.choices else ""

    def quoted(self, longest: int) -> str:
        """The beginning of what was said, or of the thoughts where they are all, and whether a limit cut it off."""
        if not self.choices:
            return ""
        choice = self.choices[0]
        text = choice.message.content or choice.message.thoughts or ""
        cut_off = ", cut off by max_tokens" if choice.cut_off else ""
        return f"{text[:longest]!r}{cut_off}" if text or cut_off else ""


def first_preferred(completion: ChatCompletion, cue: str) -> float | None:
    """The probability of "1" against "2", or None where the answer is not exactly one of them.

    The answer's words, after its thoughts, must be a choice and, before or after it, none but words of the cue. With
    the alternatives to the answer's token that holds the choice, the probability is their share; without, it is 1 or 0.
    """
    known = set(_words(cue)) - set(CHOICES)
    chosen = [word for word in _words(completion.answer) if word not in known]
    if len(chosen) != 1 or chosen[0] not in CHOICES:
        return None
    logprobs = completion.choices[0].logprobs
    tokens = (logprobs and logprobs.content) or []
    spelling = _at_the_end(completion.answer.strip(), tokens)
    tops = next((_alternatives(token) for token in spelling if _words(token.token) == chosen), [])
    shares = [_probability(tops, choice) for choice in CHOICES]
    if not any(shares):
        return float(chosen[0] == CHOICES[0])
    # What is not listed is at most as likely as the last that is, and as all that is not listed together.
    listed = [exp(top.logprob) for top in tops]
    unlisted = max(0.0, min(*listed, 1 - sum(listed)))
    one, two = (share or unlisted for share in shares)
    return one / (one + two)


def _at_the_end(answer: str, tokens: Sequence[_Token]) -> Iterator[_Token]:
    """The tokens that spell the answer: the last that do, since thoughts stand before it."""
    begin = "".join(token.token for token in tokens).rfind(answer)
    at = 0
    for token in tokens:
        before, at = at, at + len(token.token)
        if begin >= 0 and at > begin and before < begin + len(answer):
            yield token


def _alternatives(token: _Token) -> list[_Alternative]:
    return [top for top in token.top_logprobs if top is not None]


def _probability(tops: Sequence[_Alternative], choice: str) -> float:
    return sum(exp(top.logprob) for top in tops if _words(top.token) == [choice])


def _words(text: str) -> list[str]:
    return re.findall(r"\w+", text.lower())
