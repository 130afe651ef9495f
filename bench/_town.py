"""What experiments in the town share: one starting policy, runs that are kept on disk, and intervals over seeds.

Every run starts from the same model of the town; seeds differ in what is sampled, in the order of the questions and in
the offline data. A run that is on disk is not done again, so an experiment that was stopped goes on.
"""

import json
import os
import random
from collections.abc import Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from functools import cache
from hashlib import sha256
from math import sqrt
from multiprocessing import get_context
from pathlib import Path
from statistics import fmean, stdev
from typing import Any

import torch
from scipy.stats import t as student

from uptake import ChatFormat, Options, Preference, Prompt, Turn, World, load, methods, run
from uptake.data.write import replacing
from uptake.models import LanguageModel
from uptake.rollout import PolicySamples
from uptake.support.progress import progress_bar
from uptake.tasks.demo import DemoSettings, learn_town
from uptake.town import Town
from uptake.types import Row

FOLDER = Path("runs/experiments")
SEEDS = range(5)
HELD_OUT = 144
ANSWER = PolicySamples(n=1, temperature=1.0, top_p=1.0, max_new_tokens=48)


@dataclass(frozen=True)
class Interval:
    """Mean over seeds with its 95 % interval (Student's t): `Interval(0.91, 0.89, 0.93)`."""

    mean: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.mean:.3f} [{self.low:.3f}, {self.high:.3f}]"

    def above(self, other: "Interval") -> bool:
        """Whether the two intervals do not overlap, this one on top."""
        return self.low > other.high


@dataclass(frozen=True)
class Arm:
    """One side of an experiment: a method with options, on `questions` or on pairs that a function makes of a seed."""

    name: str
    method: str
    options: Mapping[str, Any]
    data: str = "questions"


def interval(values: Sequence[float]) -> Interval:
    mean = fmean(values)
    half = float(student.ppf(0.975, len(values) - 1)) * stdev(values) / sqrt(len(values))
    return Interval(mean, mean - half, mean + half)


def questions(count: int = 432) -> list[Row]:
    return [question.prompt for question in Town().questions(count, 0, "train")]


@cache
def held_out() -> tuple[Prompt, ...]:
    return tuple(question.prompt for question in Town().questions(HELD_OUT, 0, "heldout"))


@cache
def starting_model(**learn: Any) -> Path:
    """The folder of the model that every run starts from; it is trained once, in some minutes, with other settings."""
    folder = FOLDER / "-".join(("town-model", *(f"{name}-{value}" for name, value in sorted(learn.items()))))
    learn_town(folder, DemoSettings(learn=learn), resume=True)
    return folder / "model"


def workers() -> int:
    """How many runs go on at once: one a core, or fewer with `OMP_NUM_THREADS`."""
    return max(1, (os.cpu_count() or 2) // int(os.environ.get("OMP_NUM_THREADS", "1")))


def figures(policy: LanguageModel, seed: int = 0, answers: int = 1) -> dict[str, float]:
    """Quality of the policy's answers to held-out questions in the oracle's eyes, and their mean length in words."""
    town, produce = Town(), replace(ANSWER, n=answers)
    rollouts = produce.of(policy, held_out(), ChatFormat.of(policy), seed, version=0)
    said = [each.response.strip() or "..." for each in rollouts]
    qualities = [
        town.quality((*each.prompt.turns, Turn("assistant", text))).overall
        for each, text in zip(rollouts, said, strict=True)
    ]
    return {"quality": fmean(qualities), "words": fmean(len(text.split()) for text in said)}


def run_arms(
    experiment: str,
    arms: Sequence[Arm],
    data: Mapping[str, Any],
    every: int,
    seeds: Sequence[int] = SEEDS,
    answers: int = 1,
) -> dict[str, list[list[dict[str, float]]]]:
    """The curve of every arm and seed: figures at step 0, after every `every` steps, and at the end.

    Figures are of `answers` answers to every question; the last point has the drift, where it is known.
    `data` maps the name of an arm's data to a function of (seed) that returns rows; a function at a script's top level,
    since runs are spread over processes.
    """
    starting_model()
    jobs = [(arm, data[arm.data], seed, every, answers) for arm in arms for seed in seeds]
    with (
        ProcessPoolExecutor(workers(), mp_context=get_context("spawn")) as pool,
        progress_bar(experiment, len(jobs)) as bar,
    ):
        curves: dict[str, list[list[dict[str, float]]]] = {arm.name: [] for arm in arms}
        for (arm, *_), curve in zip(jobs, pool.map(_curve, *zip(*jobs, strict=True)), strict=True):
            curves[arm.name].append(curve)
            bar.advance()
    return curves


def _curve(arm: Arm, data: Any, seed: int, every: int, answers: int) -> list[dict[str, float]]:
    settings = [arm.method, arm.options, arm.data, seed, every, answers]
    key = sha256(json.dumps(settings, sort_keys=True).encode()).hexdigest()[:12]
    kept = FOLDER / "runs" / f"{key}.json"
    if kept.exists():
        found: list[dict[str, float]] = json.loads(kept.read_text())
        return found
    torch.set_num_threads(1)
    policy = load(starting_model())
    folder = FOLDER / "runs" / key
    world = World(policy, ChatFormat.of(policy), data(seed), folder=folder, seed=seed)
    options = Options(
        title=arm.name,
        resume=folder.exists(),
        save_every=0,
        observe=lambda world, step: figures(world.policy, seed, answers),
        observe_every=every,
    )
    run(methods.build(arm.method, arm.options), world, options)
    curve, metrics = (
        [json.loads(line) for line in (folder / f"{name}.jsonl").read_text().splitlines()]
        for name in ("curve", "metrics")
    )
    curve[-1]["kl"] = metrics[-1].get("kl", 0.0)
    with replacing(kept, overwrite=True) as partial:
        partial.write_text(json.dumps(curve))
    return curve


def last(curves: Sequence[Sequence[Mapping[str, float]]], name: str = "quality") -> Interval:
    """A figure at the end of every seed's curve."""
    return interval([curve[-1][name] for curve in curves])


def at(curves: Sequence[Sequence[Mapping[str, float]]], step: int, name: str = "quality") -> Interval:
    """A figure of every seed's curve at a step."""
    return interval([next(point[name] for point in curve if point["step"] == step) for curve in curves])


def preferences(count: int, split: str, questions: int, seed: int) -> list[Preference]:
    """Right answers over faulty ones, all questions and faults alike."""
    town, rng = Town(), random.Random(seed)
    asked = town.questions(questions, 0, "heldout" if split == "heldout" else "train")
    cases = rng.sample([(question, fault) for question in asked for fault in town.faults(question)], count)
    return [
        Preference(question.prompt, town.answer(question, None, rng), town.answer(question, fault, rng))
        for question, fault in cases
    ]
