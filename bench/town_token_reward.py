"""Does a token reward model find the faulty words of the town's answers, and a sequence reward model of equal rank not?

    python bench/town_token_reward.py

Both start from the same model of the town and learn from the same faulty answers with the oracle's minimal edits,
another draw for every seed. The oracle also says which words are faulty: these a model is to give the lowest rewards,
in answers to held-out questions. Answers of which more than half of the words must change are left out, since they say
nothing about places.
"""

import json
import random
from collections.abc import Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from functools import cache
from hashlib import sha256
from multiprocessing import get_context
from statistics import fmean
from typing import Any

from _harness import record
from _tokens import Arm, figures, one_thread
from _town import FOLDER, HELD_OUT, SEEDS, Interval, interval, starting_model, workers

from uptake import ChatFormat, Turn, World, load
from uptake.datasets.items import minimal
from uptake.support.progress import progress_bar
from uptake.town import AXES, FAULTS, Town
from uptake.types import Edited, Span

TRAINED, TEST, QUESTIONS = 7000, 400, 432
FOUND, ABOVE = 0.9, 0.95
# More and smaller steps than the demonstration's model took: what it does not know of the town, no edit shows it.
LEARN: Mapping[str, Any] = {"batch_size": 16, "lr": 3e-3}
TRAINING: Mapping[str, Any] = {"lr": 1e-3, "batch_size": 16, "epochs": 2, "weight_decay": 0.01, "warmup": 0.1}
# Labels from the start of an answer, as the oracle's are: a model that reads word by word can know no others.
LABELED = {**TRAINING, "from_start": True}
ARMS = (
    Arm("token rewards", "token_reward_model", LABELED),
    Arm("token rewards, labels shuffled", "token_reward_model", LABELED, shuffle=True),
    Arm("sequence reward, steps of its head", "reward_model", TRAINING),
)


def edits(count: int, split: str, questions: int, seed: int, spans: bool = False) -> list[Edited]:
    """Faulty answers with the oracle's edits, all questions and faults alike; with `spans`, its faulty words."""
    town, rng = Town(), random.Random(seed)
    asked = town.questions(questions, 0, "heldout" if split == "heldout" else "train")
    cases = [(question, fault) for question in asked for fault in town.faults(question)]
    rows: list[Edited] = []
    while len(rows) < count:
        question, fault = rng.choice(cases)
        said = town.answer(question, fault, rng)
        dialogue = (*question.prompt.turns, Turn("assistant", said))
        edit = town.minimal_edit(dialogue)
        if minimal(said, edit):
            marks = town.faulty_words(dialogue) if spans else ()
            found = tuple(Span(each.start, each.stop, -1.0, fault.name) for each in marks)
            rows.append(Edited(question.prompt, said, edit, found if spans else None))
    return rows


@cache
def training_edits(seed: int) -> list[Edited]:
    """The same for all arms of a seed."""
    return edits(TRAINED, "train", QUESTIONS, seed)


def measure(arm: Arm, seed: int, tests: Mapping[str, Sequence[Edited]]) -> dict[str, Any]:
    policy = load(starting_model(**LEARN))
    settings = sha256(json.dumps([arm.options, LEARN, TRAINED, QUESTIONS], sort_keys=True).encode()).hexdigest()[:8]
    folder = FOLDER / "token-rewards" / f"{arm.name.replace(' ', '-')}-{seed}-{settings}"
    world = World(policy, ChatFormat.of(policy), folder=folder, seed=seed)
    return figures(arm, world, training_edits(seed), tests)


def main() -> None:
    starting_model(**LEARN)
    test = edits(TEST, "heldout", HELD_OUT, seed=0, spans=True)
    lacking = [row for row in test if all(span.start == span.end for span in row.spans or ())]
    axis = {fault.name: fault.axis for fault in FAULTS}
    by_axis: dict[str, Sequence[Edited]] = {
        name: [row for row in test if axis[(row.spans or ())[0].kind] == name] for name in AXES
    }
    tests: dict[str, Sequence[Edited]] = {"all": test, "omissions": lacking, **by_axis}
    jobs = [(arm, seed, tests) for seed in SEEDS for arm in ARMS]
    found: dict[str, list[dict[str, Any]]] = {arm.name: [] for arm in ARMS}
    with (
        ProcessPoolExecutor(workers(), mp_context=get_context("spawn"), initializer=one_thread) as pool,
        progress_bar("token rewards", len(jobs)) as bar,
    ):
        for (arm, *_), of_seed in zip(jobs, pool.map(measure, *zip(*jobs, strict=True)), strict=True):
            found[arm.name].append(of_seed)
            bar.advance()
    rows = [_row(name, runs) for name, runs in found.items()]
    first = found[ARMS[0].name]
    holds = _mean(first, "top1").low >= FOUND and _mean(first, "auroc").low >= ABOVE
    chance = fmean(run["all"]["top1_chance"] for run in first)
    q = fmean(run["summary"]["q"] for run in first)
    claim = (
        f"Faulty words in the town: {len(test)} answers to held-out questions, {len(lacking)} of them only lack words; "
        f"a word at random hits {chance:.3f}; q is {q:.3f}; top-1 at least {FOUND} and AUROC at least {ABOVE}: "
        f"{'yes' if holds else 'no'}"
    )
    record("town_token_reward", claim, rows)
    axes = [{"axis": name, "answers": len(by_axis[name]), **_by_arm(found, name)} for name in AXES]
    record("town_token_reward_by_axis", "The same by what is wrong with the answer: top-1", axes)


def _mean(runs: Sequence[dict[str, Any]], name: str, test: str = "all") -> Interval:
    values = [run[test][name] for run in runs]
    return interval([value["rate"] if isinstance(value, dict) else value for value in values])


def _by_arm(found: Mapping[str, Sequence[dict[str, Any]]], test: str) -> dict[str, str]:
    return {name: str(_mean(runs, "top1", test)) for name, runs in found.items()}


def _row(name: str, runs: Sequence[dict[str, Any]]) -> dict[str, str]:
    return {
        "reward": name,
        "top-1": str(_mean(runs, "top1")),
        "AUROC": str(_mean(runs, "auroc")),
        "average precision": str(_mean(runs, "average_precision")),
        "top-1, omissions": str(_mean(runs, "top1", "omissions")),
        "pairs by sum": str(_mean(runs, "pair_sum")),
        "pairs by mean": str(_mean(runs, "pair_mean")),
        "reward of good words": str(_mean(runs, "good_reward")),
    }


if __name__ == "__main__":
    main()
