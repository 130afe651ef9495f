"""The format of follow-ups in every command that asks them: what a command computes is what the reward computes."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from tiny import pair_records, read_jsonl, saved, tiny_llama, write_followups, write_jsonl
from tiny_cli import Cli

from uptake.data import preferences, read
from uptake.follow_up.reward import FollowUpReward
from uptake.follow_up.set import FollowUpSet
from uptake.judge.registry import reward_spec
from uptake.models import LanguageModel
from uptake.rewards.base import Resources
from uptake.tasks.calibrate import label
from uptake.types import Turn

SWAP: Any = "role_swap"


@pytest.fixture
def lm() -> LanguageModel:
    return tiny_llama(max_position_embeddings=256)


@pytest.fixture
def command(
    lm: LanguageModel, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> Cli:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "200")
    saved(lm, tmp_path / "model")
    write_followups(tmp_path)
    write_jsonl(tmp_path / "pairs.jsonl", pair_records(24))
    talks = [[Turn("user", one["prompt"]), Turn("assistant", one["chosen"]), Turn("user", "thanks .")] for one in PAIRS]
    rows = [{"messages": [{"role": turn.role, "content": turn.content} for turn in talk]} for talk in talks]
    write_jsonl(tmp_path / "chats.jsonl", rows)
    return Cli(tmp_path, capsys, monkeypatch)


PAIRS = pair_records(24)


def rewards(lm: LanguageModel, format: Any) -> list[float]:
    """Of the chosen responses, by hand."""
    dialogues = [(Turn("user", one["prompt"]), Turn("assistant", one["chosen"])) for one in PAIRS]
    scored = FollowUpReward(lm, FollowUpSet.load("followups.yaml"), format=format).score(dialogues)
    return scored.rewards.tolist()  # type: ignore[no-any-return]


def test_score_by_name_and_by_setting(command: Cli, lm: LanguageModel) -> None:
    for out, spelled in (
        ("a.jsonl", ["--reward", "follow_up:role_swap"]),
        ("b.jsonl", ["--reward-set", "format=role_swap"]),
    ):
        command("score", "pairs.jsonl", "--model", "model", "--followups", "followups.yaml", *spelled, "--out", out)
    assert read_jsonl(Path("a.jsonl")) == read_jsonl(Path("b.jsonl"))
    found = [row["chosen_reward"] for row in read_jsonl(Path("a.jsonl"))]
    assert found == pytest.approx(rewards(lm, SWAP), abs=1e-5)
    assert found != pytest.approx(rewards(lm, None), abs=1e-2)


def test_calibrate(command: Cli, lm: LanguageModel) -> None:
    """Pairs that the swapped roles rank rightly, so that there is something to fit."""
    reward = FollowUpReward(lm, FollowUpSet.load("followups.yaml"), format=SWAP)
    scored = label(preferences(read("pairs.jsonl")), reward)
    values = [reward.combine(torch.from_numpy(side)).total for side in (scored.chosen, scored.rejected)]
    sides_of = [("chosen", "rejected") if a > b else ("rejected", "chosen") for a, b in zip(*values, strict=True)]
    right = [{**one, "chosen": one[a], "rejected": one[b]} for one, (a, b) in zip(PAIRS, sides_of, strict=True)]
    write_jsonl(Path("right.jsonl"), right)
    given = ("right.jsonl", "--model", "model", "--followups", "followups.yaml", "--folds", "2", "--size", "2")
    command("calibrate", *given, "--format", "role_swap", "--out", "swap.yaml")
    report = json.loads(Path("swap.report.json").read_text())
    assert report["accuracy"]["as given"]["plain"]["rate"] == 1.0
    sides = label(preferences(read("right.jsonl")), reward)
    first = FollowUpSet.load("followups.yaml").sentences[0]
    (item,) = [each for each in report["items"] if each["text"] == first]
    better = sides.chosen[:, 0] > sides.rejected[:, 0]
    even = sides.chosen[:, 0] == sides.rejected[:, 0]
    assert item["accuracy"]["rate"] == pytest.approx((better + even / 2).mean())


def test_mine_logs_and_discover(command: Cli, lm: LanguageModel) -> None:
    given = ("chats.jsonl", "--model", "model", "--followups", "followups.yaml", "--any-language", "--keep", "scored")
    command("mine-logs", *given, "--by", "follow_up", "--format", "role_swap", "--out", "out.jsonl")
    reward = FollowUpReward(lm, FollowUpSet.load("followups.yaml"), prior="prompt_only", format=SWAP)
    rows = read_jsonl(Path("out.jsonl"))
    dialogues = [[*row["prompt"], *row["completion"]] for row in rows]
    assert [row["reward"] for row in rows] == pytest.approx(reward.score(dialogues).rewards.tolist(), abs=1e-5)


@pytest.mark.unchecked
def test_an_unknown_format_is_refused_before_a_model_is_loaded(command: Cli) -> None:
    given = ("chats.jsonl", "--model", "nowhere", "--followups", "followups.yaml")
    unknown = command.fails("mine-logs", *given, "--format", "swapped", "--out", "other.jsonl")
    assert "field 'format': 'swapped' (allowed: role_swap, user_role)" in unknown
    for name, out in (("calibrate", "set.yaml"), ("discover", "set.yaml")):
        assert unknown == command.fails(name, *given, "--format", "swapped", "--out", out)


def test_a_spec_has_the_format(lm: LanguageModel, tmp_path: Path) -> None:
    at_hand = Resources({"follow_up": lm})
    settings = {"followups": str(write_followups(tmp_path))}
    named: Any = reward_spec({"follow_up:role_swap": settings}).build(at_hand)
    plain: Any = reward_spec({"follow_up": settings}).build(at_hand)
    assert (named.format.format, plain.format.format) == ("role_swap", "user_role")
    assert named.fingerprint != plain.fingerprint
