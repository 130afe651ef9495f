"""A response in the making, and what a sampler is given and gives back."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from math import isnan
from typing import final

import torch
from jaxtyping import Float
from torch import Tensor

from uptake.data.spans import decoded
from uptake.data.where import bad_row
from uptake.errors import ModelError
from uptake.models import LanguageModel
from uptake.sampling.draw import Sampling, draw, uniforms
from uptake.types import Prompt, Rollout, Source


@dataclass(frozen=True, slots=True)
class PromptIds:
    """A prompt with its token ids, up to and including what opens the assistant's turn."""

    prompt: Prompt
    ids: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Written:
    """A response as an engine gives it back: ids, with the end token where it is finished, and their `logps`.

    `logps` is empty where the engine does not say with which probability it drew.
    """

    ids: tuple[int, ...] = ()
    logps: tuple[float, ...] = ()
    finished: bool = False


def rollouts(
    lm: LanguageModel, prompts: Sequence[PromptIds], written: Sequence[Written], *, version: int, source: Source
) -> list[Rollout]:
    """Responses ordered by prompt, then sample, of which every prompt has the same number, as rollouts."""
    n = len(written) // max(1, len(prompts))
    return [
        _rollout(lm, prompts[index // n], one, sample=index % n, version=version, source=source)
        for index, one in enumerate(written)
    ]


@final
@dataclass(slots=True)
class Answer:
    """One sample of the prompt at index `home`, token by token, until an end token or `limit` tokens."""

    home: int
    prompt: PromptIds
    sample: int
    limit: int
    numbers: list[float]
    ids: list[int] = field(default_factory=list)
    logps: list[float] = field(default_factory=list)
    finished: bool = False

    @property
    def done(self) -> bool:
        return self.finished or len(self.ids) == self.limit

    @property
    def number(self) -> float:
        """The random number of the next token (of the last one, once done)."""
        return self.numbers[min(len(self.ids), self.limit - 1)]

    def take(self, token: int, logp: float, end_ids: frozenset[int]) -> None:
        """Append a token; once done, do nothing."""
        if not self.done:
            self.ids.append(token)
            self.logps.append(logp)
            self.finished = token in end_ids


def answers_to(lm: LanguageModel, home: int, prompt: PromptIds, sampling: Sampling) -> list[Answer]:
    """The empty answers to a prompt."""
    limit = answer_limit(lm, prompt, sampling)
    key = prompt.prompt.key
    return [
        Answer(home, prompt, sample, limit, uniforms(sampling.seed, key, sample, limit).tolist())
        for sample in range(sampling.n)
    ]


def answer_limit(lm: LanguageModel, prompt: PromptIds, sampling: Sampling) -> int:
    """The most tokens an answer may have: `max_new_tokens`, or fewer where the model's window ends before."""
    return min(sampling.max_new_tokens, lm.window - len(prompt.ids)) if lm.window else sampling.max_new_tokens


def check_prompts(lm: LanguageModel, prompts: Iterable[PromptIds]) -> None:
    """Raise InputError, naming the row, on a prompt that is empty or leaves the window no room for a token."""
    for prompt in prompts:
        size = len(prompt.ids)
        if not size or (lm.window is not None and size >= lm.window):
            problem = f"prompt {prompt.prompt.key} has {size} tokens"
            most = "" if lm.window is None else f" and at most {lm.window - 1}, one less than the window of {lm.name}"
            raise bad_row(problem, prompt.prompt.where, allowed=f"at least 1{most}")


def record(
    lm: LanguageModel,
    logits: Float[Tensor, "rows vocabulary"],
    groups: Sequence[Sequence[Answer]],
    sampling: Sampling,
    end_ids: frozenset[int],
) -> None:
    """Draw the next token of every answer; the answers of a group continue the same row of logits.

    A row that is no token to the tokenizer would be a response without a text, and is never drawn.
    Raises ModelError, naming the prompt, where the logits are not numbers.
    """
    if lm.tokens < logits.shape[1]:
        logits = logits.index_fill(1, torch.arange(lm.tokens, logits.shape[1], device=logits.device), -torch.inf)
    numbers = torch.tensor([[answer.number for answer in group] for group in groups], dtype=torch.float64)
    drawn, logps = (part.tolist() for part in draw(logits, numbers.to(logits.device), sampling))
    for group, tokens, values in zip(groups, drawn, logps, strict=True):
        for answer, token, logp in zip(group, tokens, values, strict=True):
            if isnan(logp):
                raise ModelError(f"{lm.name}: not-a-number in the logits after {_described(answer)}")
            answer.take(token, logp, end_ids)


def _described(answer: Answer) -> str:
    prompt = answer.prompt.prompt
    row = f" ({prompt.where.path}:{prompt.where.line})" if prompt.where else ""
    return f"{len(answer.ids)} tokens of an answer to prompt {prompt.key}{row}"


def rollout(lm: LanguageModel, answer: Answer, version: int) -> Rollout:
    """A finished answer as the record that the rest of Uptake reads."""
    return _rollout(lm, answer.prompt, answer, sample=answer.sample, version=version, source="policy")


def _rollout(
    lm: LanguageModel, prompt: PromptIds, answer: Answer | Written, *, sample: int, version: int, source: Source
) -> Rollout:
    ids = tuple(answer.ids)
    return Rollout(
        prompt=prompt.prompt,
        prompt_ids=prompt.ids,
        response_ids=ids,
        response=decoded(lm.tokenizer, ids[:-1] if answer.finished else ids),
        finished=answer.finished,
        logps=tuple(answer.logps),
        sample=sample,
        version=version,
        source=source,
    )
