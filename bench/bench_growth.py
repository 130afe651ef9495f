"""Cost as texts grow: follow-ups after longer contexts, pairs of longer prompts, prompts with several responses.

    python bench/bench_growth.py --longest 2048
    python bench/bench_growth.py --model SMOLLM2 --only "pairs, 2 x 4"

Beside the trees stand the ways that one writes by hand, through Transformers' own attention:

* a dense row: each tree in one row under a 4-D mask of who sees whom, logits where a token is asked for. Nothing is
  shared between trees;
* the key-value cache: the context once, its keys and values expanded to batches of 24 follow-ups.

Pairs are trained: forward and backward pass of all log-probabilities, a pair at a time by hand. Times are taken in
turn, and memory in a fresh process, above what the model takes. All sides have their products computed by the same
library.
The model is a random Llama unless a folder is given. Lines of earlier runs stay in the record until measured again.
"""

import copy
import json
import random
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Annotated

import torch
import typer
from _harness import RESULTS, Comparison, compare, peak_bytes, record
from _model import llama, tokenizer
from torch import Tensor
from transformers import AutoModelForCausalLM, PreTrainedModel

from uptake.models import LanguageModel, TokenTree, branches, load, pack, prepare, score_trees, token_logps
from uptake.models.packing import cut, side_by_side
from uptake.models.products import fast_products

BUDGET, ROWS, CHUNK = 8192, 24, 64
CACHED = 2048  # tokens of the longest context whose expanded cache is measured
AGREEMENT = 1e-4  # largest accepted difference of a token's log-probability between the sides
FOLLOW_UPS = [(context, count) for context in (128, 512, 2048, 8000) for count in (24, 120)]
PAIRS = [(1, 1, 128, 64), (1, 1, 512, 128), (1, 1, 1024, 512), (1, 1, 2048, 1024), (2, 4, 512, 128)]
MINING = [(1, 8, 340, 24), (4, 4, 840, 24), (4, 4, 840, 120), (16, 2, 340, 24)]
RESPONSE = 60


@dataclass(frozen=True)
class Work:
    """Trees of stated sizes, random tokens in all of them."""

    kind: str
    name: str
    sizes: tuple[int, ...]

    @property
    def tokens(self) -> int:
        """Those of the longest prompt."""
        return self.sizes[0] if self.kind == "follow-ups" else self.sizes[2]

    def trees(self) -> list[TokenTree]:
        rng = random.Random(0)

        def ids(count: int) -> list[int]:
            return [rng.randrange(5, 30_000) for _ in range(count)]

        def follow_ups(count: int) -> list[list[int]]:
            return [ids(5 + number % 8) for number in range(count)]

        if self.kind == "follow-ups":
            context, count = self.sizes
            return [branches(ids(context), *follow_ups(count))]
        prompts, each, length, last = self.sizes
        several = [ids(length) for _ in range(prompts)]
        if self.kind == "pairs":
            return [branches(prompt, ids(last), ids(last)) for prompt in several for _ in range(each)]
        asked = follow_ups(last)
        return [branches([*prompt, *ids(RESPONSE)], *asked) for prompt in several for _ in range(each)]


def works() -> list[Work]:
    return [
        *(Work("follow-ups", f"{count} follow-ups after {context}", (context, count)) for context, count in FOLLOW_UPS),
        *(Work("pairs", f"pairs, {n} x {k} of {size} + 2 x {last}", (n, k, size, last)) for n, k, size, last in PAIRS),
        *(
            Work("mining", f"responses, {n} x {k} of {size} + {RESPONSE}, {count} follow-ups", (n, k, size, count))
            for n, k, size, count in MINING
        ),
    ]


@dataclass(frozen=True)
class Model:
    """A model by its folder, or a random Llama by its size."""

    folder: Path | None
    width: int
    layers: int
    heads: int

    @property
    def name(self) -> str:
        return self.folder.name if self.folder else f"Llama {self.width} x {self.layers}, {self.heads} heads"

    def plain(self) -> PreTrainedModel:
        if self.folder:
            model: PreTrainedModel = AutoModelForCausalLM.from_pretrained(self.folder, dtype=torch.float32).eval()
            return model
        inner = self.width * 11 // 4 // 64 * 64
        return llama(self.width, inner, self.layers, self.heads, max_position_embeddings=16_384)

    def prepared(self) -> LanguageModel:
        return load(self.folder) if self.folder else prepare(self.plain(), tokenizer(), "random Llama")


