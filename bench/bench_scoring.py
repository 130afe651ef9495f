"""Follow-up scoring as one token tree, against one row per follow-up, and against what this machine can multiply.

The plain side is what one writes without trees: every follow-up in a right-padded row behind its context, batches of
8 rows, the model's own SDPA forward call, logits of all positions, log-softmax, gather. All sides have their products
computed by the same library.
"""

import copy
from functools import cache

import torch
from _harness import compare, matmul_flops, record
from _model import VOCABULARY, llama, tokenizer
from torch import Tensor
from torch.nn.functional import linear
from transformers import LlamaForCausalLM

from uptake.models import LanguageModel, Packed, TokenTree, branches, pack, prepare, score_trees
from uptake.models.products import fast_products

CONTEXT, FOLLOWUPS, SHORTEST, LONGEST = 512, 120, 5, 12
WIDTH, LAYERS, ROWS, REPEATS = 512, 8, 8, 3
SQUARE = 2048
AGREEMENT = 1e-4  # largest accepted difference of a token's log-probability between the sides


def random_model() -> LlamaForCausalLM:
    """About 58 M parameters, more than half of them the vocabulary's."""
    return llama(WIDTH, 1408, LAYERS, heads=8, tie_word_embeddings=False)


@cache
def tree() -> TokenTree:
    generator = torch.Generator().manual_seed(0)

    def ids(count: int) -> list[int]:
        found: list[int] = torch.randint(VOCABULARY, (count,), generator=generator).tolist()
        return found

    lengths = (SHORTEST + index % (LONGEST - SHORTEST + 1) for index in range(FOLLOWUPS))
    return branches(ids(CONTEXT), *map(ids, lengths))


def as_tree(lm: LanguageModel) -> Tensor:
    return torch.cat(score_trees(lm, [tree()], len(tree()))[0])


@torch.no_grad()
def as_rows(model: LlamaForCausalLM) -> Tensor:
    """One log-probability per token of a follow-up, in order."""
    stem, *followups = (list(node.ids) for node in tree().nodes)
    found: list[Tensor] = []
    for start in range(0, len(followups), ROWS):
        batch = followups[start : start + ROWS]
        longest = max(map(len, batch))
        ids = torch.tensor([[*stem, *one, *[0] * (longest - len(one))] for one in batch])
        mask = torch.tensor([[1] * (CONTEXT + len(one)) + [0] * (longest - len(one)) for one in batch])
        with fast_products(model.device):
            logits = model(input_ids=ids, attention_mask=mask, use_cache=False).logits
        logps = logits[:, :-1].log_softmax(-1).gather(2, ids[:, 1:, None])[..., 0]
        found.extend(row[CONTEXT - 1 : CONTEXT - 1 + len(one)] for row, one in zip(logps, batch, strict=True))
    return torch.cat(found)


def distinct_flops(model: LlamaForCausalLM, packed: Packed) -> int:
    """Multiplications and additions of the distinct tokens: linear layers, attention, vocabulary where asked for."""
    linear: int = sum(weight.numel() for weight in model.model.layers.parameters() if weight.ndim == 2)
    seen = int((packed.positions + 1).sum())
    vocabulary = WIDTH * VOCABULARY * len(packed.sources)
    return 2 * (linear * len(packed) + 2 * WIDTH * LAYERS * seen + vocabulary)


def products(flops: int) -> None:
    """Square matrix products of that many floating-point operations in all."""
    left, right = torch.ones(2, SQUARE, SQUARE)
    with fast_products(left.device):
        for _ in range(round(flops / (2 * SQUARE**3))):
            linear(left, right)


def main() -> None:
    plain = random_model()
    lm = prepare(copy.deepcopy(plain), tokenizer(), "random Llama")
    packed = pack([tree()])
    flops = distinct_flops(plain, packed)
    difference = float((as_tree(lm) - as_rows(plain)).abs().max())
    if difference > AGREEMENT:
        raise SystemExit(f"the sides differ by {difference:.2g} (allowed: {AGREEMENT:.0e})")
    limit = compare(lambda: as_tree(lm), lambda: products(flops), 2 * REPEATS)
    rows = compare(lambda: as_tree(lm), lambda: as_rows(plain), REPEATS, warmup=0)
    row_tokens = sum(CONTEXT + len(node.ids) for node in tree().nodes[1:])
    record(
        "scoring",
        f"{FOLLOWUPS} follow-ups of {SHORTEST} to {LONGEST} tokens after a context of {CONTEXT}, scored as one tree",
        [
            {
                "peer": f"one row per follow-up, batches of {ROWS}",
                "tokens, tree : peer": f"{len(packed)} : {row_tokens}",
                "tree, s": rows.ours,
                "peer, s": rows.peer,
                "peer / tree": rows.ratio,
                "largest difference": f"{difference:.1e}",
            },
            {
                "peer": f"the tree's {flops / 1e9:.0f} GFLOP as fp32 products of {SQUARE} x {SQUARE} matrices",
                "tokens, tree : peer": "",
                "tree, s": limit.ours,
                "peer, s": limit.peer,
                "peer / tree": limit.ratio,
                "largest difference": "",
            },
        ],
    )
    print(f"fp32 products of {SQUARE} x {SQUARE} run at {matmul_flops(SQUARE).median / 1e9:.0f} GFLOP/s here")


if __name__ == "__main__":
    main()
