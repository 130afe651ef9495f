"""Token rewards: models that learn from minimal edits, and whether they find the faulty words of held-out answers."""

import random
from collections.abc import Mapping, Sequence
from functools import cache, partial
from itertools import count
from pathlib import Path
from typing import Any

from _tokens import Arm, Rewards, Sides, measured, score_steps, token_scores, with_edit

from claims.claim import Measured, Options, Trial
from claims.work.runs import spent
from claims.work.town import name, once, start, tested_on, train, trained_on
from uptake import ChatFormat, Turn, World, load
from uptake.datasets.items import minimal
from uptake.models import LanguageModel
from uptake.town import Question, Town
from uptake.types import Edited, Row, Span

# Answers to every question that is asked.
ANSWERS = 4
# Answers that are drawn to see whether a question has any with a small edit.
TRIES = 12
# Training edits that the best place is found by.
PLACED = 432


def token_rewards(options: Options, trial: Trial) -> Measured:
    """How often the lowest reward of a faulty answer is at a faulty word ("top1"), and the edit's sum above its own.

    "auroc" is over the words of all answers. A reward model of whole answers gives every word the step of its score.
    """
    model = reward_model(options, trial.seed)
    lm = load(model)
    world = World(lm, ChatFormat.of(lm), folder=trial.folder, seed=trial.seed)
    scores = score_steps if options["method"] == "reward_model" else token_scores
    test = edits(tested_on(trial.questions), ANSWERS, trial.seed, spans=True)
    found = {key: measured(world, rows, scores, 512) for key, rows in _by_question(test).items()}
    whole = measured(world, test, scores, 512)
    by_measure = {
        "top1": _rates(found, "top1"),
        "pair_sum": _rates(found, "pair_sum"),
        "auroc": {"": whole["auroc"]},
        "top1_chance": {key: each["top1_chance"] for key, each in found.items() if each["top1_chance"] is not None},
    }
    return Measured(by_measure, {"edits": options["edits"], "steps": spent(model.parent)["steps"]})


def one_position(options: Options, trial: Trial) -> Measured:
    """The same for the one place, counted from an answer's first word, at which most of the edits change something."""
    lm = load(start(options["learn"]))
    world = World(lm, ChatFormat.of(lm), folder=trial.folder, seed=trial.seed)
    rows = training_edits(options["edits"], trial.seed, spans=True)[:PLACED]
    longest = max(len(row.response.split()) for row in rows)
    hits = [measured(world, rows, partial(_lowest_at, at), 512)["top1"]["rate"] for at in range(longest)]
    scores = partial(_lowest_at, hits.index(max(hits)))
    test = edits(tested_on(trial.questions), ANSWERS, trial.seed, spans=True)
    found = {key: measured(world, rows, scores, 512) for key, rows in _by_question(test).items()}
    return Measured({"top1": _rates(found, "top1")}, {"edits": options["edits"], "steps": 0})


def _lowest_at(at: int, lm: LanguageModel, sides: Sides) -> Rewards:
    return [tuple(float(token != min(at, len(ids) - 1)) for token in range(len(ids))) for _, ids in sides]


def training_edits(wanted: int, seed: int, spans: bool = False) -> list[Edited]:
    """Answers to training questions with their edits, the same for all arms of a seed."""
    questions = [question for question in trained_on() if _has_edits(question)]
    return edits(questions, -(-wanted // len(questions)), seed, spans)[:wanted]


def reward_model(options: Options, seed: int) -> Path:
    """The folder of a model trained on as many of the oracle's edits as `edits`, the same for all arms of a seed."""
    what = ["edits", {key: options.get(key) for key in ("method", "settings", "edits", "shuffle", "learn")}, seed]
    arm = Arm("", options["method"], options["settings"], shuffle=options.get("shuffle", False))

    def make(folder: Path) -> None:
        rows = training_edits(options["edits"], seed)
        given: Sequence[Row] = with_edit(rows) if arm.by_sequence else rows
        train(arm.recipe(seed), start(options["learn"]), given, folder, seed)

    return once(what, make)


def edits(questions: Sequence[Question], each: int, seed: int, spans: bool = False) -> list[Edited]:
    """As many faulty answers to every question, with the oracle's edits; with `spans`, the words that are faulty.

    Answers of which more than half of the words must change say nothing about places, and others are drawn for them.
    Questions to which there are only such answers, one word say, are left out.
    """
    rng = random.Random(f"edits {seed}")
    fitting = [question for question in questions if _has_edits(question)]
    rows = [_edit(question, rng, spans) for _ in range(each) for question in fitting]
    rng.shuffle(rows)
    return rows


@cache
def _has_edits(question: Question) -> bool:
    rng = random.Random(question.text)
    return any(_draw(question, rng, False) for _ in range(TRIES))


def _edit(question: Question, rng: random.Random, spans: bool) -> Edited:
    return next(row for _ in count() if (row := _draw(question, rng, spans)) is not None)


def _draw(question: Question, rng: random.Random, spans: bool) -> Edited | None:
    """One faulty answer with its edit, or None where the edit is no small one."""
    town = Town()
    answer = town.answer(question, rng.choice(town.faults(question)), rng)
    dialogue = (*question.prompt.turns, Turn("assistant", answer))
    edit = town.minimal_edit(dialogue)
    if not minimal(answer, edit):
        return None
    marks = town.faulty_words(dialogue) if spans else ()
    found = tuple(Span(each.start, each.stop, -1.0, "") for each in marks)
    return Edited(question.prompt, answer, edit, found if spans else None)


def _by_question(rows: Sequence[Edited]) -> dict[str, list[Edited]]:
    found: dict[str, list[Edited]] = {}
    for row in rows:
        found.setdefault(name(row.prompt), []).append(row)
    return found


def _rates(found: Mapping[str, Mapping[str, Any]], measure: str) -> dict[str, float]:
    return {key: each[measure]["rate"] for key, each in found.items() if each[measure] is not None}