def dense_row(model: PreTrainedModel, tree: TokenTree) -> Tensor:
    """Log-probabilities of all scored nodes, from one row in which every token sees its ancestors."""
    starts, depths = [0], [0]
    stems: list[list[int]] = [[]]
    for index, node in enumerate(tree.nodes[1:], start=1):
        before = tree.nodes[node.parent]
        starts.append(starts[-1] + len(tree.nodes[index - 1].ids))
        depths.append(depths[node.parent] + len(before.ids))
        stems.append([*stems[node.parent], node.parent])
    hidden = torch.full((len(tree), len(tree)), -torch.inf)
    ids: list[int] = []
    positions: list[int] = []
    sources: list[int] = []
    targets: list[int] = []
    for node, start, depth, stem in zip(tree.nodes, starts, depths, stems, strict=True):
        rows = slice(start, start + len(node.ids))
        for index in stem:
            hidden[rows, starts[index] : starts[index] + len(tree.nodes[index].ids)] = 0
        hidden[rows, rows] = torch.full((len(node.ids),) * 2, -torch.inf).triu(1)
        ids += node.ids
        positions += range(depth, depth + len(node.ids))
        if node.scored:
            sources += [starts[node.parent] + len(tree.nodes[node.parent].ids) - 1, *range(start, rows.stop - 1)]
            targets += node.ids
    row = {"input_ids": torch.tensor([ids]), "position_ids": torch.tensor([positions])}
    with fast_products(model.device):
        states = model.model(**row, attention_mask=hidden[None, None], use_cache=False).last_hidden_state[0]
        return projected(model, states[sources], torch.tensor(targets))


def projected(model: PreTrainedModel, states: Tensor, targets: Tensor) -> Tensor:
    parts = zip(states.split(CHUNK), targets.split(CHUNK), strict=True)
    return torch.cat([model.lm_head(some).log_softmax(-1).gather(1, ids[:, None])[:, 0] for some, ids in parts])


def cached(model: PreTrainedModel, tree: TokenTree) -> Tensor:
    """Log-probabilities of the branches of a stem, whose keys and values are computed once and expanded."""
    stem, *others = (list(node.ids) for node in tree.nodes)
    with fast_products(model.device):
        begin = model.model(input_ids=torch.tensor([stem]), use_cache=True)
        first, found = begin.last_hidden_state[:, -1:], []
        for start in range(0, len(others), ROWS):
            some = others[start : start + ROWS]
            longest = max(map(len, some))
            cache = copy.deepcopy(begin.past_key_values)
            cache.batch_repeat_interleave(len(some))
            ids = torch.tensor([[*one, *[0] * (longest - len(one))] for one in some])
            real = torch.arange(longest) < torch.tensor([len(one) for one in some])[:, None]
            mask = torch.cat((torch.ones(len(some), len(stem), dtype=torch.bool), real), 1).long()
            states = model.model(input_ids=ids, attention_mask=mask, past_key_values=cache).last_hidden_state
            states = torch.cat((first.expand(len(some), -1, -1), states[:, :-1]), 1)
            found.append(projected(model, states[real], ids[real]))
    return torch.cat(found)


def call(model: Model, work: Work, side: str) -> Callable[[], Tensor]:
    """One side of a comparison, ready to run: the log-probabilities of all wanted tokens, in order."""
    trees = work.trees()
    if side == "trees":
        lm = model.prepared()
        if work.kind == "pairs":
            return partial(trained, lm.base, lambda: [token_logps(lm, pack(trees, lean=True))])
        return lambda: torch.cat([node for nodes in score_trees(lm, trees, BUDGET) for node in nodes])
    plain, way = model.plain(), {"dense": dense_row, "cache": cached}[side]
    if work.kind == "pairs":
        return partial(trained, plain, lambda: (way(plain, tree) for tree in trees))
    return torch.no_grad()(lambda: torch.cat([way(plain, tree) for tree in trees]))


