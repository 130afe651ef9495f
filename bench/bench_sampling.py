"""Sampling several answers to each prompt, against Transformers' own `generate`.

Both sides draw from the same filtered distribution and produce the same number of tokens: no token ends an answer.
Greedy answers of both are compared first.
"""

import copy
from functools import partial
from typing import Any

import torch
from _harness import compare, multiplied, peer_products, record
from _model import VOCABULARY, llama, tokenizer
from torch import Tensor
from transformers import LlamaForCausalLM

from uptake.models import LanguageModel, prepare
from uptake.sampling import PromptIds, Sampling, sample
from uptake.support.keys import prompt_key
from uptake.types import Prompt, Turn

PROMPTS, PROMPT_TOKENS, ANSWERS, ANSWER_TOKENS, CHECKED = 8, 256, 8, 128, 16
REPEATS = 3


def random_model() -> LlamaForCausalLM:
    """About 26 M parameters, half of them the vocabulary's. No token ends an answer."""
    return llama(384, 1024, 8, heads=6, eos_token_id=None)


def prompt_ids() -> Tensor:
    return torch.randint(VOCABULARY, (PROMPTS, PROMPT_TOKENS), generator=torch.Generator().manual_seed(0))


def uptake(lm: LanguageModel, sampling: Sampling) -> list[list[int]]:
    asked = []
    for index, ids in enumerate(prompt_ids().tolist()):
        turns = (Turn("user", f"prompt {index}"),)
        asked.append(PromptIds(Prompt(turns, prompt_key(turns)), tuple(ids)))
    return [list(one.response_ids) for one in sample(lm, asked, sampling, ())]


def generate(model: Any, sampling: Sampling) -> list[list[int]]:
    ids = prompt_ids()
    greedy = sampling.temperature == 0
    filters = {} if greedy else {"temperature": sampling.temperature, "top_p": sampling.top_p, "top_k": sampling.top_k}
    out = model.generate(
        ids.repeat_interleave(sampling.n, 0) if greedy else ids,
        attention_mask=torch.ones_like(ids).repeat_interleave(sampling.n if greedy else 1, 0),
        do_sample=not greedy,
        num_return_sequences=1 if greedy else sampling.n,
        max_new_tokens=sampling.max_new_tokens,
        pad_token_id=0,
        **filters,
    )
    if out.shape != (PROMPTS * sampling.n, PROMPT_TOKENS + sampling.max_new_tokens):
        raise SystemExit(f"the peer gave answers of another size: {tuple(out.shape)}")
    answers: list[list[int]] = out[:, PROMPT_TOKENS:].tolist()
    return answers


def main() -> None:
    plain = random_model()
    lm = prepare(copy.deepcopy(plain), tokenizer(), "random Llama")
    greedy = Sampling(n=2, temperature=0, max_new_tokens=CHECKED)
    if uptake(lm, greedy) != generate(plain, greedy):
        raise SystemExit("the greedy answers of the two sides differ")
    rows = []
    for top_p in (1.0, 0.9):
        sampling = Sampling(n=ANSWERS, temperature=0.7, top_p=top_p, max_new_tokens=ANSWER_TOKENS)
        tokens = PROMPTS * ANSWERS * ANSWER_TOKENS
        for name, products in peer_products().items():
            peer = multiplied(partial(generate, plain, sampling), products)
            found = compare(partial(uptake, lm, sampling), peer, REPEATS)
            rows.append(
                {
                    "filter": f"temperature 0.7, top_p {top_p}",
                    "products": name,
                    "uptake, s": found.ours,
                    "generate, s": found.peer,
                    "uptake, tokens/s": round(tokens / found.ours.median),
                    "generate / uptake": found.ratio,
                }
            )
    claim = f"{ANSWERS} answers of {ANSWER_TOKENS} tokens to each of {PROMPTS} prompts of {PROMPT_TOKENS} tokens"
    record("sampling", f"{claim}, against generate of Transformers", rows)


if __name__ == "__main__":
    main()
