"""The demonstration: from a model that answers carelessly to one that does not, by what its users would say next.

Everything is made on the spot: a tiny model learns the town from conversations, is then both policy and follow-up
model, and is aligned on pairs mined from its own samples. Nobody labels a pair: all that tells good from bad is what
the town's users say next. They react as the town's oracle judges, one time in ten the other way round, and to answers
to training questions only; the same oracle says how good answers to held-out questions are before and after.
"""

import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from importlib import resources
from pathlib import Path
from statistics import fmean
from typing import Any

from uptake import methods
from uptake.data import ChatFormat
from uptake.evaluate import Accuracy, Share, pairwise_accuracy, win_rate
from uptake.follow_up.reward import FollowUpReward
from uptake.follow_up.set import FollowUpSet
from uptake.methods import town_model
from uptake.models import LanguageModel, load
from uptake.report import write_report
from uptake.rewards.base import Reward
from uptake.rewards.likelihood import DirectLikelihood
from uptake.rollout import PolicySamples
from uptake.tasks.compare import Answers, QualityOf, answers, comparison, side_by_side, write_comparison
from uptake.town import AXES, Question, Town, TownSplit
from uptake.train.loop import Options, run
from uptake.types import Dialogue, Prompt, Turn
from uptake.world import World

# What the pipeline tells the person who waits.
Say = Callable[[str], None]


@dataclass(frozen=True)
class DemoSettings:
    """The size of the demonstration; the defaults take about eight minutes on two cores."""

    seed: int = 0
    learn: Mapping[str, Any] = field(default_factory=dict)
    align: Mapping[str, Any] = field(
        default_factory=lambda: {
            "max_new_tokens": 48,
            "temperature": 1.0,
            "top_p": 1.0,
            "lr": 6e-4,
            # The town's users say the opposite now and then, and the scorer misjudges one pair in seven.
            "loss": "cdpo",
            "label_smoothing": 0.2,
            "beta": 0.5,
            # Where one word was asked for, a right answer is a tenth as long as a wrong one.
            "max_length_ratio": 16.0,
            "batch_size": 64,
            "epochs": 4,
            "rounds": 2,
        }
    )
    prompts: int = 432
    held_out: int = 144
    # Which questions are held out and reported on; settings are chosen on those for development.
    split: TownSplit = "heldout"
    answers: int = 4
    curve_prompts: int = 64
    curve_every: int = 20
    pairs_per_axis: int = 100


@dataclass(frozen=True)
class DemoResult:
    """Result of the demonstration: where everything is, and the figures that it is about.

    `won` is the share of answers to each held-out question that are better than before, ties half.
    """

    folder: Path
    report: Path
    accuracy: Accuracy
    direct: Accuracy
    evaluation: Mapping[str, Any]
    won: Mapping[str, float]


def demo(
    folder: str | Path, settings: DemoSettings = DemoSettings(), *, resume: bool = False, say: Say = print
) -> DemoResult:
    """Learn the town, mine, align, compare and report, all under `folder`; a call that was killed can be resumed."""
    folder = Path(folder)
    town = Town()
    say("1/4  a tiny model learns the town's conversations")
    base = learn_town(folder / "town-model", settings, resume)
    reward = FollowUpReward.from_pretrained(base, town_followups())
    say("2/4  does it know what users say to good and bad answers?")
    accuracy, by_category = scorer_accuracy(reward, town, settings)
    direct, direct_by_category = scorer_accuracy(DirectLikelihood.from_pretrained(base), town, settings)
    say("     pairs ranked as the oracle does, by what users would say next and by how likely the answer itself is")
    for name, each in by_category.items():
        say(f"     {name:16s} {each.rate:6.1%} {direct_by_category[name].rate:8.1%}")
    say(f"     {'all':16s} {accuracy.plain.rate:6.1%} {direct.plain.rate:8.1%}")
    say("3/4  mine pairs from its own answers and align on them")
    held_out = [question.prompt for question in _questions(town, settings)]
    judge = _Judge(reward, lambda dialogue: town.quality(dialogue).overall, _sampling(settings), settings.seed)
    world = _align(folder, town, held_out, judge, settings, resume)
    say("4/4  compare answers to held-out questions before and after")
    before, after = (judge(lm, held_out) for lm in (base, world.policy))
    figures = comparison(before, after, judge="town's oracle")
    figures["reward_model"] = {
        "accuracy": asdict(accuracy),
        "by_category": {name: each.rate for name, each in by_category.items()},
        "direct": asdict(direct),
        "direct_by_category": {name: each.rate for name, each in direct_by_category.items()},
    }
    write_comparison(world.folder, figures, side_by_side(before, after, count=12))
    return DemoResult(folder, write_report(world.folder), accuracy, direct, figures, _won(before, after))


def _won(before: Answers, after: Answers) -> dict[str, float]:
    found: dict[str, list[float]] = {}
    for rollout, old, new in zip(before.rollouts, before.judged, after.judged, strict=True):
        found.setdefault(rollout.prompt.turns[-1].content, []).append((1 + (new > old) - (new < old)) / 2)
    return {question: fmean(points) for question, points in found.items()}


