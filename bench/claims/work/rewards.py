"""Rewards: how often each ranks a right answer above a faulty one, and what calibration and tuning change."""

import random
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np

from claims.claim import Measured, Options, Trial
from claims.work.runs import spent
from claims.work.town import by_question, name, once, preferences, start, tested_on, train, trained_on
from uptake import Prompt, Turn, load, methods
from uptake.data.role_swap import FollowUpFormat
from uptake.follow_up.reward import FollowUpReward
from uptake.rewards.base import Reward
from uptake.rewards.classifier import Classifier
from uptake.rewards.length import Length
from uptake.rewards.likelihood import DirectLikelihood
from uptake.support.keys import prompt_key
from uptake.tasks.demo import town_followups
from uptake.town import Question, Town

Made = tuple[Reward, dict[str, int]]


def ranking(options: Options, trial: Trial) -> Measured:
    """The share of `pairs` of held-out answers that a reward ranks as the oracle does ("accuracy")."""
    reward, budget = REWARDS[options["reward"]](options, trial)
    rows = preferences(tested_on(trial.questions), options["pairs"], trial.seed)
    sides = [(*row.prompt.turns, Turn("assistant", text)) for row in rows for text in (row.chosen, row.rejected)]
    scores = [each.score for each in reward.rate(sides)]
    right = [points(one - other) for one, other in zip(scores[::2], scores[1::2], strict=True)]
    return Measured({"accuracy": by_question(zip((name(row.prompt) for row in rows), right, strict=True))}, budget)


def points(difference: float) -> float:
    """1 for the right order, a half for a tie."""
    return float(np.sign(difference)) / 2 + 0.5


def _follow_up(options: Options, trial: Trial) -> Made:
    """Follow-up likelihood by the model that has learned the town, tuned first where that is asked for."""
    base = start(options.get("learn", {}))
    format = FollowUpFormat(**options.get("format", {}))
    if "tuning" not in options:
        return FollowUpReward(load(base), town_followups(), format=format), {}
    tuning = options["tuning"]

    def make(folder: Path) -> None:
        settings = {"format": format.format, "request": format.request, **options["settings"]}
        rows = reactions(trained_on(), tuning["lines"], trial.seed, shuffled=tuning["shuffled"])
        train(methods.build("follow_up_tuning", settings), base, rows, folder, trial.seed)

    model = once(["tuning", {**options, "pairs": 0}, trial.seed], make)
    budget = {"lines": tuning["lines"], "steps": spent(model.parent)["steps"]}
    return FollowUpReward(load(model), town_followups(), format=format), budget


def _direct(options: Options, trial: Trial) -> Made:
    return DirectLikelihood.from_pretrained(start({})), {}


def _length(options: Options, trial: Trial) -> Made:
    return Length(), {}


def _bradley_terry(options: Options, trial: Trial) -> Made:
    rows = preferences(trained_on(), options["labels"], trial.seed)
    recipe = methods.build("reward_model", options["settings"])
    model = once(
        ["reward model", options["labels"], dict(options["settings"]), trial.seed],
        lambda folder: train(recipe, start({}), rows, folder, trial.seed),
    )
    return Classifier.from_pretrained(model), {"labels": options["labels"], "steps": spent(model.parent)["steps"]}


REWARDS: Mapping[str, Callable[[Options, Trial], Made]] = {
    "follow_up": _follow_up,
    "direct": _direct,
    "length": _length,
    "bradley_terry": _bradley_terry,
}


def reactions(questions: Sequence[Question], count: int, seed: int, shuffled: bool) -> list[Prompt]:
    """What users say to answers, half of them faulty; shuffled, each to the answer of another conversation."""
    town, rng = Town(), random.Random(f"reactions {seed}")
    talks, lines = [], []
    for _ in range(count):
        question = rng.choice(questions)
        fault = rng.choice(town.faults(question)) if rng.random() < 0.5 else None
        talks.append((*question.prompt.turns, Turn("assistant", town.answer(question, fault, rng))))
        lines.append(Turn("user", town.react(talks[-1], rng)))
    if shuffled:
        rng.shuffle(lines)
    whole = [(*turns, line) for turns, line in zip(talks, lines, strict=True)]
    return [Prompt(turns, prompt_key(turns)) for turns in whole]
