"""A person played by a gold reward model, trained on one half of the preferences at hand; prompts are the other half's.

The gold model labels answers where an arm asks a person, and examines answers to held-out prompts.
"""

import random
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

from claims.claim import Measured, Options, Questions, Trial
from claims.work.pairs import fit, labeled, samples
from claims.work.runs import spent
from claims.work.town import by_question, name, once, train
from uptake import ChatFormat, FollowUpReward, Preference, Prompt, Turn, World, load, methods, run
from uptake import Options as RunOptions
from uptake.annotators.base import Annotator
from uptake.annotators.from_reward import FromReward
from uptake.datasets import read_set
from uptake.errors import InputError
from uptake.follow_up.set import FollowUpSet
from uptake.models import LanguageModel
from uptake.rewards.classifier import Classifier
from uptake.types import Row, Verdict

SETS = ("hh_helpful_base", "hh_harmless_base")
HELD_OUT, DEVELOPMENT, ANSWERS = 200, 100, 4


def agreement(options: Options, trial: Trial) -> Measured:
    """How often the gold model agrees with people on preferences it was not trained on ("accuracy")."""
    rows = halves(options)[1]
    gold = Classifier.from_pretrained(_gold(options))
    sides = [(*row.prompt.turns, Turn("assistant", text)) for row in rows for text in (row.chosen, row.rejected)]
    scores = [each.score for each in gold.rate(sides)]
    right = [float(one > two) for one, two in zip(scores[::2], scores[1::2], strict=True)]
    return Measured({"accuracy": by_question(zip((row.prompt.key for row in rows), right, strict=True))})


def aligned(options: Options, trial: Trial) -> Measured:
    """How often the gold model prefers an aligned policy's answer to one of its start ("wins", a tie is half of one).

    A policy learns by a `method` with `settings`, in `steps` optimizer steps, from prompts or, with `by`, from `labels`
    pairs of the start's own answers as "gold", "follow_up" or "coin" prefers; `reward_model` is trained on these first.
    """
    base = Path(options["model"])
    lm, gold = load(base), _gold(options)
    prompts = [row.prompt for row in halves(options)[1][HELD_OUT + DEVELOPMENT :]][: options["prompts"]]
    settings, rows, budget = dict(options["settings"]), list[Row](prompts), dict[str, int]()
    if "by" in options:
        each = 2 * options["labels"] // len(prompts)
        texts = samples(lm, prompts, each, options["tokens"], trial.seed)
        pairs = labeled(texts, _annotator(options["by"], lm, gold), trial.seed)
        budget = {"labels": options["labels"], "samples": each * len(prompts)}
        if kind := options.get("reward_model"):
            model = once(
                ["person", {**options, "settings": {}}, trial.seed],
                lambda folder: train(methods.build(kind["method"], kind["settings"]), base, pairs, folder, trial.seed),
            )
            settings["reward"] = {kind["reward"]: {"path": str(model)}}
            budget["reward steps"] = spent(model.parent)["steps"]
        else:
            fitting, settings["batch_size"] = fit(pairs, options["steps"], 1)
            rows = list(fitting)
    elif options["method"] == "online_ai_feedback":
        settings["judge"] = {"classifier": {"path": str(gold)}}
    world = World(lm, ChatFormat.of(lm), rows, {"follow_up": lm}, trial.folder / "run", trial.seed)
    run(methods.build(options["method"], settings), world, RunOptions(resume=world.folder.exists(), save_every=0))
    done = spent(world.folder)
    drawn = 0 if "by" in options and "reward_model" not in options else done["samples"]
    budget["samples"] = budget.get("samples", 0) + drawn
    budget.setdefault("labels", drawn // 2)
    wins = _wins(load(base), world.policy, Classifier.from_pretrained(gold), options, trial)
    return Measured({"wins": wins}, {**budget, "steps": done["steps"], "prompts": len(prompts)})


def halves(options: Options) -> tuple[list[Preference], list[Preference]]:
    """Preferences for the gold model, and those whose prompts are for arms: held out, development, training."""
    return _halves(options["model"], options["data"])


@cache
def _halves(model: str, data: str) -> tuple[list[Preference], list[Preference]]:
    lm = load(model)
    chat, room = ChatFormat.of(lm), (lm.window or 1 << 30) - 64
    rows = [row for each in SETS for row in read_set(each, "preferences", Path(data)) if isinstance(row, Preference)]
    fitting = []
    for row in rows:
        sides = [chat.response_ids(row.prompt.turns, text) for text in (row.chosen, row.rejected)]
        if all(ids and len(prompt) + len(ids) <= room for prompt, ids in sides):
            fitting.append(row)
    if len(fitting) < 4 * (HELD_OUT + DEVELOPMENT):
        raise InputError(f"{len(fitting)} preferences fit the model's window", path=data, allowed="1,200 at least")
    random.Random(0).shuffle(fitting)
    return fitting[: len(fitting) // 2], fitting[len(fitting) // 2 :]


def _gold(options: Options) -> Path:
    """The folder of the gold model."""
    what = ["gold", options["model"], options["weights"], dict(options["gold"])]
    recipe = methods.build("reward_model", options["gold"])
    return once(what, lambda folder: train(recipe, Path(options["model"]), halves(options)[0], folder, 0))


def _annotator(by: str, lm: LanguageModel, gold: Path) -> Annotator:
    if by == "coin":
        return _Coin()
    return FromReward(Classifier.from_pretrained(gold) if by == "gold" else FollowUpReward(lm, FollowUpSet.load()))


class _Coin(Annotator):
    """An annotator that looks at nothing."""

    fingerprint = "coin"

    def compare(self, prompts: Sequence[Prompt], pairs: Sequence[tuple[str, str]]) -> Sequence[Verdict]:
        keys = [repr((prompt.key, pair)) for prompt, pair in zip(prompts, pairs, strict=True)]
        heads = [float(random.Random(key).random() < 0.5) for key in keys]
        return [Verdict(p, (p, p)) for p in heads]


def _prompts(options: Options, questions: Questions) -> list[Prompt]:
    rows = halves(options)[1]
    part = rows[:HELD_OUT] if questions == "held out" else rows[HELD_OUT : HELD_OUT + DEVELOPMENT]
    return [row.prompt for row in part]


def _wins(
    base: LanguageModel, policy: LanguageModel, gold: Classifier, options: Options, trial: Trial
) -> dict[str, float]:
    prompts = _prompts(options, trial.questions)
    both: list[Any] = [samples(each, prompts, ANSWERS, options["tokens"], trial.seed) for each in (base, policy)]
    dialogues = [
        [(*prompt.turns, Turn("assistant", text)) for prompt in prompts for text in side[prompt]] for side in both
    ]
    before, after = ([each.score for each in gold.rate(side)] for side in dialogues)
    points = [float(new > old) + float(new == old) / 2 for old, new in zip(before, after, strict=True)]
    keys = [prompt.key + name(prompt) for prompt in prompts for _ in range(ANSWERS)]
    return by_question(zip(keys, points, strict=True))
