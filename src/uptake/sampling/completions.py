"""The completions endpoint of OpenAI's protocol with token ids in both directions, as vLLM offers it."""

from collections.abc import Collection, Iterable, Sequence
from typing import Any

from pydantic import BaseModel

from uptake.client import Choices, Lenient, Server, sent_with
from uptake.data.cache import Cache
from uptake.errors import InputError, UptakeError
from uptake.models import LanguageModel
from uptake.sampling.answer import PromptIds, Written, answer_limit
from uptake.sampling.draw import Sampling, sample_seed
from uptake.support.keys import content_key


class Logprobs(BaseModel):
    """The log-probability of every token; a server may not know that of the first."""

    token_logprobs: list[float | None] = []


class CompletionChoice(BaseModel):
    """An answer; `prompt_token_ids` are the ids that the server read."""

    token_ids: Lenient[list[int]] = None
    prompt_token_ids: Lenient[list[int]] = None
    logprobs: Lenient[Logprobs] = None


class Completion(Choices):
    """The part of a completion that matters here; without choices where the server sent something else."""

    choices: tuple[CompletionChoice, ...] = ()


def complete(
    server: Server,
    lm: LanguageModel,
    prompts: Sequence[PromptIds],
    sampling: Sampling,
    end_ids: Collection[int],
    cache: Cache | None = None,
) -> list[Written]:
    """Responses ordered by prompt, then sample, each with a request and a seed of its own; empty where there is none.

    Log-probabilities are kept where they are those of the model's own distribution: from any other, servers give the
    one or the other kind, as they were started. Raises InputError where the server sends no token ids, UptakeError
    where it answers nothing, and as `Server.ask` does.
    """
    questions = [
        {
            "prompt": list(prompt.ids),
            "max_tokens": answer_limit(lm, prompt, sampling),
            "seed": sample_seed(sampling.seed, prompt.prompt.key, sample),
        }
        for prompt in prompts
        for sample in range(sampling.n)
    ]
    form = _form(sampling, end_ids)
    keys = [content_key("completion", server.model, question, form) for question in questions]
    found = server.ask("/completions", dict(zip(keys, questions, strict=True)), [sent_with(form)], Completion, cache)
    choices = first_choices(server, (found[key] for key in keys))
    return [Written() if choice is None else _written(server, choice, end_ids, sampling.exact) for choice in choices]


def read_ids(server: Server, text: str, cache: Cache | None = None) -> tuple[int, ...]:
    """The ids that the server's model reads a prompt as, without special tokens of its own; raises as `complete`."""
    question = {"prompt": text, "max_tokens": 1, "add_special_tokens": False, "return_token_ids": True}
    key = content_key("ids", server.model, question)
    reply = server.ask("/completions", {key: question}, [sent_with({})], Completion, cache)[key]
    return _ids(server, reply.choices[0].prompt_token_ids if reply and reply.choices else None)


def first_choices(server: Server, replies: Iterable[Choices | None]) -> list[Any]:
    """The answer in every reply, or None; raises UptakeError where there is none in any."""
    choices = [reply.choices[0] if reply and reply.choices else None for reply in replies]
    if choices and all(choice is None for choice in choices):
        raise UptakeError(f"{server.url}, model {server.model}: no question was answered ({len(choices)} were asked)")
    return choices


def _form(sampling: Sampling, end_ids: Collection[int]) -> dict[str, Any]:
    """Nothing is left to what the model's folder or the server recommends, the ends of an answer least of all."""
    return {
        "temperature": sampling.temperature,
        "top_p": sampling.top_p,
        "top_k": sampling.top_k,
        "min_p": 0.0,
        "repetition_penalty": 1.0,
        "presence_penalty": 0.0,
        "frequency_penalty": 0.0,
        "ignore_eos": True,
        "stop_token_ids": sorted(end_ids),
        "return_token_ids": True,
        "logprobs": 0,
    }


def _written(server: Server, choice: CompletionChoice, end_ids: Collection[int], exact: bool) -> Written:
    ids = _ids(server, choice.token_ids)
    given = choice.logprobs.token_logprobs if exact and choice.logprobs else []
    logps = tuple(logp for logp in given if logp is not None)
    return Written(ids, logps if len(logps) == len(ids) else (), bool(ids) and ids[-1] in end_ids)


def _ids(server: Server, ids: Sequence[int] | None) -> tuple[int, ...]:
    if ids is None:
        allowed = "a vLLM server; any other exchanges text"
        raise InputError(f"{server.url} sends no token ids", field="exchange", allowed=allowed)
    return tuple(ids)
