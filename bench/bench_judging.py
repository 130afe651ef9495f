"""Judging pairs in both orders on one tree a pair, against one row per order.

The plain side is what one writes without trees: right-padded rows, longest first, the logits at the last token. Both
sides compute their linear layers by the same library, so that the ratio is that of trees alone; where Uptake chooses
another one than PyTorch, a second line has the rows do as PyTorch does.
"""

import random
from contextlib import AbstractContextManager
from functools import partial
from typing import Any

import torch
from _harness import compare, peer_products, record
from _model import llama, text, tokenizer

from uptake import Prompt, Turn
from uptake.annotators.llm import LLMJudge
from uptake.annotators.question import Instructions
from uptake.models import prepare

PAIRS, PROMPT, ANSWER, ROWS, REPEATS = 200, 256, 96, 8, 3
# As long as the instructions of a careful judge.
PREAMBLE = 120


def instructions() -> Instructions:
    return Instructions(f"{text(random.Random(2), PREAMBLE)} {{prompt}} w4 {{first}} w5 {{second}} w6 ", cue="w7 ")


def pairs_of_texts() -> tuple[list[Prompt], list[tuple[str, str]]]:
    rng = random.Random(0)
    prompts = [Prompt((Turn("user", text(rng, PROMPT)),), "") for _ in range(PAIRS)]
    # Answers of different lengths, as they come.
    return prompts, [(text(rng, rng.randint(ANSWER // 2, ANSWER)), text(rng, ANSWER)) for _ in range(PAIRS)]


@torch.no_grad()
def as_rows(judge: LLMJudge, products: AbstractContextManager[Any]) -> list[float]:
    """P(first is better) of every pair, one row per order, linear layers computed by `products`."""
    one, two = map(tokenizer().convert_tokens_to_ids, ("1", "2"))
    prompts, pairs = pairs_of_texts()
    orders = [(prompt, *order) for prompt, pair in zip(prompts, pairs, strict=True) for order in (pair, pair[::-1])]
    texts = [f"{judge.instructions(*each)}{judge.instructions.cue}" for each in orders]
    ids = [tokenizer()(each)["input_ids"] for each in texts]
    places = sorted(range(len(ids)), key=lambda place: -len(ids[place]))
    shown_first = [0.0] * len(ids)
    for start in range(0, len(places), ROWS):
        some = places[start : start + ROWS]
        batch = tokenizer().pad({"input_ids": [ids[place] for place in some]}, return_tensors="pt")
        ends = batch["attention_mask"].sum(1) - 1
        with products:
            states = judge.lm.decoder(**batch, use_cache=False).last_hidden_state
            logits = judge.lm.head(states[torch.arange(len(some)), ends])
        for place, p in zip(some, logits[:, [one, two]].softmax(-1)[:, 0].tolist(), strict=True):
            shown_first[place] = p
    return [(p + 1 - q) / 2 for p, q in zip(shown_first[::2], shown_first[1::2], strict=True)]


def main() -> None:
    judge = LLMJudge(prepare(llama(256, 704, 6, heads=4), tokenizer()), instructions(), min_share=0.0)
    ours = [verdict.p for verdict in judge.compare(*pairs_of_texts())]
    rows = []
    for name, products in peer_products().items():
        theirs = as_rows(judge, products)
        difference = max(abs(p - q) for p, q in zip(ours, theirs, strict=True))
        if difference > 1e-4:
            raise SystemExit(f"the sides differ by {difference:.1e}")
        found = compare(lambda: judge.compare(*pairs_of_texts()), partial(as_rows, judge, products), REPEATS, warmup=0)
        rows.append(
            {
                "products of the rows": name,
                "one tree a pair, s": str(found.ours),
                "one row an order, s": str(found.peer),
                "rows / tree": str(found.ratio),
                "largest difference": f"{difference:.1e}",
            }
        )
    record(
        "judging",
        f"{PAIRS} pairs judged in both orders: instructions of {PREAMBLE} tokens, prompt {PROMPT}, answers to {ANSWER}",
        rows,
    )


if __name__ == "__main__":
    main()
