"""What `uptake check --measure` tells against what `uptake train` then takes: the peak memory of a step, and minutes.

    python bench/check.py --model smollm2 --only "LoRA"

Three sizes: the model of the town, and an instruct model (docs/real-models.md has one) by an adapter and by all of
its weights, on short pairs of people; then the same model under PPO. Each side works in a process of its own, check
first. Its peak is told before a step is taken, and is held against the highest that the run reaches. A process holds
hundreds of MB before it begins, so both are also compared above what it held with models loaded. Minutes are
those of the optimizer steps, by one that was measured; of PPO, of sampling and judging, too.
Last, a call of `uptake score`: what its tokens are taken to need where its size is chosen, and what they take.
Lines of earlier runs stay in the record until measured again.
"""

import json
from collections.abc import Callable, Mapping
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field, replace
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated, Any

import torch
import typer
from _harness import RESULTS, peak_bytes, record
from transformers import AutoConfig, AutoModelForCausalLM

from uptake import load
from uptake.methods.town_model import init_town_model
from uptake.models import branches, save_model, score_trees
from uptake.models.language_model import Limits
from uptake.models.memory import token_bytes
from uptake.report import write_report
from uptake.support.memory import held_memory
from uptake.tasks.check import check
from uptake.tasks.memory_need import memory_size
from uptake.tasks.run_config import RunConfig, recipe_of, with_models
from uptake.tasks.train import build_world
from uptake.train import loop

PAIRS = Path(__file__).parent.parent / "examples" / "human_pairs.jsonl"
TOWN = "the town's model"
MIB = 2**20
CALL = 2048  # tokens of the call that is scored
CLAIM = "Peak memory and minutes of a run, as `uptake check --measure` tells them and as they are"
SCORED = f"score, a call of {CALL:,} tokens"


@dataclass(frozen=True)
class Run:
    """A run whose cost is told and taken."""

    name: str
    method: str
    town: bool = False
    lora: int = 0
    rows: int = 16
    options: Mapping[str, Any] = field(default_factory=dict)

    def config(self, model: Path, folder: Path) -> RunConfig:
        """The config of a run in a folder, where its rows, and the town's model, are made."""
        data, policy = folder / "pairs.jsonl", folder / "town" if self.town else model
        data.write_text("".join(PAIRS.read_text().splitlines(keepends=True)[: self.rows]))
        if self.town:
            save_model(init_town_model(), "", policy)
        config = RunConfig(
            method=self.method, policy=str(policy), data=str(data), lora=self.lora, options=dict(self.options)
        )
        return with_models(config, recipe_of(config))


PAIRWISE = {"batch_size": 8, "micro_tokens": 512}
SAMPLED = {
    "n": 2,
    "prompts": 4,
    "rounds": 2,
    "epochs": 1,
    "max_new_tokens": 48,
    "reward": "length",
    "micro_tokens": 512,
}
RUNS = [
    Run(f"DPO, {TOWN}", "dpo", town=True, options=PAIRWISE),
    Run("DPO, LoRA of rank 16", "dpo", lora=16, options=PAIRWISE),
    Run("DPO, all weights", "dpo", options=PAIRWISE),
    Run("PPO, LoRA of rank 16, shared critic", "ppo", lora=16, rows=4, options={**SAMPLED, "critic": "shared"}),
]


def told(run: Run, model: Path, minutes: bool) -> tuple[int, int, float | None]:
    """Bytes at the peak of a step and those held before, as `check` tells them, and where asked the run's minutes."""
    with TemporaryDirectory() as folder:
        config = run.config(model, Path(folder))
        recipe = recipe_of(config)
        world = build_world(recipe, config, folder)
        held = held_memory()
        facts = dict(check(recipe, world, measure=minutes).facts)
    _, *peak = facts["memory of a step"].split(",")[0].split()
    return memory_size("".join(peak)), held, float(facts["time"].split()[1]) if minutes else None


def learned(run: Run, model: Path, folder: Path) -> Callable[[], object]:
    config = run.config(model, folder)
    recipe = recipe_of(config)
    world = build_world(recipe, config, folder / "run")
    return lambda: loop.run(recipe, world, loop.Options(report=write_report))


def measured(run: Run, model: Path, timed: bool) -> dict[str, str]:
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        peak, held, minutes = pool.submit(told, run, model, timed).result()
    with TemporaryDirectory() as folder:
        taken, above = peak_bytes(learned, run, model, Path(folder))
        lines = Path(folder, "run", "timing.jsonl").read_text().splitlines()
    seconds = sum(json.loads(line)["seconds"] for line in lines)
    return {
        "run": run.name,
        "told, MiB": f"{peak / MIB:,.0f}",
        "taken, MiB": f"{taken / MIB:,.0f}",
        "told / taken": f"{peak / taken:.2f}",
        "above the models, told / taken": f"{(peak - held) / above:.2f}",
        "minutes, told / taken": "" if minutes is None else f"{60 * minutes / seconds:.2f}",
    }


def scored(model: Path) -> Callable[[], object]:
    lm = replace(load(model, device="cpu", dtype="float32"), limits=Limits(CALL, CALL))
    asked = [range(first, first + 10) for first in range(38)]
    trees = [branches(range(start, start + 128), *asked) for start in range(1000, 5000, 1000)]
    return lambda: score_trees(lm, trees, CALL)


def scored_line(model: Path) -> dict[str, str]:
    taken, above = peak_bytes(scored, model)
    with torch.device("meta"):
        size, _ = token_bytes(AutoModelForCausalLM.from_config(AutoConfig.from_pretrained(model)))
    held = taken - above
    return {
        "run": SCORED,
        "told, MiB": f"{(held + CALL * size) / MIB:,.0f}",
        "taken, MiB": f"{taken / MIB:,.0f}",
        "told / taken": f"{(held + CALL * size) / taken:.2f}",
        "above the models, told / taken": f"{CALL * size / above:.2f}",
        "minutes, told / taken": "",
    }


def main(
    model: Annotated[Path, typer.Option(help="Folder of an instruct model.")],
    only: Annotated[str, typer.Option(help="A part of the names of the lines to measure.")] = "",
    minutes: Annotated[bool, typer.Option(help="Measure time, too, which wants a machine without other work.")] = True,
) -> None:
    lines = {run.name: partial(measured, run, timed=minutes) for run in RUNS} | {SCORED: scored_line}
    for name, line in lines.items():
        if only in name:
            found, file = line(model), RESULTS / "check.json"
            rows = json.loads(file.read_text())["rows"] if file.exists() else []
            known = {row["run"]: row for row in [*rows, found]}
            record("check", CLAIM, [known[name] for name in lines if name in known])


if __name__ == "__main__":
    typer.run(main)
