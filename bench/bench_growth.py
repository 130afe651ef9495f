"""Cost as texts grow: follow-ups after longer contexts, pairs of longer prompts, prompts with several responses.

    python bench/bench_growth.py --longest 2048
    python bench/bench_growth.py --model SmolLM2-135M-Instruct --only "pairs, 2 x 4"

Beside the trees stand two of the ways that one writes by hand (_peers.py): a dense row for each tree, which shares
nothing between trees, and the key-value cache of a context.

Pairs are trained: forward and backward pass of all log-probabilities, a pair at a time by hand. Times are taken in
turn, and memory in a fresh process, above what the model takes. All sides have their products computed by the same
library. The model is a random Llama unless a folder is given, whose name then names its lines. Lines of earlier runs
stay in the record until measured again. The picture in docs/images is drawn by a full run of the default model, and of
another model on request.
"""

import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Annotated

import torch
import typer
from _growth_picture import draw
from _harness import RESULTS, Comparison, compare, peak_bytes, record, recorded
from _model import llama, tokenizer
from _peers import cached, dense_row
from _works import Work, works
from torch import Tensor
from transformers import AutoModelForCausalLM, PreTrainedModel

from uptake.models import LanguageModel, TokenTree, load, pack, prepare, score_trees, token_logps
from uptake.models.packing import cut, side_by_side

BUDGET = 8192
SIZE, LONGEST = "512,8,8", 8000  # what the page shows
CACHED = 2048  # tokens of the longest context whose expanded cache is measured
AGREEMENT = 1e-4  # largest accepted difference of a token's log-probability between the sides


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
    size: Annotated[str, typer.Option(help="Width, layers and heads of a random Llama.")] = SIZE,
    only: Annotated[str, typer.Option(help="A part of the names of the lines to measure.")] = "",
    longest: Annotated[int, typer.Option(help="Tokens of the longest prompt to measure.")] = LONGEST,
    repeats: Annotated[int, typer.Option(help="Times that each side runs.")] = 3,
    picture: Annotated[bool, typer.Option("--picture", help="Draw this model's lines.")] = False,
) -> None:
    chosen = Model(model, *map(int, size.split(",")))
    known = {(row["model"], row["work"]): row for row in recorded("growth")}
    order = [each.name for each in works()]
    for work in works():
        if only in work.name and work.tokens <= longest:
            known[chosen.name, work.name] = measured(chosen, work, repeats)
            rows = sorted(known.values(), key=lambda row: (row["model"], order.index(row["work"])))
            record("growth", "Cost as texts grow, on token trees and by hand; 2 x 4: four of each of two prompts", rows)
    if picture or (model is None and size == SIZE and not only and longest >= LONGEST):
        draw([*known.values()], chosen.name, RESULTS.parents[1] / "docs" / "images" / "growth.svg")


if __name__ == "__main__":
    typer.run(main)
