"""Relatives of the three systems: a method trains a policy once, whatever is asked of it then, and the oracle examines.

A policy that only goes on with the weights of another is made of that one, which no arm trains a second time.
"""

import json
import random
from collections.abc import Callable, Mapping, Sequence
from importlib import resources
from math import ceil
from pathlib import Path
from statistics import fmean
from typing import Any

import torch

from claims.claim import Measured, Options, Trial
from claims.work.pairs import fit, labeled, samples
from claims.work.policy import examined
from claims.work.runs import lines, spent
from claims.work.town import by_question, name, once, preferences, start, tested_on, train, trained_on
from uptake import ChatFormat, Prompt, Turn, World, load, methods, run
from uptake import Options as RunOptions
from uptake.annotators.llm import LLMJudge
from uptake.annotators.oracle import OracleAnnotator
from uptake.annotators.question import Instructions
from uptake.ops.verdicts import orders_agree
from uptake.support.folders import replacing_folder
from uptake.town import Town
from uptake.types import Answered, Preference, Row
from uptake.weights.extrapolation import extrapolated

# Rows with the settings that they decide, and what they cost: labels, samples.
Learned = tuple[Sequence[Row], dict[str, Any], dict[str, int]]

# The numbers that a condition is written in, which the town has no words for.
DIGITS = (*"0123456789", "-")
# What a policy is asked that nobody taught to judge, in words of the town.
ASKED = Instructions("{prompt} one answer: {first} another answer: {second} which answer is right?", cue="answer: ")


def relative(options: Options, trial: Trial) -> Measured:
    """Quality of a policy's answers in the oracle's eyes, "quality", and their length in words, "words".

    The policy is `base` as a `method` with `settings` has trained it on `data`, or `base` itself where there is no
    method; with `alpha` its weights are moved on. `models` are read beside it, `labels` are those that the oracle gives
    for each sample that the run draws.
    """
    path, budget = _base(options, trial.seed), {"labels": 0, "samples": 0, "steps": 0}
    if "method" in options:
        trained = {key: each for key, each in options.items() if key not in ("alpha", "labels")}
        folder = once(["relative", trained, trial.seed], lambda folder: _train(trained, folder, trial.seed)).parent
        given, samples = json.loads((folder.parent / "given.json").read_text()), _drawn(folder)
        labels = given["labels"] + round(options.get("labels", 0) * samples)
        budget = {**given, "labels": labels, "samples": given["samples"] + samples, "steps": spent(folder)["steps"]}
        budget["references"] = len(options.get("models", {}).keys() - {"start"})
        path = folder / "model"
    lm = load(path)
    if alpha := options.get("alpha"):
        before = dict(load(_base(options, trial.seed)).model.named_parameters())
        with torch.no_grad():
            for key, weight in lm.model.named_parameters():
                weight.copy_(extrapolated(before[key], weight, alpha))
    return Measured(examined(lm, trial), budget)


def judging(options: Options, trial: Trial) -> Measured:
    """How a policy judges that nobody taught to: a right against a faulty answer to every question, in both orders.

    "agreement" is 1 where both orders prefer the same answer, "right" its probability of the right one. The answers "1"
    and "2" are tokens that it has never seen, so only which of the two it finds likelier counts.
    """
    questions = tested_on(trial.questions)
    rows = preferences(questions, len(questions), trial.seed)
    judge = LLMJudge.from_pretrained(_with_digits(), ASKED, min_share=0.0)
    verdicts = judge.compare([row.prompt for row in rows], [(row.chosen, row.rejected) for row in rows])
    names = [name(row.prompt) for row in rows]
    agree = [float(orders_agree(*each.by_order)) for each in verdicts]
    return Measured(
        {
            "agreement": by_question(zip(names, agree, strict=True)),
            "right": by_question((key, each.p) for key, each in zip(names, verdicts, strict=True)),
        }
    )


def _train(options: Options, folder: Path, seed: int) -> None:
    lm = load(_base(options, seed))
    rows, settings, given = DATA[options["data"]["kind"]](options, seed)
    (folder.parent / "given.json").write_text(json.dumps(given))
    models = {key: load(MODELS[each]()) for key, each in options.get("models", {}).items()}
    world = World(lm, ChatFormat.of(lm), rows, models, folder, seed)
    run(methods.build(options["method"], settings), world, RunOptions(resume=folder.exists(), save_every=0))


def _drawn(folder: Path) -> int:
    """How many responses a run sampled; those that stood in its rows are none."""
    journals = folder.glob("rounds/*/sampled.jsonl")
    groups = (group for path in journals for line in lines(path) for group in line["pool"])
    return sum(rollout["source"] != "dataset" for group in groups for rollout in group)


def _base(options: Options, seed: int) -> Path:
    """The model that a run begins with: that of the town, with digits, or tuned on the answers of the run's data."""
    match options.get("base"):
        case None:
            return start({})
        case "digits":
            return _with_digits()
        case tuned:
            recipe, rows = methods.build("supervised", tuned["settings"]), _recorded(tuned["answers"], seed)
            return once(["tuned", tuned, seed], lambda folder: train(recipe, start({}), rows, folder, seed))


