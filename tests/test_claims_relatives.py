"""The claims about relatives: their arms can be built, cost what is said, and share what is the same."""

from math import ceil
from pathlib import Path
from statistics import fmean
from typing import Any

import pytest
import torch
from claims.claim import Arm, Trial
from claims.family import online, relatives, relatives_online
from claims.runner import candidates
from claims.store import Job
from claims.work import policy
from claims.work import relatives as work
from claims.work import town as town_work

from uptake import load, methods
from uptake.data import ChatFormat
from uptake.methods.town_model import init_town_model
from uptake.models import save_model
from uptake.town import Town
from uptake.types import Answered, Preference, Prompt, Turn

ARMS = {arm.name: arm for claim in relatives.claims() for arm in claim.arms}
TRAINED = [name for name, arm in ARMS.items() if "method" in arm.options]


def digests(arm: Arm) -> set[str]:
    return {Job(arm, candidate, 0, "held out").digest for candidate in arm.candidates}


@pytest.fixture
def start(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A model with random weights in place of the one that has learned the town, and few questions to ask it."""
    lm, path = init_town_model(0, width=32, layers=2), tmp_path / "start"
    save_model(lm, ChatFormat.of(lm).template, path)
    monkeypatch.setenv("CLAIMS", str(tmp_path / "claims"))
    for module in (work, town_work, policy):
        monkeypatch.setattr(module, "start", lambda learn: path)
        monkeypatch.setattr(module, "tested_on", lambda questions: Town().questions(6, 0, "heldout"))
    monkeypatch.setattr(work, "_own", policy._of_the_town)
    return path


@pytest.mark.parametrize("name", TRAINED)
def test_every_candidate_is_a_recipe(name: str) -> None:
    arm = ARMS[name]
    for candidate in arm.candidates:
        options = {**arm.options, **candidate}
        settings = work._prompts(options, 0)[1] if options.get("data", {}).get("kind") == "prompts" else None
        assert methods.build(options["method"], settings or dict(options["settings"])).stages


def test_arms_of_one_name_are_one_arm_and_others_are_others() -> None:
    for claim in relatives.claims():
        for arm in claim.arms:
            assert digests(arm) == digests(ARMS[arm.name]), arm.name
    every = [digest for arm in ARMS.values() for digest in digests(arm)]
    assert len(every) == len(set(every))


def test_online_dpo_is_the_one_that_other_claims_are_about() -> None:
    known = {arm.name: arm for claim in online.by_age() for arm in claim.arms}
    for each in (1, 16):
        mine = relatives_online.one_round(each)
        assert digests(mine) == digests(known[mine.name])


def test_both_sides_choose_from_as_many_rates_where_the_claim_does_not_say_otherwise() -> None:
    for claim in relatives.claims():
        if "candidates" not in claim.apart:
            assert len({len(candidates(arm)) for arm in claim.arms}) == 1, claim.sentence


def test_batches_of_rated_answers_make_the_steps_that_dpo_takes(start: Path) -> None:
    options: dict[str, Any] = {"data": {"kind": "rated", "each": 2, "steps": 26}, "settings": {"epochs": 2}}
    for method in ("filtering_alignment", "reward_weighted_regression"):
        rows, settings, given = work._rated({**options, "method": method}, 0)
        town = Town()
        rewards = []
        for row in rows:
            assert isinstance(row, Answered)
            rewards.append(row.prompt.extra["reward"])
            assert rewards[-1] == town.quality((*row.prompt.turns, Turn("assistant", row.response))).overall
        learned = [each for each in rewards if each > fmean(rewards)] if method == "filtering_alignment" else rewards
        assert 2 * ceil(len(learned) / settings["batch_size"]) == 26
        assert given == {"labels": 864, "samples": 864}


def test_few_labels_are_the_first_of_all_and_leave_the_other_questions(start: Path) -> None:
    data = {"kind": "pairs", "each": 4, "labels": 26}
    options: dict[str, Any] = {"data": data, "settings": {"epochs": 1}}
    every, *_ = work._pairs({**options, "data": {"kind": "pairs", "each": 4}}, 3)
    few, _, given = work._pairs(options, 3)
    rows, *_ = work._few(options, 3)
    assert list(few) == list(every[:26])
    assert given == {"labels": 26, "samples": 52}
    labeled = {row.prompt.key for row in rows if isinstance(row, Preference)}
    prompts = {row.key for row in rows if isinstance(row, Prompt)}
    assert not labeled & prompts
    assert len(labeled | prompts) == 432
    assert [row for row in rows if isinstance(row, Preference)] == list(few)


def test_a_policy_is_trained_once_and_moved_on_as_often_as_asked(start: Path, tmp_path: Path) -> None:
    data = {"kind": "pairs", "each": 2, "labels": 8}
    settings = {"batch_size": 4, "epochs": 2, "lr": 3e-2, "warmup": 0.0}
    options: dict[str, Any] = {"method": "dpo", "data": data, "settings": settings}
    trial = Trial(0, "held out", tmp_path / "trial")
    plain = work.relative(options, trial)
    assert plain.budget == {"labels": 8, "samples": 16, "steps": 4, "references": 0}
    trained = sorted((tmp_path / "claims" / "models").glob("*/run/model/model.safetensors"))
    before = [path.stat().st_mtime_ns for path in trained]
    none, back, on = (work.relative({**options, "alpha": alpha}, trial) for alpha in (0.0, -1.0, 2.0))
    assert [path.stat().st_mtime_ns for path in trained] == before
    assert sorted((tmp_path / "claims" / "models").glob("*/run/model/model.safetensors")) == trained
    assert none == plain
    assert back.values == work.relative({}, trial).values
    assert on.values["words"] != plain.values["words"] != back.values["words"]


def test_labels_are_those_that_the_oracle_gives_for_samples(start: Path, tmp_path: Path) -> None:
    settings = {"judge": {"oracle": {}}, "batch_size": 4, "steps": 2, "n": 4, "max_new_tokens": 8}
    options: dict[str, Any] = {"data": {"kind": "prompts"}, "settings": settings, "labels": 0.75}
    found = work.relative({"method": "online_self_preferring", **options}, Trial(0, "held out", tmp_path / "trial"))
    # Two prompts a step, four samples each, of which three are compared with the first.
    assert {name: found.budget[name] for name in ("samples", "labels")} == {"samples": 16, "labels": 12}


def test_responses_that_stand_in_rows_are_no_samples(start: Path, tmp_path: Path) -> None:
    settings = {"iterations": 2, "batch_size": 4, "max_new_tokens": 6, "keep_unfinished": True, "lr": 1e-3}
    options: dict[str, Any] = {"method": "spin", "data": {"kind": "answers", "answers": 6}, "settings": settings}
    found = work.relative(options, Trial(0, "held out", tmp_path / "trial"))
    # One sample beside each of the answers in both iterations, of which the second sees the pairs of the first again.
    assert {name: found.budget[name] for name in ("samples", "labels", "answers")} == {
        "samples": 12,
        "labels": 0,
        "answers": 6,
    }


def test_pairs_to_be_ranked_again_are_in_no_order(start: Path) -> None:
    rows, _, given = work._beside({"data": {"each": 4}, "settings": {}}, 2)
    texts = policy._of_the_town(4, 2)
    assert given == {"labels": 0, "samples": 1728}
    for row in rows:
        assert isinstance(row, Preference)
        assert (row.chosen, row.rejected) in zip(texts[row.prompt][::2], texts[row.prompt][1::2], strict=True)
        assert row.chosen != row.rejected
    assert len(rows) > 600


def test_digits_are_new_words_and_nothing_else(start: Path) -> None:
    plain, more = load(start), load(work._with_digits())
    asked = plain.tokenizer("when does the bakery open?")["input_ids"]
    assert more.tokenizer("when does the bakery open?")["input_ids"] == asked
    ids = more.tokenizer("open -1.25")["input_ids"]
    assert more.tokenizer.convert_ids_to_tokens(ids) == ["open", "-", "1", ".", "2", "5"]
    rows = plain.base.get_input_embeddings().weight
    assert torch.equal(more.base.get_input_embeddings().weight[: len(rows)], rows)
    assert len(more.tokenizer) == len(rows) + len(work.DIGITS)


def test_a_policy_that_was_never_taught_is_asked_of_every_question_in_both_orders(start: Path, tmp_path: Path) -> None:
    found = work.judging({}, Trial(0, "held out", tmp_path))
    names = {town_work.name(each.prompt) for each in Town().questions(6, 0, "heldout")}
    assert found.values["agreement"].keys() == names
    assert set(found.values["agreement"].values()) <= {0.0, 0.5, 1.0}
    assert all(0 < p < 1 for p in found.values["right"].values())
