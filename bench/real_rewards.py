"""Rewards on real human judgements, all from one small dialogue model that was trained from scratch.

    python bench/real_rewards.py --model runs/dialogue/model --data data

docs/dialogue-model.md has the recipe of the model. The contestants: follow-up likelihood with the model as it is, and
tuned on what readers wrote about answers; the likelihood of the response; a Bradley-Terry model trained on the training
part of HH-RLHF's preferences; and length. No row that is evaluated was trained on. What is finished is not done again.
"""

import random
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import torch
import typer
from _harness import compare, record
from transformers import LlamaForCausalLM

from uptake import ChatFormat, FollowUpReward, Options, Preference, World, load, methods, read, run
from uptake.benchmarks import Benchmark, Comparison, find, hh, names, open_benchmark
from uptake.errors import InputError
from uptake.evaluate.scoreboard import Scoreboard
from uptake.feedback.classifier import Classifier
from uptake.feedback.contestants import contestant
from uptake.models import LanguageModel
from uptake.report.bench_tables import Entry, spelled, tables
from uptake.tasks.bench import bench
from uptake.tasks.feedback import write_feedback
from uptake.types import Dialogue, Row, Turn

FOLDER = Path("runs/real-rewards")
PREFERENCES = ("hh-helpful-base", "hh-harmless-base")
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
        "rmb_pairwise",
        "topical_chat",
        "uss",
    ),
)
# The set whose first dialogues the plain way scores too, how many of them, and the rows of its forward calls.
TIMED, DIALOGUES, ROWS, REPEATS = "hh_helpful_base", 4, 8, 2


def preferences(data: Path, lm: LanguageModel) -> list[Row]:
    """The training part of HH-RLHF's preferences, as far as they fit the model's window, in an order of their own."""
    chat, window = ChatFormat.of(lm.tokenizer), lm.window or 1 << 30
    found: list[Row] = []
    for item in (item for folder in PREFERENCES for item in hh.part(data / folder, "train")):
        if isinstance(item, Comparison):
            sides = [chat.response_ids(item.prompt.turns, text) for text in item.responses]
            if all(ids and len(prompt) + len(ids) <= window for prompt, ids in sides):
                found.append(Preference(item.prompt, *item.responses))
    random.Random(0).shuffle(found)
    return found


def trained(method: str, options: dict[str, Any], base: Path, rows: list[Row], folder: Path) -> Path:
    """The folder of a model that a method made of the base; used again where it is finished."""
    if not (folder / "model").is_dir():
        policy = load(base)
        world = World(policy, ChatFormat.of(policy.tokenizer), rows, folder=folder)
        run(methods.build(method, options), world, Options(resume=folder.exists(), save_every=0))
    return folder / "model"


def contestants(model: Path, lm: LanguageModel, data: Path) -> dict[str, Any]:
    told = FOLDER / "feedback.jsonl"
    if not told.exists():
        write_feedback(FEEDBACK, data, told)
    tuned = trained("follow_up_tuning", TUNING, model, list(read(told)), FOLDER / "tuned")
    reward_model = trained("reward_model", REWARD_MODEL, model, preferences(data, lm), FOLDER / "reward-model")
    return {
        "follow-up likelihood": contestant("follow_up", model=lm),
        "the same, tuned": FollowUpReward.from_pretrained(tuned),
        "likelihood of the response": contestant("direct", model=lm),
        "reward model": Classifier.from_pretrained(reward_model),
        "length": contestant("length"),
    }


def cell(entry: Entry | None, chance: float | None) -> str:
    """A figure with its interval, marked where the interval lies above chance."""
    if entry is None:
        return ""
    low = entry.estimate.low
    return spelled(entry) + (" *" if chance is not None and low is not None and low > chance else "")


