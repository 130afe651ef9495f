"""Feedback tuning in the town: does a model that knows little of what users say rate answers better for being told?

    python bench/town_feedback.py

The starting model has seen a third of the usual conversations, with one user each. It is tuned on what users say to
answers to training questions, in the plain format and with swapped roles, and on the same lines in another order, which
tell nothing about the answers. Pairs are right and faulty answers to held-out questions; the follow-ups that rate them
are sentences that no user says. Seeds differ in the conversations; the pairs are the same. About five minutes on one
core; results are kept on disk, so an experiment that was stopped goes on.
"""

import json
import random
import shutil
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import cache
from pathlib import Path
from statistics import fmean
from typing import Any

from _harness import record
from _town import FOLDER, SEEDS, Interval, interval

from uptake import ChatFormat, Prompt, Turn, World, load, methods, run
from uptake.data.role_swap import FollowUpFormat
from uptake.data.write import replacing
from uptake.follow_up.reward import FollowUpReward
from uptake.models import LanguageModel
from uptake.support.keys import prompt_key
from uptake.support.progress import progress_bar
from uptake.tasks.demo import DemoSettings, learn_town, scorer_accuracy, town_followups
from uptake.tasks.perplexity import perplexity
from uptake.town import Town
from uptake.types import Split

ROWS, HELD_OUT_ROWS = 4096, 512
QUESTIONS: dict[Split, int] = {"train": 432, "heldout": 144}
SETTINGS = DemoSettings(pairs_per_axis=40, learn={"rounds": 4, "users": 1})
# Words that the town knows.
REQUEST = "please tell me what you think of my words."
PLAIN, SWAPPED = FollowUpFormat(), FollowUpFormat("role_swap", request=REQUEST)
# The accuracy that tuning is to gain.
GAIN = 0.03

Rows = list[Prompt]


def told(seed: int) -> Rows:
    return reactions("train", ROWS, seed)


def shuffled(seed: int) -> Rows:
    """The same conversations, each with the last line of another one."""
    rows = told(seed)
    lines = random.Random(seed).sample([row.turns[-1] for row in rows], len(rows))
    return [replace(row, turns=(*row.turns[:-1], line)) for row, line in zip(rows, lines, strict=True)]


ARMS: dict[str, tuple[FollowUpFormat, Callable[[int], Rows]]] = {
    "tuned, plain format": (PLAIN, told),
    "tuned, swapped roles": (SWAPPED, told),
    "tuned on shuffled lines, plain format": (PLAIN, shuffled),
}


def reactions(split: Split, count: int, seed: int) -> Rows:
    """What users say to answers, half of them faulty, all questions and faults alike."""
    town, rng = Town(), random.Random(f"{split} {seed}")
    asked = town.questions(QUESTIONS[split], 0, split)
    rows = []
    for _ in range(count):
        question = rng.choice(asked)
        fault = rng.choice(town.faults(question)) if rng.random() < 0.5 else None
        turns = (*question.prompt.turns, Turn("assistant", town.answer(question, fault, rng)))
        turns = (*turns, Turn("user", town.react(turns, rng)))
        rows.append(Prompt(turns, prompt_key(turns), extra={"polarity": "negative" if fault else "positive"}))
    return rows


@cache
def starting_model() -> Path:
    folder = FOLDER / "town-young"
    learn_town(folder, SETTINGS, resume=True)
    return folder / "model"


def figures(lm: LanguageModel, format: FollowUpFormat) -> dict[str, Any]:
    """Pair accuracy on held-out questions, and perplexity of what users say there by polarity."""
    accuracy, _ = scorer_accuracy(FollowUpReward(lm, town_followups(), format=format), Town(), SETTINGS)
    said = perplexity(lm, reactions("heldout", HELD_OUT_ROWS, 0), format=format)
    return {
        "accuracy": accuracy.plain.rate,
        "pairs": accuracy.plain.n,
        "perplexity": {polarity: each.value for polarity, each in said.items()},
    }


def tuned(name: str, seed: int) -> dict[str, Any]:
    """The figures of one run, from disk where it is done."""
    kept = FOLDER / "feedback" / f"{name}, seed {seed}.json"
    if kept.exists():
        found: dict[str, Any] = json.loads(kept.read_text())
        return found
    format, rows = ARMS[name]
    policy, folder = load(starting_model()), kept.with_suffix("")
    shutil.rmtree(folder, ignore_errors=True)
    options = {"format": format.format, "request": format.request, "lr": 2e-3, "batch_size": 64}
    world = World(policy, ChatFormat.of(policy), rows(seed), folder=folder, seed=seed)
    run(methods.build("follow_up_tuning", options), world)
    found = figures(load(folder / "model"), format)
    with replacing(kept, overwrite=True) as partial:
        partial.write_text(json.dumps(found))
    return found


def row(name: str, runs: Sequence[dict[str, Any]], before: dict[str, Any] | None = None) -> dict[str, object]:
    """One line of the table: means over seeds with their intervals, against the model before."""
    said = [f"{fmean(run['perplexity'][each] for run in runs):.2f}" for each in ("positive", "negative")]
    shares = [run["accuracy"] for run in runs]
    line: dict[str, object] = {"model": name, "pair accuracy": f"{shares[0]:.3f}", "gain": "", "gains 3 points": ""}
    if before is not None:
        gain = interval([share - before["accuracy"] for share in shares])
        line |= {"pair accuracy": interval(shares), "gain": gain, "gains 3 points": verdict(gain)}
    return line | {"perplexity of praise, blame": ", ".join(said)}


def verdict(gain: Interval) -> str:
    return "yes" if gain.low >= GAIN else "no" if gain.high < GAIN else "not for sure"


def main() -> None:
    before = {format: figures(load(starting_model()), format) for format in (PLAIN, SWAPPED)}
    runs: dict[str, list[dict[str, Any]]] = {name: [] for name in ARMS}
    with progress_bar("tune", len(ARMS) * len(SEEDS)) as bar:
        for seed in SEEDS:
            for name, done in runs.items():
                done.append(tuned(name, seed))
                bar.advance()
    table = [row("before, plain format", [before[PLAIN]]), row("before, swapped roles", [before[SWAPPED]])]
    table += [row(name, runs[name], before[format]) for name, (format, _) in ARMS.items()]
    pairs = before[PLAIN]["pairs"]
    claim = (
        f"Feedback tuning in the town: {ROWS} lines, {pairs} pairs, means over {len(SEEDS)} seeds with 95 % intervals"
    )
    record("town_feedback", claim, table)


if __name__ == "__main__":
    main()
