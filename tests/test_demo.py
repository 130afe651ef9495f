"""The demonstration in small: its figures worked out again from the models it leaves, and a kill in every step."""

import json
import shutil
import sys
from dataclasses import asdict, replace
from pathlib import Path
from statistics import fmean
from typing import Any

import pytest
import torch
from tiny import in_process, killer

from uptake.data import ChatFormat
from uptake.evaluate import win_rate
from uptake.follow_up.reward import FollowUpReward
from uptake.models import LanguageModel, load
from uptake.rollout import PolicySamples
from uptake.tasks.demo import DemoResult, DemoSettings, demo, fault_pairs, scorer_accuracy, town_followups
from uptake.town import AXES, Town
from uptake.town.lines import PUZZLED
from uptake.town.questions import all_questions, read_question
from uptake.types import Dialogue, Turn

SMALL = DemoSettings(
    learn={"rounds": 1, "conversations": 640, "users": 1, "batch_size": 8, "lr": 6e-3},
    align={
        **DemoSettings().align,
        "n": 2,
        "rounds": 1,
        "epochs": 2,
        "batch_size": 8,
        "keep_unfinished": True,
        "lr": 3e-3,
    },
    prompts=16,
    held_out=12,
    answers=2,
    curve_prompts=4,
    curve_every=3,
    pairs_per_axis=2,
)


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> DemoResult:
    return demo(tmp_path_factory.mktemp("demo"), SMALL, say=lambda line: None)


@pytest.fixture(scope="module")
def undisturbed(finished: DemoResult) -> Path:
    return finished.folder


def qualities(lm: LanguageModel) -> list[float]:
    """What the oracle says of the answers to every held-out question."""
    town = Town()
    asked = [question.prompt for question in town.questions(SMALL.held_out, 0, "heldout")]
    sampling = PolicySamples(n=SMALL.answers, temperature=1.0, top_p=1.0, max_new_tokens=48)
    said = sampling.of(lm, asked, ChatFormat.of(lm), 0, version=0)
    return [
        town.quality((*each.prompt.turns, Turn("assistant", each.response.strip() or "..."))).overall for each in said
    ]


