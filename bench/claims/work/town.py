"""What work in the town shares: one starting policy, its questions, and pairs of right and faulty answers."""

import json
import random
from collections.abc import Callable, Iterable, Mapping, Sequence
from hashlib import sha256
from pathlib import Path
from statistics import fmean
from typing import Any

from filelock import FileLock

from claims.claim import Questions
from claims.store import folder, version
from uptake import ChatFormat, Options, Preference, Prompt, World, load, run
from uptake.recipe import Recipe
from uptake.tasks.demo import DemoSettings, learn_town
from uptake.town import Question, Town
from uptake.types import Row

# Questions to learn from, to reach verdicts on, and to choose rates on: none is in two of them.
TRAINED, HELD_OUT, DEVELOPMENT = 432, 144, 48

Learn = Mapping[str, Any]


def once(what: Sequence[object], make: Callable[[Path], object]) -> Path:
    """The folder of a model that several arms share, trained by whoever comes first; others wait for it."""
    name = sha256(json.dumps([*what, version()], sort_keys=True).encode()).hexdigest()[:12]
    target = folder() / "models" / name
    target.mkdir(parents=True, exist_ok=True)
    with FileLock(target / "lock"):
        if not (target / "run" / "model").is_dir():
            make(target / "run")
    return target / "run" / "model"


def start(learn: Learn) -> Path:
    """The town model that runs begin with; `learn` are changes to how it learns."""
    settings = DemoSettings(learn={**DemoSettings().learn, **learn})
    what = "start", dict(settings.learn), settings.seed
    return once(what, lambda target: learn_town(target, settings, resume=True))


def train(recipe: Recipe, base: Path, rows: Sequence[Row], target: Path, seed: int) -> None:
    """Train a model of the town by a recipe; what was begun in the folder goes on."""
    lm = load(base)
    world = World(lm, ChatFormat.of(lm), rows, folder=target, seed=seed)
    run(recipe, world, Options(resume=target.exists(), save_every=0))


def trained_on() -> list[Question]:
    """The questions that methods learn from."""
    return list(Town().questions(TRAINED, 0, "train"))


def tested_on(questions: Questions) -> list[Question]:
    """The questions that nothing is trained on: those for choosing rates, or those for verdicts."""
    if questions == "development":
        return list(Town().questions(DEVELOPMENT, 0, "development"))
    return list(Town().questions(HELD_OUT, 0, "heldout"))


def name(prompt: Prompt) -> str:
    """A question's name in results."""
    return prompt.turns[-1].content


def by_question(values: Iterable[tuple[str, float]]) -> dict[str, float]:
    """The mean of the values of every question."""
    found: dict[str, list[float]] = {}
    for question, value in values:
        found.setdefault(question, []).append(float(value))
    return {question: fmean(each) for question, each in found.items()}


def preferences(questions: Sequence[Question], count: int, seed: int) -> list[Preference]:
    """Right answers over faulty ones, questions in turn and faults alike, another draw for every seed."""
    town, rng = Town(), random.Random(f"preferences {seed}")
    order = rng.sample(questions, len(questions))
    rows = []
    for number in range(count):
        question = order[number % len(order)]
        fault = rng.choice(town.faults(question))
        rows.append(Preference(question.prompt, town.answer(question, None, rng), town.answer(question, fault, rng)))
    return rows