def trained(model: PreTrainedModel, parts: Callable[[], Iterator[Tensor] | list[Tensor]]) -> Tensor:
    """Log-probabilities part by part, each with its backward pass."""
    found = []
    for logps in parts():
        logps.sum().backward()
        found.append(logps.detach())
    for weight in model.parameters():
        weight.grad = None
    return torch.cat(found)


def distinct(trees: Sequence[TokenTree]) -> int:
    """Tokens that come after different tokens, each counted once, by the rows of all leaves in order of their ids."""
    rows = sorted((*tree.nodes[0].ids, *node.ids) for tree in trees for node in tree.nodes[1:])
    longest = max(map(len, rows))
    alike = (next((n for n in range(longest) if a[n : n + 1] != b[n : n + 1]), len(a)) for a, b in pairwise(rows))
    return sum(map(len, rows)) - sum(alike)


def laid_out(trees: Sequence[TokenTree], budget: int) -> int:
    """Tokens of the rows that the scorer makes of trees."""
    ordered = [trees[index] for index in side_by_side(trees)]
    return sum(len(pack(ordered[row.start : row.stop])) for row in cut(ordered, budget))


def measured(model: Model, work: Work, repeats: int) -> dict[str, str]:
    """A line of the table; raises SystemExit where the sides differ."""
    peers = ["dense", "cache"] if work.kind != "pairs" and work.tokens <= CACHED else ["dense"]
    sides = {side: call(model, work, side) for side in ("trees", *peers)}
    found = {side: way() for side, way in sides.items()}
    times: dict[str, Comparison] = {}
    for side in peers:
        if (gap := float((found[side] - found["trees"]).abs().max())) > AGREEMENT:
            raise SystemExit(f"{work.name}: {side} differs by {gap:.2g} (allowed: {AGREEMENT:.0e})")
        times[side] = compare(sides["trees"], sides[side], repeats, warmup=0)
    memory = {side: f"{peak_bytes(call, model, work, side)[1] / 1e6:,.0f}" for side in sides}
    trees, budget = work.trees(), sys.maxsize if work.kind == "pairs" else BUDGET
    tokens, fewest = laid_out(trees, budget), distinct(trees)
    return {
        "model": model.name,
        "work": work.name,
        "tokens": f"{tokens:,}",
        "packed / distinct": f"{tokens / fewest:.3f}",
        "trees, s": str(times["dense"].ours),
        "dense row / trees": str(times["dense"].ratio),
        "cache / trees": str(times["cache"].ratio) if "cache" in times else "",
        "MB: trees": memory["trees"],
        "dense row": memory["dense"],
        "cache": memory.get("cache", ""),
    }


def main(
    model: Annotated[Path | None, typer.Option(help="Folder of a Transformers model.")] = None,
    size: Annotated[str, typer.Option(help="Width, layers and heads of a random Llama.")] = "256,4,4",
    only: Annotated[str, typer.Option(help="A part of the names of the lines to measure.")] = "",
    longest: Annotated[int, typer.Option(help="Tokens of the longest prompt to measure.")] = 8000,
    repeats: Annotated[int, typer.Option(help="Times that each side runs.")] = 3,
) -> None:
    chosen = Model(model, *map(int, size.split(",")))
    file, known = RESULTS / "growth.json", {}
    if file.exists():
        known = {(row["model"], row["work"]): row for row in json.loads(file.read_text())["rows"]}
    for work in works():
        if only in work.name and work.tokens <= longest:
            known[chosen.name, work.name] = measured(chosen, work, repeats)
            order = [each.name for each in works()]
            rows = sorted(known.values(), key=lambda row: (row["model"], order.index(row["work"])))
            record("growth", "Cost as texts grow, on token trees and by hand; 2 x 4: four of each of two prompts", rows)


if __name__ == "__main__":
    typer.run(main)
