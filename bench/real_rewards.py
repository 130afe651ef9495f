"""Rewards on real human judgements, all from one small dialogue model that was trained from scratch.

    python bench/real_rewards.py --model runs/dialogue/model --data data

docs/dialogue-model.md has the recipe of the model. The rewards: follow-up likelihood with the model as it is, and
tuned on what readers wrote about answers; the likelihood of the response; a Bradley-Terry model trained on the training
part of HH-RLHF's preferences; and length. No row that is evaluated was trained on. What is finished is not done again.
"""

import random
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import typer
from _harness import record

from uptake import ChatFormat, FollowUpReward, Options, Preference, World, load, methods, read, run
from uptake.datasets import EVALUATED, Benchmark, folder_of, names, open_benchmarks, read_set
from uptake.evaluate.bench_results import BenchResults
from uptake.judge import reward_spec
from uptake.models import LanguageModel
from uptake.report.bench_tables import Entry, spelled, tables
from uptake.rewards.base import Resources
from uptake.rewards.classifier import Classifier
from uptake.tasks.bench import bench
from uptake.tasks.datasets import write_rows
from uptake.types import Row

FOLDER = Path("runs/real-rewards")
PREFERENCES = ("hh_helpful_base", "hh_harmless_base")
FEEDBACK = ("shepherd", "cut", "feedbackqa")
TRAINING = {"precision": "bf16", "micro_tokens": 4096, "schedule": "cosine", "batch_size": 32}
REWARD_MODEL = {**TRAINING, "lr": 1e-4, "epochs": 1, "weight_decay": 0.01}
TUNING = {**TRAINING, "lr": 2e-4, "epochs": 1}
# Sets of conversations with what their users really said next, in prompts or after the response.
WITH_FOLLOW_UPS = (
    *(
        "convai2",
        "dialogue_eval",
        "hh_harmless_base",
        "hh_helpful_base",
        "oasst",
        "rmb_comparisons",
        "topical_chat",
        "uss",
    ),
)


def preferences(data: Path, lm: LanguageModel) -> list[Row]:
    """The training part of HH-RLHF's preferences, as far as they fit the model's window, in an order of their own."""
    chat, window = ChatFormat.of(lm), lm.window or 1 << 30
    found: list[Row] = []
    for row in (row for name in PREFERENCES for row in read_set(name, "preferences", data)):
        if isinstance(row, Preference):
            sides = [chat.response_ids(row.prompt.turns, text) for text in (row.chosen, row.rejected)]
            if all(ids and len(prompt) + len(ids) <= window for prompt, ids in sides):
                found.append(row)
    random.Random(0).shuffle(found)
    return found


def trained(method: str, options: dict[str, Any], base: Path, rows: list[Row], folder: Path) -> Path:
    """The folder of a model that a method made of the base; used again where it is finished."""
    if not (folder / "model").is_dir():
        policy = load(base)
        world = World(policy, ChatFormat.of(policy), rows, folder=folder)
        run(methods.build(method, options), world, Options(resume=folder.exists(), save_every=0))
    return folder / "model"


def scorers(model: Path, lm: LanguageModel, data: Path) -> dict[str, Any]:
    told = FOLDER / "feedback.jsonl"
    if not told.exists():
        write_rows(FEEDBACK, "feedback", data, told)
    tuned = trained("follow_up_tuning", TUNING, model, list(read(told)), FOLDER / "tuned")
    reward_model = trained("reward_model", REWARD_MODEL, model, preferences(data, lm), FOLDER / "reward-model")
    at_hand = Resources({"follow_up": lm, "judge": lm})
    return {
        "follow-up likelihood": reward_spec("follow_up").build(at_hand),
        "the same, tuned": FollowUpReward.from_pretrained(tuned),
        "likelihood of the response": reward_spec("direct").build(at_hand),
        "reward model": Classifier.from_pretrained(reward_model),
        "length": reward_spec("length").build(at_hand),
    }


def cell(entry: Entry | None, chance: float | None) -> str:
    """A figure with its interval, marked where the interval lies above chance."""
    if entry is None:
        return ""
    low = entry.estimate.low
    return spelled(entry) + (" *" if chance is not None and low is not None and low > chance else "")


def figures(board: BenchResults, people: Sequence[str]) -> list[dict[str, str]]:
    """The main figures of a bench, one row a benchmark, one column a reward."""
    return [
        {"benchmark": f"{row.label} ({table.title.lower()})"}
        | {who: cell(entry, table.scale.chance) for who, entry in zip(people, row.entries, strict=True)}
        for table in tables(board)
        if table.main
        for row in table.rows
    ]


def main(
    model: Annotated[Path, typer.Option(help="Folder of the dialogue model.")],
    data: Annotated[Path, typer.Option(help="Folder of the data sets.")],
    limit: Annotated[int, typer.Option(help="Items of each benchmark.")] = 100,
) -> None:
    lm = load(model)
    people = scorers(model, lm, data)
    here = (name for name in names(*EVALUATED) if folder_of(name, data) is not None)
    benchmarks = [each for name in here for each in open_benchmarks(name, data) if isinstance(each, Benchmark)]
    board, timing = bench(people, benchmarks, FOLDER / "bench", limit=limit)
    rows = figures(board, list(people))
    first = next(iter(people))
    above = {row["benchmark"].split(" ")[0].strip(",") for row in rows if row[first].endswith("*")}
    held = [name for name in WITH_FOLLOW_UPS if name in board.benchmarks]
    notes = {
        "sets with real follow-ups where it is above chance": f"{len(above & set(held))} of {len(held)}",
        "share of the time inside the scorers": f"{timing.share:.0%} of {timing.seconds:.0f} s",
    }
    rows += [dict.fromkeys(rows[0], "") | {"benchmark": name, first: value} for name, value in notes.items()]
    claim = f"Rewards of a dialogue model from scratch on human judgements, at most {limit} items a set; * above chance"
    record("real_rewards", claim, rows)


if __name__ == "__main__":
    typer.run(main)
