"""Chat completions, and which of the choices an answer is: strictly, or not at all."""

import re
from collections.abc import Sequence
from math import exp

from pydantic import BaseModel

from uptake.annotators.question import CHOICES
from uptake.client import Choices, Message


class _Alternative(BaseModel):
    """A token that could have been written, with its log-probability in nats."""

    token: str
    logprob: float


class _Token(_Alternative):
    """A token that was written, with the likeliest tokens in its place."""

    top_logprobs: list[_Alternative] = []


class _Logprobs(BaseModel):
    content: list[_Token] | None = None


class _Choice(BaseModel):
    message: Message
    logprobs: _Logprobs | None = None


class ChatCompletion(Choices):
    """The part of a chat completion that matters here; without choices where the server sent something else."""

    choices: tuple[_Choice, ...] = ()


def first_preferred(completion: ChatCompletion, cue: str) -> float | None:
    """The probability of "1" against "2", or None where the answer is not exactly one of them.

    The answer's words must be a choice and, before or after it, none but words of the cue. With the alternatives to the
    token that holds the choice, the probability is their share; without, it is 1 or 0.
    """
    if not completion.choices:
        return None
    answer = completion.choices[0]
    known = set(_words(cue)) - set(CHOICES)
    chosen = [word for word in _words(answer.message.content or "") if word not in known]
    if len(chosen) != 1 or chosen[0] not in CHOICES:
        return None
    tokens = (answer.logprobs and answer.logprobs.content) or []
    tops = next((token.top_logprobs for token in tokens if _words(token.token) == chosen), [])
    shares = [_probability(tops, choice) for choice in CHOICES]
    if not any(shares):
        return float(chosen[0] == CHOICES[0])
    # What is not listed is at most as likely as the last that is, and as all that is not listed together.
    listed = [exp(top.logprob) for top in tops]
    unlisted = max(0.0, min(*listed, 1 - sum(listed)))
    one, two = (share or unlisted for share in shares)
    return one / (one + two)


def _probability(tops: Sequence[_Alternative], choice: str) -> float:
    return sum(exp(top.logprob) for top in tops if _words(top.token) == [choice])


def _words(text: str) -> list[str]:
    return re.findall(r"\w+", text.lower())
