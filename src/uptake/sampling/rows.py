"""Sampling prompt by prompt, n rows each, for what the shared store cannot hold.

That is models that keep their own cache (state space, hybrid, attention sinks), and answers in whose course the rotary
table changes: there the cache is dropped and the whole row read again, as Transformers does for Phi-3.

A prompt is computed n times, and a finished row until the last one of its prompt is finished, which the shared store of
other models avoids. The samples come from the same random numbers.
"""

from collections.abc import Iterator, Mapping, Sequence

import torch

from uptake.models import LanguageModel
from uptake.sampling.answer import Answer, PromptIds, answers_to, record
from uptake.sampling.draw import Sampling

# What architectures call their cache, in arguments and in outputs.
CACHES = ("past_key_values", "cache_params")


def in_rows(
    lm: LanguageModel, prompts: Mapping[int, PromptIds], sampling: Sampling, end_ids: frozenset[int]
) -> Iterator[tuple[int, list[Answer]]]:
    """The answers to each prompt beside its index, in order."""
    for index, prompt in prompts.items():
        answers = answers_to(lm, index, prompt, sampling)
        _finish(lm, answers, sampling, end_ids)
        yield index, answers


@torch.no_grad()
def _finish(lm: LanguageModel, answers: Sequence[Answer], sampling: Sampling, end_ids: frozenset[int]) -> None:
    """Complete the answers to one prompt."""
    cache: dict[str, object] = {}
    rows, fresh = answers, [answer.prompt.ids for answer in answers]
    while rows:
        with lm.computing():
            output = lm.model(input_ids=torch.tensor(fresh, device=lm.device), use_cache=True, **cache)
        last = output.logits[:, -1]
        last = last.to(torch.promote_types(last.dtype, torch.float32))
        record(lm, last, [[answer] for answer in rows], sampling, end_ids)
        cache = {name: output[name] for name in CACHES if output.get(name) is not None}
        size = len(answers[0].prompt.ids) + max(len(answer.ids) for answer in answers)
        if lm.rope is not None and lm.rope.of(size) != lm.rope.of(size - 1):
            cache = {}  # its keys are of another table
        live = [answer for answer in answers if not answer.done]
        # Rows cannot leave a cache before all are done; a model without one reads the live ones again.
        rows = rows if cache and live else live
        fresh = [tuple(answer.ids[-1:]) if cache else (*answer.prompt.ids, *answer.ids) for answer in rows]