@torch.no_grad()
def plain_rewards(model: LlamaForCausalLM, reward: FollowUpReward, dialogues: Sequence[Dialogue]) -> list[float]:
    """Rewards the plain way: every follow-up in a padded row behind its context, and logits of all positions."""
    found = []
    for turns in dialogues:
        stem, branches = reward.chat.follow_ups(turns, reward.followups.sentences)
        means: list[float] = []
        for start in range(0, len(branches), ROWS):
            some = branches[start : start + ROWS]
            longest = max(map(len, some))
            ids = torch.tensor([[*stem, *one, *[0] * (longest - len(one))] for one in some])
            mask = torch.tensor([[1] * (len(stem) + len(one)) + [0] * (longest - len(one)) for one in some])
            logits = model(input_ids=ids, attention_mask=mask, use_cache=False).logits
            logps = logits[:, :-1].log_softmax(-1).gather(2, ids[:, 1:, None])[..., 0]
            first = len(stem) - 1
            means += [float(row[first : first + len(one)].mean()) for row, one in zip(logps, some, strict=True)]
        found.append(float(reward.combine(torch.tensor([means]), torch.zeros(1, dtype=torch.long)).total))
    return found


def speed(model: Path, lm: LanguageModel, benchmark: Benchmark) -> str:
    """How many times as long the plain way takes for some dialogues of a set, in words."""
    reward, plain = FollowUpReward.from_pretrained(lm), LlamaForCausalLM.from_pretrained(model).eval()
    items = [item for item in benchmark.items if isinstance(item, Comparison)]
    dialogues = [(*item.prompt.turns, Turn("assistant", item.responses[0])) for item in items]
    missing: dict[int, InputError] = {}
    whole = reward.score(dialogues[: 4 * DIALOGUES], unscored=missing).dropped_turns
    # Those that the model's window holds as they are: the plain way leaves out nothing.
    some = [dialogues[place] for place, cut in enumerate(whole) if not cut and place not in missing][:DIALOGUES]
    ours, theirs = reward.score(some).rewards.tolist(), plain_rewards(plain, reward, some)
    difference = max(abs(one - other) for one, other in zip(ours, theirs, strict=True))
    if difference > 1e-4:
        raise SystemExit(f"the plain way differs by {difference:.1e}")
    found = compare(lambda: reward.score(some), lambda: plain_rewards(plain, reward, some), REPEATS, warmup=0)
    return f"{found.ratio} times as long, the same rewards to {difference:.0e}"


def figures(board: Scoreboard, people: Sequence[str]) -> list[dict[str, str]]:
    """The main figures of a scoreboard, one row a benchmark, one column a contestant."""
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
    limit: Annotated[int, typer.Option(help="Items of each benchmark.")] = 150,
) -> None:
    lm = load(model)
    people = contestants(model, lm, data)
    opened = (open_benchmark(name, data) for name in local(data))
    benchmarks = [each for each in opened if isinstance(each, Benchmark)]
    board, timing = bench(people, benchmarks, FOLDER / "bench", limit=limit)
    rows = figures(board, list(people))
    first = next(iter(people))
    above = {row["benchmark"].split(" ")[0].strip(",") for row in rows if row[first].endswith("*")}
    held = [name for name in WITH_FOLLOW_UPS if name in board.benchmarks]
    notes = {
        "sets with real follow-ups where it is above chance": f"{len(above & set(held))} of {len(held)}",
        "share of the time inside the scorers": f"{timing.share:.0%} of {timing.seconds:.0f} s",
        f"the plain way, {DIALOGUES} dialogues of {TIMED}": speed(
            model, lm, next(each for each in benchmarks if each.name == TIMED)
        ),
    }
    rows += [dict.fromkeys(rows[0], "") | {"benchmark": name, first: value} for name, value in notes.items()]
    claim = f"Rewards of a dialogue model from scratch on human judgements, at most {limit} items a set; * above chance"
    record("real_rewards", claim, rows)


def local(data: Path) -> list[str]:
    """The benchmarks whose files are in the data folder."""
    return [name for name in names() if (folder := find(name).FOLDER) is not None and (data / folder).is_dir()]


if __name__ == "__main__":
    typer.run(main)
