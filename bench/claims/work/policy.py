"""Policies: a method trains one, and the town's oracle examines its answers on the way and at the end."""

import random
from collections.abc import Mapping, Sequence
from statistics import fmean
from typing import Any

from claims.claim import Measured, Options, Trial
from claims.work.pairs import fit, labeled, samples
from claims.work.runs import lines, spent
from claims.work.tokens import reward_model
from claims.work.town import by_question, name, start, tested_on, trained_on
from uptake import ChatFormat, Prompt, Turn, World, load, methods, run
from uptake import Options as RunOptions
from uptake.annotators.oracle import OracleAnnotator
from uptake.models import LanguageModel
from uptake.rollout import PolicySamples
from uptake.town import Town
from uptake.types import Row

ANSWERS = PolicySamples(n=2, temperature=1.0, top_p=1.0, max_new_tokens=48)
# Measurements after the start.
POINTS = 4


def policy(options: Options, trial: Trial) -> Measured:
    """Quality of a policy's answers, in the oracle's eyes, after `steps` optimizer steps of a `method`.

    It learns from training questions, or from labeled pairs of answers to them: of the start itself ("own"), or
    recorded ones, half right and half with one fault ("town"), as `data` says. `settings` are those of the method,
    `reward_model` is a reward to train first. Measured are the end ("quality", "words"), the mean over all measurements
    after the start ("area"), what was gained after the first of them ("late_gain"), and how many times as long answers
    became ("length_ratio").
    """
    lm = load(start({}))
    rows, settings, given = _learned(options, lm, trial.seed)
    world = World(lm, ChatFormat.of(lm), rows, folder=trial.folder / "run", seed=trial.seed)
    watch = RunOptions(
        resume=world.folder.exists(),
        save_every=0,
        observe=lambda world, _: examined(world.policy, trial),
        observe_every=options["steps"] // POINTS,
    )
    run(methods.build(options["method"], settings), world, watch)
    done = spent(world.folder)
    # Of two samples, an annotator says one thing.
    labels = done["samples"] // (2 if options["method"] == "online_ai_feedback" else 1)
    budget = {"labels": labels, "samples": done["samples"], **given, "steps": done["steps"]}
    return Measured(figures(lines(world.folder / "curve.jsonl")), budget)


def _learned(options: Options, lm: LanguageModel, seed: int) -> tuple[Sequence[Row], dict[str, Any], dict[str, int]]:
    """The rows of a run, its settings, and what it was given before it began."""
    settings = dict(options["settings"])
    if data := options.get("data"):
        prompts = [question.prompt for question in trained_on()]
        each = 2 * (data["labels"] // len(prompts))
        texts = samples(lm, prompts, each, 48, seed) if data["by"] == "own" else _of_the_town(each, seed)
        rows, size = fit(labeled(texts, OracleAnnotator(), seed), options["steps"], settings.get("epochs", 1))
        return rows, {**settings, "batch_size": size}, {"labels": data["labels"], "samples": 2 * data["labels"]}
    prompts = [question.prompt for question in trained_on()]
    if kind := options.get("reward_model"):
        settings["reward"] = {kind["reward"]: {"path": str(reward_model(kind, seed))}}
        return prompts, settings, {"labels": 0, "edits": kind["edits"]}
    return prompts, settings, {}


def examined(lm: LanguageModel, trial: Trial) -> dict[str, dict[str, float]]:
    """Quality and length in words of the answers to questions, by question."""
    prompts = [question.prompt for question in tested_on(trial.questions)]
    answers = ANSWERS.of(lm, prompts, ChatFormat.of(lm), trial.seed, version=0)
    texts = [(each.prompt, each.response.strip() or "...") for each in answers]
    quality = [Town().quality((*prompt.turns, Turn("assistant", text))).overall for prompt, text in texts]
    return {
        "quality": by_question((name(prompt), each) for (prompt, _), each in zip(texts, quality, strict=True)),
        "words": by_question((name(prompt), len(text.split())) for prompt, text in texts),
    }


def figures(curve: Sequence[Mapping[str, Any]]) -> dict[str, dict[str, float]]:
    """The measures of a curve whose points have quality and words by question; the first is the start."""
    first, *later = [point["quality"] for point in curve]
    words = [fmean(curve[point]["words"].values()) for point in (0, -1)]
    return {
        "quality": later[-1],
        "words": curve[-1]["words"],
        "area": {each: fmean(point[each] for point in later) for each in first},
        "late_gain": {each: later[-1][each] - later[0][each] for each in first},
        "length_ratio": {"": words[1] / words[0]},
    }


def _of_the_town(each: int, seed: int) -> dict[Prompt, list[str]]:
    town, rng = Town(), random.Random(seed)
    texts = {}
    for question in trained_on():
        # Half of the town's answers are right.
        wrong = [rng.choice(town.faults(question)) if rng.random() < 0.5 else None for _ in range(each)]
        texts[question.prompt] = [town.answer(question, fault, rng) for fault in wrong]
    return texts