def town_followups() -> FollowUpSet:
    """The follow-ups that score the town's answers: its users know their words and never say them."""
    with resources.as_file(resources.files("uptake.town") / "followups.yaml") as path:
        return FollowUpSet.load(path)


def scorer_accuracy(reward: Reward, town: Town, settings: DemoSettings) -> tuple[Accuracy, dict[str, Share]]:
    """How often the reward prefers the right answer to a held-out question over a faulty one, overall and by fault."""
    pairs = fault_pairs(town, settings)
    dialogues = [dialogue for _, *both in pairs for dialogue in both]
    scores = [judgement.score for judgement in reward.rate(dialogues)]
    lengths = [float(len(dialogue[-1].content.split())) for dialogue in dialogues]
    columns = scores[::2], scores[1::2], lengths[::2], lengths[1::2]
    rows: dict[str, list[int]] = {}
    for index, (axis, *_) in enumerate(pairs):
        rows.setdefault(axis, []).append(index)

    def accuracy(of: Sequence[int]) -> Accuracy:
        right, faulty, right_words, faulty_words = ([column[index] for index in of] for column in columns)
        return pairwise_accuracy(right, faulty, right_words, faulty_words)

    by_axis = {axis: accuracy(of).plain for axis, of in rows.items()}
    return accuracy(range(len(pairs))), by_axis


def fault_pairs(town: Town, settings: DemoSettings) -> list[tuple[str, Dialogue, Dialogue]]:
    """(axis, right answer, faulty answer) for held-out questions, `pairs_per_axis` for every axis.

    Of the faults of an axis one is drawn as often as the town's assistants make it.
    """
    rng = random.Random(settings.seed)
    questions = _questions(town, settings)
    found = []
    for axis in AXES:
        cases = [(question, fault) for question in questions for fault in town.faults(question) if fault.axis == axis]
        for question, fault in rng.choices(cases, [fault.share for _, fault in cases], k=settings.pairs_per_axis):
            right, faulty = (Turn("assistant", town.answer(question, each, rng)) for each in (None, fault))
            found.append((str(axis), (*question.prompt.turns, right), (*question.prompt.turns, faulty)))
    return found


def _questions(town: Town, settings: DemoSettings) -> list[Question]:
    """What is reported on: the same questions for every seed."""
    return town.questions(settings.held_out, 0, settings.split)


@dataclass(frozen=True)
class _Judge:
    """Answers of a model, scored by follow-ups and by the oracle."""

    reward: FollowUpReward
    quality: QualityOf
    sampling: PolicySamples
    seed: int

    def __call__(self, lm: LanguageModel, prompts: Sequence[Prompt]) -> Answers:
        return answers(lm, prompts, self.reward, self.sampling, self.quality, self.seed)


def _sampling(settings: DemoSettings) -> PolicySamples:
    """Answers to held-out questions, sampled as the candidates are."""
    return PolicySamples(
        n=settings.answers,
        temperature=settings.align["temperature"],
        top_p=settings.align["top_p"],
        max_new_tokens=settings.align["max_new_tokens"],
    )


def learn_town(folder: Path, settings: DemoSettings = DemoSettings(), resume: bool = False) -> LanguageModel:
    """The town model: from `folder` where it is finished, else trained there."""
    if not (folder / "model").is_dir():
        initial = town_model.init_town_model(settings.seed)
        start = Prompt((Turn("user", "hello"),), key="")
        world = World(initial, ChatFormat.of(initial), rows=[start], folder=folder, seed=settings.seed)
        run(
            methods.build("town_model", settings.learn),
            world,
            Options("A tiny model learns the town", resume and folder.is_dir(), method="town_model"),
        )
    return load(folder / "model")


def _align(
    folder: Path, town: Town, held_out: Sequence[Prompt], judge: _Judge, settings: DemoSettings, resume: bool
) -> World:
    """Mine on training questions and align, watching the first of the held-out questions on the way."""
    policy = load(folder / "town-model" / "model")
    rows = [question.prompt for question in town.questions(settings.prompts, settings.seed, "train")]
    models = {"follow_up": judge.reward.lm}
    target = folder / "aligned"
    world = World(policy, ChatFormat.of(policy), rows, models, target, settings.seed)
    watched = held_out[: settings.curve_prompts]
    start = judge(policy, watched)

    def observe(world: World, step: int) -> Mapping[str, Any]:
        now = judge(world.policy, watched)
        wins = win_rate(now.judged, start.judged, clusters=now.prompts)
        point = {"win_rate": wins.rate, "low": wins.low, "high": wins.high}
        return point | {"quality": fmean(now.judged), "follow_up_reward": float(now.follow_up.rewards.mean())}

    with resources.as_file(resources.files("uptake.town") / "followups.yaml") as path:
        recipe = methods.build("follow_up_likelihood", {**settings.align, "followups": str(path)})
        title = "The town: aligned by what its users say next"
        options = Options(
            title,
            resume and target.is_dir(),
            observe=observe,
            observe_every=settings.curve_every,
            method="follow_up_likelihood",
        )
        return run(recipe, world, options)
