"""Follow-up scoring as one token tree, against four ways to write it by hand, and what this machine can multiply.

The best of those by hand is the one that counts. All are in _peers.py, through the model's own SDPA forward call, and
all sides have their products computed by the same library. A second table says where the time goes in the tree and in
the best by hand: what both have to multiply bounds how far one can be ahead.
"""

import copy
from collections.abc import Callable, Mapping
from functools import cache, partial

import torch
from _harness import Comparison, compare, matmul_flops, record
from _model import VOCABULARY, llama, tokenizer
from _peers import cached, dense_row, plain_rows
from torch import Tensor
from torch.nn.functional import linear
from torch.profiler import ProfilerActivity, profile
from transformers import LlamaForCausalLM

from uptake.models import LanguageModel, Packed, TokenTree, branches, pack, prepare, score_trees
from uptake.models.products import fast_products

CONTEXT, FOLLOWUPS, SHORTEST, LONGEST = 512, 120, 5, 12
WIDTH, LAYERS, REPEATS = 512, 8, 5
SQUARE = 2048
AGREEMENT = 1e-4  # largest accepted difference of a token's log-probability between the sides

# Operations by how their names end.
KINDS = {
    "linear layers and vocabulary": ("::mm", "::addmm", "_linear_pointwise"),
    "attention": ("::bmm", "::baddbmm", "::_softmax", "_for_cpu"),
    "log-softmax over the vocabulary": ("::_log_softmax",),
    "copies": ("::cat", "::copy_", "::index_select", "::index"),
}
# Ways by hand and the tokens that each computes.
LENGTHS = [SHORTEST + index % (LONGEST - SHORTEST + 1) for index in range(FOLLOWUPS)]
IN_ROWS, ONCE = CONTEXT * FOLLOWUPS + sum(LENGTHS), CONTEXT + sum(LENGTHS)
PEERS: Mapping[str, tuple[Callable[[LlamaForCausalLM, TokenTree], Tensor], int]] = {
    "plain rows in batches of 8, logits of all positions": (partial(plain_rows, everywhere=True), IN_ROWS),
    "plain rows in batches of 8, logits of the follow-ups": (partial(plain_rows, everywhere=False), IN_ROWS),
    "the context's key-value cache, expanded to batches of 24": (cached, ONCE),
    "one dense row under a 4-D mask": (dense_row, ONCE),
}


def random_model() -> LlamaForCausalLM:
    """About 58 M parameters, more than half of them the vocabulary's."""
    return llama(WIDTH, 1408, LAYERS, heads=8, tie_word_embeddings=False)


@cache
def tree() -> TokenTree:
    generator = torch.Generator().manual_seed(0)

    def ids(count: int) -> list[int]:
        found: list[int] = torch.randint(VOCABULARY, (count,), generator=generator).tolist()
        return found

    return branches(ids(CONTEXT), *map(ids, LENGTHS))


def as_tree(lm: LanguageModel) -> Tensor:
    return torch.cat(score_trees(lm, [tree()], len(tree()))[0])


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


def shares(calls: Mapping[str, Callable[[], object]]) -> list[dict[str, object]]:
    """Milliseconds of every call by kind of operation."""
    found: dict[str, dict[str, float]] = {}
    for name, call in calls.items():
        call()
        with profile(activities=[ProfilerActivity.CPU]) as seen:
            for _ in range(REPEATS):
                call()
        spent = {kind: 0.0 for kind in (*KINDS, "everything else")}
        for event in seen.key_averages():
            kind = next((kind for kind, parts in KINDS.items() if event.key.endswith(parts)), "everything else")
            spent[kind] += event.self_cpu_time_total / 1000 / REPEATS
        found[name] = spent
    return [{"ms": kind, **{name: round(found[name][kind]) for name in calls}} for kind in next(iter(found.values()))]


@torch.no_grad()
def main() -> None:
    plain = random_model()
    lm = prepare(copy.deepcopy(plain), tokenizer(), "random Llama")
    packed = pack([tree()])
    flops, expected, rows = distinct_flops(plain, packed), as_tree(lm), []
    for name, (way, tokens) in PEERS.items():
        difference = float((way(plain, tree()) - expected).abs().max())
        if difference > AGREEMENT:
            raise SystemExit(f"{name} differs by {difference:.2g} (allowed: {AGREEMENT:.0e})")
        # Once where it takes half a minute: the spread says nothing against thirty times.
        repeats = 1 if tokens == IN_ROWS else REPEATS
        found = compare(partial(as_tree, lm), partial(way, plain, tree()), repeats, warmup=0)
        rows.append(row(name, f"{len(packed)} : {tokens}", found, f"{difference:.1e}"))
    limit = compare(partial(as_tree, lm), partial(products, flops), 2 * REPEATS)
    name = f"the tree's {flops / 1e9:.0f} GFLOP as fp32 products of {SQUARE} x {SQUARE} matrices"
    rows.append(row(name, "", limit, ""))
    claim = f"{FOLLOWUPS} follow-ups of {SHORTEST} to {LONGEST} tokens after a context of {CONTEXT}, scored as one tree"
    record("scoring", claim, rows)
    by_hand = "one dense row under a 4-D mask"
    calls = {"tree": partial(as_tree, lm), by_hand: partial(PEERS[by_hand][0], plain, tree())}
    record("scoring_profile", f"Where the time goes: {claim}", shares(calls))
    print(f"fp32 products of {SQUARE} x {SQUARE} run at {matmul_flops(SQUARE).median / 1e9:.0f} GFLOP/s here")


def row(peer: str, tokens: str, found: Comparison, difference: str) -> dict[str, object]:
    """A line of the table."""
    return {
        "peer": peer,
        "tokens, tree : peer": tokens,
        "tree, s": found.ours,
        "peer, s": found.peer,
        "peer / tree": found.ratio,
        "largest difference": difference,
    }


if __name__ == "__main__":
    main()
