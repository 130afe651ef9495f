"""A DPO step that computes its layers once more in the backward pass, against one that keeps what they computed.

    python bench/bench_recompute.py --model SmolLM2-135M-Instruct

Both sides take the same two pairs in one micro-batch, and their losses are equal to the bit. Times are taken in turn,
and memory in a fresh process, above what the model takes. Lines of other models stay in the record.
"""

import random
from collections.abc import Callable
from pathlib import Path
from typing import Annotated

import typer
from _harness import compare, peak_bytes, record, recorded, spread
from _model import llama, tokenizer
from transformers import LlamaForCausalLM

from uptake.losses.pairwise import Logistic
from uptake.models import load, prepare
from uptake.objective import Pairs
from uptake.reference.frozen import FrozenModel
from uptake.types import Pair
from uptake.update import Optimization, build_optimizer, optimizer_step, trainable

PAIRS, PROMPT, RESPONSE = 2, 1024, 512


def step(folder: Path | None, recompute: bool) -> Callable[[], float]:
    """A step of one side, ready to run; the reference is a model of its own."""
    models = [load(folder) if folder else prepare(random_llama(), tokenizer(), "random Llama") for _ in range(2)]
    policy, reference = models
    settings = Optimization(
        lr=1e-6, batch_size=PAIRS, micro_tokens=PAIRS * (PROMPT + 2 * RESPONSE), recompute=recompute
    )
    optimizer = build_optimizer(settings, trainable(policy).values())
    rng = random.Random(0)

    def ids(count: int) -> tuple[int, ...]:
        return tuple(rng.randrange(5, 30_000) for _ in range(count))

    pairs = [Pair(ids(PROMPT), ids(RESPONSE), ids(RESPONSE)) for _ in range(PAIRS)]
    frozen, objective = FrozenModel(reference), Pairs(Logistic(0.1))
    return lambda: optimizer_step(policy, frozen, objective, pairs, optimizer, settings)["loss"]


def random_llama() -> LlamaForCausalLM:
    return llama(256, 704, 4, 4, max_position_embeddings=4096)


def main(model: Annotated[Path | None, typer.Option(help="Folder of a Transformers model.")] = None) -> None:
    again, plain = step(model, True), step(model, False)
    losses = [[side() for _ in range(2)] for side in (again, plain)]
    if losses[0] != losses[1]:
        raise SystemExit(f"the losses differ: {losses}")
    speed = compare(again, plain, repeats=3, warmup=0)
    del again, plain
    once, kept = (peak_bytes(step, model, recompute)[1] / 1e6 for recompute in (True, False))
    ratio = spread([1 / each for each in (speed.ratio.high, speed.ratio.median, speed.ratio.low)])
    named = model.name if model else "random Llama 256 x 4"
    others = [row for row in recorded("recompute") if row["model"] != named]
    rows = [
        {
            "model": named,
            "measure": name,
            "layers computed again": ours,
            "layers kept": theirs,
            "ratio": between,
        }
        for name, ours, theirs, between in (
            ("seconds a step", str(speed.ours), str(speed.peer), str(ratio)),
            ("MB above the models", f"{once:,.0f}", f"{kept:,.0f}", f"{once / kept:.2f}"),
        )
    ]
    claim = f"One DPO step on {PAIRS} pairs of {PROMPT} + 2 x {RESPONSE} tokens in one micro-batch, fp32"
    record("recompute", claim, [*others, *rows])


if __name__ == "__main__":
    typer.run(main)