def test_the_figures_are_those_of_the_two_models(finished: DemoResult, undisturbed: Path) -> None:
    before, after = (qualities(load(undisturbed / name / "model")) for name in ("town-model", "aligned"))
    figures = evaluation(undisturbed)
    points = [1.0 if b > a else 0.5 if b == a else 0.0 for a, b in zip(before, after, strict=True)]
    assert (figures["prompts"], figures["win_rate"]["n"]) == (SMALL.held_out, SMALL.held_out * SMALL.answers)
    assert figures["win_rate"]["rate"] == pytest.approx(fmean(points))
    assert figures["quality"] == {"before": pytest.approx(fmean(before)), "after": pytest.approx(fmean(after))}
    assert before != after
    together = win_rate(after, before, clusters=[place // SMALL.answers for place in range(len(after))])
    assert figures["win_rate"] == asdict(together)
    questions = [question.text for question in Town().questions(SMALL.held_out, 0, "heldout")]
    starts = range(0, len(points), SMALL.answers)
    assert finished.won == dict(
        zip(questions, (fmean(points[start : start + SMALL.answers]) for start in starts), strict=True)
    )
    lines = (undisturbed / "aligned" / "samples.jsonl").read_text().splitlines()
    assert len({json.loads(line)["prompt"][0]["content"] for line in lines}) == len(lines) == SMALL.held_out


def test_it_is_aligned_on_training_questions_only(undisturbed: Path) -> None:
    asked = {
        read_question(rollout["prompt"]["turns"][0]["content"])
        for line in (undisturbed / "aligned" / "rounds" / "0-0" / "judged.jsonl").read_text().splitlines()
        for group in json.loads(line)["groups"]
        for rollout in group
    }
    assert len(asked) == SMALL.prompts
    assert asked <= set(all_questions(0, "train"))


def test_the_curve_begins_at_even(undisturbed: Path) -> None:
    start, *later = [json.loads(line) for line in (undisturbed / "aligned" / "curve.jsonl").read_text().splitlines()]
    assert (start["step"], start["win_rate"]) == (0, 0.5)
    assert later


@pytest.mark.parametrize(
    ("moment", "learned"),
    [(("os.rename", "town-model/checkpoints", 1), False), (("open", "aligned/rounds/0-0/judged.jsonl", 1), True)],
    ids=["while it learns", "while it mines"],
)
def test_killed_and_resumed(moment: tuple[str, str, int], learned: bool, undisturbed: Path, tmp_path: Path) -> None:
    if learned:
        shutil.copytree(undisturbed / "town-model", tmp_path / "demo" / "town-model")
    assert in_process(demo_until, tmp_path / "demo", moment) == -9
    assert (tmp_path / "demo" / "aligned").is_dir() == learned
    demo(tmp_path / "demo", SMALL, resume=True, say=lambda line: None)
    assert evaluation(tmp_path / "demo") == evaluation(undisturbed)


def demo_until(folder: Path, moment: tuple[str, str, int]) -> None:
    sys.addaudithook(killer(*moment))
    demo(folder, SMALL, say=lambda line: None)


def test_pairs_are_a_perfect_and_a_faulty_answer_to_a_held_out_question() -> None:
    town, pairs = Town(), fault_pairs(Town(), SMALL)
    assert [axis for axis, *_ in pairs] == [axis for axis in AXES for _ in range(SMALL.pairs_per_axis)]
    for _, right, faulty in pairs:
        assert read_question(right[0].content) in all_questions(0, "heldout")
        assert right[:-1] == faulty[:-1]
        assert town.quality(right).overall == 1 > town.quality(faulty).overall


def test_the_likelihood_of_the_answer_stands_beside_the_follow_ups(undisturbed: Path) -> None:
    """Worked out again from one plain row of text for each answer, up to the mark that ends its turn."""
    lm, points = load(undisturbed / "town-model" / "model"), []
    for _, *sides in fault_pairs(Town(), SMALL):
        right, faulty = (plain_likelihood(lm, dialogue) for dialogue in sides)
        points.append(1.0 if right > faulty else 0.5 if right == faulty else 0.0)
    found = evaluation(undisturbed)["reward_model"]
    assert found["direct"]["plain"]["rate"] == pytest.approx(fmean(points))
    assert fmean(found["direct_by_category"].values()) == pytest.approx(fmean(points))
    assert found["direct"] != found["accuracy"]


def plain_likelihood(lm: LanguageModel, dialogue: Dialogue) -> float:
    """Mean log-probability of the words of the answer and of the end of its turn."""
    question, answer = dialogue
    stem = lm.tokenizer(f"<user> {question.content} <end> <assistant>")["input_ids"]
    ids = [*stem, *lm.tokenizer(f"{answer.content} <end>")["input_ids"]]
    with torch.no_grad():
        logps = lm.model(torch.tensor([ids])).logits[0].log_softmax(-1)
    return fmean(float(logps[place - 1, ids[place]]) for place in range(len(stem), len(ids)))


def test_faults_stand_in_pairs_as_often_as_the_town_makes_them() -> None:
    """Of the questions, 114 can be answered by asking back (0.02), and 130 be taken for another one (0.2)."""
    pairs = fault_pairs(Town(), replace(SMALL, held_out=144, pairs_per_axis=1000))
    answers = [faulty[-1].content for axis, _, faulty in pairs if axis == "understanding"]
    share = fmean(any(line in text for line in PUZZLED) for text in answers)
    expected = 114 * 0.02 / (114 * 0.02 + 130 * 0.2)
    assert share == pytest.approx(expected, abs=3 * (expected * (1 - expected) / 1000) ** 0.5)


def test_questions_for_development_are_others() -> None:
    development = replace(SMALL, split="development")
    asked, reported = ({right[0] for _, right, _ in fault_pairs(Town(), each)} for each in (development, SMALL))
    assert {read_question(turn.content) for turn in asked} <= set(all_questions(0, "development"))
    assert not asked & reported


def test_a_scorer_that_knows_nothing_ranks_like_a_coin(undisturbed: Path) -> None:
    """All logits equal: every follow-up is as likely after any answer, so every pair is a tie and counts half."""
    lm = load(undisturbed / "town-model" / "model")
    with torch.no_grad():
        for weight in lm.model.parameters():
            weight.zero_()
    accuracy, by_axis = scorer_accuracy(FollowUpReward(lm, town_followups()), Town(), replace(SMALL, held_out=144))
    assert accuracy.plain.rate == 0.5
    assert [share.rate for share in by_axis.values()] == [0.5] * len(AXES)


def evaluation(folder: Path) -> Any:
    return json.loads((folder / "aligned" / "evaluation.json").read_text())