def _with_digits() -> Path:
    """The town's model with words for digits, which it has never read."""

    def make(folder: Path) -> None:
        lm = load(start({}))
        model: Any = lm.model
        lm.tokenizer.add_tokens(list(DIGITS))
        torch.manual_seed(0)
        model.resize_token_embeddings(len(lm.tokenizer), mean_resizing=False)
        with replacing_folder(folder / "model") as partial:
            for each in (model, lm.tokenizer):
                each.save_pretrained(partial)

    return once(["digits"], make)


def _taught(right: bool) -> Path:
    """The town's model tuned on right answers to what methods learn from, or on faulty ones."""
    rng, town = random.Random(f"taught {right}"), Town()
    rows = [
        Answered(each.prompt, town.answer(each, None if right else rng.choice(town.faults(each)), rng))
        for each in trained_on()
    ]
    recipe = methods.build("supervised", {"lr": 1e-3, "batch_size": 32, "epochs": 2, "weight_decay": 0.0})
    return once(["taught", right], lambda folder: train(recipe, start({}), rows, folder, 0))


# Models that are read beside the policy, by what they are.
MODELS: Mapping[str, Callable[[], Path]] = {
    "start": lambda: start({}),
    "taught right": lambda: _taught(right=True),
    "taught wrong": lambda: _taught(right=False),
}


def _recorded(count: int, seed: int) -> list[Row]:
    """Right answers to some of the questions, one each."""
    rng, town = random.Random(f"recorded {seed}"), Town()
    return [Answered(each.prompt, town.answer(each, None, rng)) for each in rng.sample(trained_on(), count)]


def _prompts(options: Options, seed: int) -> Learned:
    """Questions and nothing else; a judge that goes by follow-ups gets those of the town."""
    settings = dict(options["settings"])
    if settings.get("judge", {}).keys() == {"follow_up"}:
        path = resources.files("uptake.town") / "followups.yaml"
        settings["judge"] = {"follow_up": {**settings["judge"]["follow_up"], "followups": str(path)}}
    return [each.prompt for each in trained_on()], settings, {"labels": 0, "samples": 0}


def _answers(options: Options, seed: int) -> Learned:
    """Right answers to learn from, which somebody recorded."""
    count = options["data"]["answers"]
    return _recorded(count, seed), dict(options["settings"]), {"labels": 0, "samples": 0, "answers": count}


def _own(each: int, seed: int) -> dict[Prompt, list[str]]:
    """Answers of the town's model, as many to every question."""
    return samples(load(start({})), [question.prompt for question in trained_on()], each, 48, seed)


def _pairs(options: Options, seed: int) -> Learned:
    """Pairs of the start's own answers that the oracle compared, or the first `labels` of them."""
    data, settings = options["data"], dict(options["settings"])
    rows: Sequence[Row] = labeled(_own(data["each"], seed), OracleAnnotator(), seed)
    count = len(trained_on()) * data["each"] // 2
    if few := data.get("labels"):
        rows, count = rows[:few], few
    if steps := data.get("steps"):
        rows, settings["batch_size"] = fit(rows, steps, settings["epochs"])
    return rows, settings, {"labels": count, "samples": 2 * count}


def _few(options: Options, seed: int) -> Learned:
    """Few labeled pairs, and the questions that they do not answer."""
    rows, settings, given = _pairs(options, seed)
    known = {row.prompt.key for row in rows if isinstance(row, Preference)}
    return [*rows, *(each.prompt for each in trained_on() if each.prompt.key not in known)], settings, given


def _beside(options: Options, seed: int) -> Learned:
    """Pairs of the start's own answers in no order: a reward will rank both beside an answer of the policy."""
    texts = _own(options["data"]["each"], seed)
    pairs = [(prompt, *both) for prompt, each in texts.items() for both in zip(each[::2], each[1::2], strict=True)]
    rows: list[Row] = [
        Preference(prompt, one, two) for prompt, one, two in pairs if one != two and one.strip() and two.strip()
    ]
    return rows, dict(options["settings"]), {"labels": 0, "samples": 2 * len(pairs)}


def _rated(options: Options, seed: int) -> Learned:
    """The start's own answers, each with the oracle's number, in batches that make as many steps of what is learned."""
    data, settings, town = options["data"], dict(options["settings"]), Town()
    rows: list[Row] = []
    rewards = []
    for prompt, texts in _own(data["each"], seed).items():
        for text in filter(str.strip, texts):
            rewards.append(town.quality((*prompt.turns, Turn("assistant", text))).overall)
            rows.append(Answered(Prompt(prompt.turns, prompt.key, extra={"reward": rewards[-1]}), text))
    learned = (
        sum(each > fmean(rewards) for each in rewards) if options["method"] == "filtering_alignment" else len(rows)
    )
    settings["batch_size"] = ceil(learned * settings["epochs"] / data["steps"])
    random.Random(seed).shuffle(rows)
    return rows, settings, {"labels": len(rows), "samples": len(trained_on()) * data["each"]}


DATA: Mapping[str, Callable[[Options, int], Learned]] = {
    "prompts": _prompts,
    "answers": _answers,
    "pairs": _pairs,
    "few": _few,
    "beside": _beside,
    "rated": _rated,
}
