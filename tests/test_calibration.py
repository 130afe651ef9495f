"""Calibration against numbers worked out by hand, scikit-learn, and data planted with the answer."""

import json
from dataclasses import replace
from math import log
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from scipy.special import expit
from sklearn.linear_model import LogisticRegression
from tiny import FOLLOWUPS, pair_records, saved, tiny_llama, write_followups, write_jsonl
from tiny_cli import Cli

from uptake.data import preferences
from uptake.data.rows import to_row
from uptake.errors import InputError
from uptake.evaluate.item_analysis import by_effect, item_analysis
from uptake.evaluate.reliability import reliability
from uptake.follow_up.calibration import (
    Calibrate,
    Floats,
    LabeledPairs,
    gains,
    logistic,
    prune,
    temperature,
    thresholds,
    weighted,
)
from uptake.follow_up.combine import Combine
from uptake.follow_up.reward import FollowUpReward
from uptake.follow_up.set import Calibration, Category, FollowUpSet
from uptake.models import LanguageModel
from uptake.tasks.calibrate import calibrate_file, label
from uptake.tasks.demo import town_followups
from uptake.types import Preference, Turn

# Two categories, of weights 3 and 1; columns: + + - | + - -.
PAIR = FollowUpSet(
    "pair", 1, "en", (Category("a", 3.0, ("p1", "p2"), ("n1",)), Category("b", 1.0, ("p3",), ("n2", "n3")))
)


def flat(positive: int, negative: int) -> FollowUpSet:
    sides = tuple(f"p{i}" for i in range(positive)), tuple(f"n{i}" for i in range(negative))
    return FollowUpSet("flat", 1, "en", (Category("all", 1.0, *sides),))


def pairs_of(followups: FollowUpSet, chosen: Any, rejected: Any, prompts: Any = None) -> LabeledPairs:
    tables = [np.array(table, dtype=np.float64) for table in (chosen, rejected)]
    keys = tuple(map(str, range(len(tables[0])) if prompts is None else prompts))
    return LabeledPairs(followups, tables[0], tables[1], keys)


def planted(followups: FollowUpSet, truth: list[float], count: int, seed: int = 0) -> LabeledPairs:
    """Pairs of random log-probabilities, labeled after Bradley and Terry: p = sigma(difference @ truth)."""
    rng = np.random.default_rng(seed)
    one, other = rng.normal(-5, 1, size=(2, count, len(truth)))
    first = rng.random(count) < expit((one - other) @ np.array(truth))
    return pairs_of(followups, np.where(first[:, None], one, other), np.where(first[:, None], other, one))


def combined(followups: FollowUpSet, logps: Floats) -> Floats:
    total: Floats = Combine(followups)(torch.tensor(logps)).total.numpy()
    return total


# Sets with weights.


def test_sets_without_weights_are_as_they_were() -> None:
    assert FollowUpSet.load().fingerprint == "97524461ccfe394e"
    assert town_followups().fingerprint == "c7809f197cbe8775"
    assert set(FollowUpSet.load().weights) == {1.0}


def test_a_weight_multiplies_its_follow_up_by_hand() -> None:
    """a: (2 * -1 + 1 * -2) / 2 + 0.5 * 4 = 0; b: -1 + (6 * 2 + 0 * 6) / 2 = 5; total (3 a + b) / 4."""
    a, b = PAIR.categories
    weights = replace(PAIR, categories=(replace(a, weights=(2.0, 1.0, 0.5)), replace(b, weights=(1.0, 6.0, 0.0))))
    logps = torch.tensor([[-1.0, -2.0, -4.0, -1.0, -2.0, -6.0]])
    rewards = Combine(weights)(logps)
    assert [column.item() for column in rewards.by_category.values()] == [0.0, 5.0]
    assert rewards.total.item() == 1.25
    assert Combine(weights, form="fed")(logps).by_category["a"].item() == -4.0 + 2.0
    full = Combine(weights, form="full")(torch.full((1, 6), -log(2.0)))
    assert full.by_category["b"].item() == pytest.approx((6 * 2 + 0 * 2) / 2)


@pytest.mark.parametrize("suffix", [".yaml", ".json"])
def test_a_saved_set_comes_back(tmp_path: Path, suffix: str) -> None:
    a, b = PAIR.categories
    made = Calibration(temperature=0.25, low=-1.0, high=0.5, precision=0.9, source="x", pairs=7)
    whole = replace(PAIR, categories=(replace(a, weights=(0.5, 2.0, 1.0)), b), calibration=made)
    for number, each in enumerate((whole, PAIR, FollowUpSet.load())):
        each.save(tmp_path / f"{number}{suffix}")
        assert FollowUpSet.load(tmp_path / f"{number}{suffix}", strict=True) == each
    with pytest.raises(InputError, match="exists"):
        PAIR.save(tmp_path / f"0{suffix}")
    with pytest.raises(InputError, match=r"\.yaml, \.yml, \.json"):
        PAIR.save(tmp_path / "set.txt")


def test_the_fingerprint_is_of_what_rewards_depend_on(tmp_path: Path) -> None:
    a, b = PAIR.categories
    heavy = replace(PAIR, categories=(replace(a, weights=(0.5, 2.0, 1.0)), b))
    assert heavy.fingerprint != PAIR.fingerprint
    assert replace(PAIR, calibration=Calibration(temperature=0.5)).fingerprint == PAIR.fingerprint
    path = tmp_path / "ones.yaml"
    path.write_text(FOLLOWUPS.replace('"thanks ."', '{text: "thanks .", weight: 1}'))
    plain = write_followups(tmp_path)
    assert FollowUpSet.load(path) == FollowUpSet.load(plain)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ('"thanks ."', '{text: "thanks .", weight: -1}', r"categories\.correctness\.positive\.0.*weight -1"),
        ('"thanks ."', '{text: "thanks .", wieght: 1}', r"positive\.0.*text, or {text: ..., weight: ...}"),
        ('"thanks ."', '{text: "thanks .", weight: true}', r"positive\.0.*text, or {text: ..., weight: ...}"),
        ('"thanks ."', '{text: " ", weight: 2}', r"positive\.0.*empty"),
        ("version: 1", "version: 1\ncalibration: {temperature: 0}", r"calibration\.temperature"),
        ("version: 1", "version: 1\ncalibration: {low: 1, high: 1}", r"both good and bad"),
        ("version: 1", "version: 1\ncalibration: {hihg: 1}", r"unknown key.*low, high, precision"),
    ],
)
def test_what_is_not_in_the_format_is_refused(tmp_path: Path, old: str, new: str, message: str) -> None:
    path = tmp_path / "set.yaml"
    path.write_text(FOLLOWUPS.replace(old, new))
    with pytest.raises(InputError, match=message):
        FollowUpSet.load(path)


def test_weights_have_to_fit_their_follow_ups() -> None:
    for weights in ((1.0,), (1.0, 1.0, -1.0)):
        with pytest.raises(InputError, match=r"categories\.a\.weights"):
            replace(PAIR.categories[0], weights=weights)


def test_thresholds_include_their_boundary() -> None:
    between = Calibration(low=-1.0, high=0.5)
    assert [between.label(reward) for reward in (-1.1, -1.0, -0.9, 0.4, 0.5, 0.6)] == [
        *(False, False, None),
        *(None, True, True),
    ]
    assert [Calibration(high=0.5).label(reward) for reward in (-9.0, 0.5)] == [None, True]


# Rewards as a linear function of log-probabilities.


@pytest.mark.parametrize("followups", [PAIR, FollowUpSet.load(), flat(0, 3)])
def test_gains_are_what_the_reward_is_made_of(followups: FollowUpSet) -> None:
    logps = np.random.default_rng(0).normal(-4, 1, size=(5, len(followups.sentences)))
    assert logps @ gains(followups) == pytest.approx(combined(followups, logps))


@pytest.mark.parametrize(
    "counts", [[1, 2, 3, 4, 5, 6], [0, 2, 0, 0.5, 0, 0], [0, 0, 0, 0, 0, 3], [1, 1, 2, 1, 0.5, 0.5]]
)
def test_a_weighted_set_counts_as_it_should(counts: list[float]) -> None:
    """Its reward is 2 * counts / sum of the signed log-probabilities, follow-ups that count nothing left out."""
    logps = np.random.default_rng(1).normal(-4, 1, size=(9, 6))
    made = weighted(PAIR, np.array(counts, dtype=np.float64))
    kept = [column for column, count in enumerate(counts) if count]
    assert list(made.sentences) == [PAIR.sentences[column] for column in kept]
    expected = logps @ (np.array([1, 1, -1, 1, -1, -1]) * np.array(counts)) * 2 / sum(counts)
    assert combined(made, logps[:, kept]) == pytest.approx(expected, abs=2e-3)
    assert sum(category.weight for category in made.categories) == pytest.approx(len(made.categories), rel=1e-3)


def test_equal_counts_are_weights_of_one() -> None:
    made = weighted(PAIR, np.array([1, 1, 2, 1, 0.5, 0.5]))
    assert [category.weight for category in made.categories] == pytest.approx([4 / 3, 2 / 3], rel=1e-3)
    assert made.weights == (1.0,) * 6


# The fit.


def test_logistic_weights_are_those_of_scikit_learn() -> None:
    """The smoothed label is a weight of n + 1 on the one label and of 1 on the other."""
    pairs = planted(flat(3, 1), [1.0, 0.5, 0.3, -0.7], 200)
    features, penalty = pairs.differences, 0.05
    label = 201 / 202
    reference = LogisticRegression(C=1 / (penalty * 200), fit_intercept=False, tol=1e-10, max_iter=1000)
    reference.fit(np.tile(features, (2, 1)), [1] * 200 + [0] * 200, np.repeat([label, 1 - label], 200))
    assert (reference.coef_ > 0.05).all()
    assert logistic(features, penalty) == pytest.approx(reference.coef_[0], abs=1e-4)


def test_a_weight_that_would_be_negative_is_nothing() -> None:
    features = planted(flat(3, 0), [1.0, -1.0, 0.5], 400).differences
    weights = logistic(features, 0.01)
    assert weights[1] == 0
    assert weights[[0, 2]] == pytest.approx(logistic(features[:, [0, 2]], 0.01), abs=1e-4)


def test_planted_weights_are_recovered() -> None:
    """A complaint whose truth is 0.5 counts against a response; the noise columns count little."""
    truth = [1.5, 0.75, 0.0, -0.5, 0.0]
    pairs = planted(flat(3, 2), truth, 6000)
    counts = prune(pairs, "followup", 1e-3, [5])[5]
    assert counts == pytest.approx(np.abs(truth), abs=0.08)
    assert np.argsort(-counts)[:3].tolist() == [0, 1, 3]


def test_pruning_leaves_what_was_planted() -> None:
    followups = flat(8, 8)
    truth = np.zeros(16)
    truth[[2, 5]], truth[11] = 1.5, -1.5
    pairs = planted(followups, truth.tolist(), 600)
    found = prune(pairs, "followup", 1e-2, [16, 8, 3])
    assert np.flatnonzero(found[3]).tolist() == [2, 5, 11]
    assert np.count_nonzero(found[8]) <= 8
    by_category = prune(pairs, "category", 1e-2, [16, 3])[3]
    spread = np.sqrt((pairs.differences**2).mean(axis=0))
    assert np.ptp((by_category * spread)[[2, 5, 11]]) == pytest.approx(0)


def test_what_a_set_mutes_stays_out() -> None:
    muted = replace(PAIR, categories=(PAIR.categories[0], replace(PAIR.categories[1], weight=0.0)))
    pairs = planted(muted, [1.0, 1.0, -1.0, 3.0, -3.0, -3.0], 200)
    assert np.flatnonzero(prune(pairs, "followup", 1e-2, [3])[3]).tolist() == [0, 1, 2]


# Temperature, thresholds, reliability.


def test_temperature_by_hand() -> None:
    """Margins of 2 and -2, 30 and 10 times: the smoothed share of right ones is (30 * 41 + 10 * 1) / (40 * 42)."""
    right = (30 * 41 + 10 * 1) / (40 * 42)
    margins = np.array([2.0] * 30 + [-2.0] * 10)
    assert temperature(margins) == pytest.approx(2 / log(right / (1 - right)), rel=1e-4)
    assert temperature(1000 * margins) == pytest.approx(1000 * temperature(margins), rel=1e-4)


@pytest.mark.parametrize("truth", [0.02, 0.7, 30.0])
def test_temperature_of_bradley_terry_labels_is_recovered(truth: float) -> None:
    rng = np.random.default_rng(2)
    difference = rng.normal(0, 2 * truth, 6000)
    labels = np.where(rng.random(6000) < expit(difference / truth), 1, -1)
    assert temperature(labels * difference) == pytest.approx(truth, rel=0.06)


def test_temperature_refuses_what_says_nothing() -> None:
    with pytest.raises(InputError, match="all rewards are equal"):
        temperature(np.zeros(30))
    with pytest.raises(InputError, match="no better than chance"):
        temperature(np.array([1.0, -1.0, -1.0]))


def test_thresholds_by_hand(monkeypatch: pytest.MonkeyPatch) -> None:
    """Good are 9, 8, one of two 7s, 6, 5: 4 of 5 from 6 up, all from 8 up; bad are 4 of 5 from 5 down, all from 3."""
    rewards = np.array([9.0, 8, 7, 7, 6, 5, 3, 2, 1, 1])
    good = np.array([1, 1, 1, 0, 1, 1, 0, 0, 0, 0], dtype=bool)
    assert thresholds(rewards[[0, 8]], good[[0, 8]], 0.9) == (None, None)
    monkeypatch.setattr("uptake.follow_up.calibration.LEAST_LABELS", 3)
    assert thresholds(rewards, good, 0.81) == (3.0, None)
    monkeypatch.setattr("uptake.follow_up.calibration.LEAST_LABELS", 2)
    assert thresholds(rewards, good, 0.8) == (5.0, 6.0)
    assert thresholds(rewards, good, 0.81) == (3.0, 8.0)
    # Nothing above the median 5.5 is taken for bad, however low the precision.
    assert thresholds(rewards, good, 0.1) == (5.0, 6.0)
    mirrored = thresholds(-rewards, ~good, 0.8)
    assert mirrored == (-6.0, -5.0)


@pytest.mark.parametrize(
    ("rewards", "good", "message"),
    [([1.0, 2.0], [True, True], "good, or all bad"), ([1.0, 1.0], [True, False], "all rewards are equal")],
)
def test_thresholds_need_two_classes(rewards: list[float], good: list[bool], message: str) -> None:
    with pytest.raises(InputError, match=message):
        thresholds(np.array(rewards), np.array(good), 0.9)


def test_reliability_by_hand() -> None:
    """Sure by 0.52 and half right, by 0.9 and 0.92 and half right, by 1 and right."""
    found = reliability([0.52, 0.48, 0.9, 0.08, 1.0])
    assert [(each.p, each.right.rate, each.right.n) for each in found.bins] == [
        (pytest.approx(0.52), 0.5, 2),
        (pytest.approx(0.91), 0.5, 2),
        (1.0, 1.0, 1),
    ]
    assert found.error == pytest.approx((2 * 0.02 + 2 * 0.41 + 0) / 5)
    assert reliability([0.5]).error == 0
    for wrong in ([], [1.1]):
        with pytest.raises(InputError, match="field 'p'"):
            reliability(wrong)


# Items.


def test_items_by_hand() -> None:
    """Differences, signed: p1 1 1 -1 0; p2 2 2 -2 0; n1 3 -3 3 3; the category's rest of p1 is p2 / 2 + n1."""
    pairs = pairs_of(
        FollowUpSet("x", 1, "en", (Category("a", 1.0, ("p1", "p2"), ("n1",)), Category("b", 1.0, ("p3",), ()))),
        [[1, 2, 0, 5], [1, 2, 0, 5], [0, 0, 0, 5], [0, 0, 0, 5]],
        [[0, 0, 3, 5], [0, 0, -3, 5], [1, 2, 3, 5], [0, 0, 3, 5]],
    )
    p1, p2, n1, p3 = item_analysis(pairs)
    assert (p1.accuracy.rate, p1.even, p1.positive, p1.category, p1.dead) == (0.625, 0.25, True, "a", True)
    assert p1.effect == pytest.approx((1 / 4) / np.sqrt(3 / 4))
    rest = np.array([1, 1, -1, 0]) + np.array([3, -3, 3, 3])
    assert p1.with_category == pytest.approx((rest[0] + rest[1] - rest[2]) / np.sqrt(3) / np.linalg.norm(rest))
    assert p1.with_total == p1.with_category
    assert (n1.accuracy.rate, n1.positive, n1.effect) == (0.75, False, pytest.approx(6 / 4 / 3))
    assert (p3.accuracy.rate, p3.even, p3.effect, p3.with_category, p3.with_total) == (0.5, 1.0, None, None, None)
    assert [item.text for item in by_effect([p3, p1, n1])] == ["n1", "p1", "p3"]
    assert p2.effect == p1.effect


def test_informative_and_dead_follow_ups_are_told_apart() -> None:
    truth = [
        2.0,
        0.0,
        1.0,
        0.0,
        -2.0,
        0.0,
        2.0,
        -1.0,
    ]  # the seventh complains of what is good, the eighth of what is bad
    items = item_analysis(planted(flat(4, 4), truth, 500))
    assert [item.dead for item in items] == [False, True, False, True, False, True, False, False]
    assert items[6].accuracy.high < 0.5
    with pytest.raises(InputError, match="no pairs"):
        item_analysis(pairs_of(flat(1, 1), np.zeros((0, 2)), np.zeros((0, 2))))


# All of it.


def test_calibration_of_planted_pairs() -> None:
    """3 of 16 follow-ups tell; without weights, the noise of the others drowns them."""
    truth = np.zeros(16)
    truth[[2, 5]], truth[11] = 1.5, -1.5
    pairs = planted(flat(8, 8), truth.tolist(), 600)
    result = Calibrate()(pairs)
    assert {"p2", "p5", "n3"} <= set(result.followups.sentences)
    assert len(result.followups.sentences) <= 5
    share = {name: float((both[:, 0] > both[:, 1]).mean()) for name, both in result.rewards.items()}
    best = float((planted(flat(8, 8), truth.tolist(), 4000, seed=1).differences @ np.abs(truth) > 0).mean())
    assert share["pruned"] >= 0.99 * share["weighted"] > share["as given"] + 0.1
    assert share["pruned"] == pytest.approx(best, abs=0.04)
    plain = expit(result.rewards["pruned"] @ [1, -1])
    assert reliability(result.p.tolist()).error < 0.05
    assert reliability(plain.tolist()).error > 0.1
    # The truth is a log-odds of 1.5 a nat, and the counts of the pruned set add up to 2.
    assert result.calibration.temperature == pytest.approx(2 / 4.5, rel=0.2)
    assert (result.calibration.pairs, result.calibration.source) == (600, pairs.followups.fingerprint)
    assert result.followups.calibration == result.calibration
    again = Calibrate()(pairs)
    assert again.followups == result.followups
    assert Calibrate("category", size=7)(pairs).followups.weights != result.followups.weights


def test_a_prompt_is_not_fitted_and_measured_at_once() -> None:
    """Every pair stands four times under its prompt: whoever has seen one of them knows the others."""
    four = planted(flat(30, 30), [2.0] + [0.0] * 59, 40, seed=1).take(np.tile(np.arange(40), 4))
    told_apart = replace(four, prompts=tuple(map(str, range(160))))
    assert Calibrate(size=60)(four).accuracy[60] < 0.8
    assert Calibrate(size=60)(told_apart).accuracy[60] > 0.95


@pytest.mark.unchecked
@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"weighting": "sentence"}, "field 'weighting'.*followup, category"),
        ({"folds": 1}, "field 'folds'"),
        ({"keep": 0.0}, "field 'keep'"),
        ({"precision": 1.5}, "field 'precision'"),
        ({"size": 0}, "field 'size'.*1 to 2"),
        ({"size": 3}, "field 'size'.*1 to 2"),
        ({"folds": 30}, "40 prompts.*at least 60"),
    ],
)
def test_settings_out_of_range_are_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        Calibrate(**changes)(planted(flat(1, 1), [1.0, -1.0], 40))


def test_pairs_that_cannot_carry_a_fit_are_refused() -> None:
    with pytest.raises(InputError, match=r"19 pairs.*at least 20"):
        Calibrate()(planted(flat(1, 1), [1.0, -1.0], 19))
    one = planted(flat(1, 1), [1.0, -1.0], 40)
    with pytest.raises(InputError, match=r"1 prompts.*at least 10"):
        Calibrate()(replace(one, prompts=("same",) * 40))
    with pytest.raises(InputError, match="as likely after either"):
        Calibrate()(replace(one, rejected=one.chosen))
    with pytest.raises(InputError, match=r"no better than chance|no follow-up prefers|all rewards are equal"):
        Calibrate()(replace(one, chosen=one.rejected, rejected=one.chosen))
    with pytest.raises(InputError, match="no follow-up prefers"):
        weighted(PAIR, np.zeros(6))
    for table in (one.chosen[:, :1], np.full_like(one.chosen, np.nan)):
        with pytest.raises(InputError, match=r"field 'chosen'.*a row a pair"):
            replace(one, chosen=table)


# Files.


@pytest.fixture(scope="session")
def lm() -> LanguageModel:
    return tiny_llama(seed=1)


@pytest.fixture(scope="session")
def records(lm: LanguageModel, tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    """Pairs in the order that two of the six follow-ups would give them."""
    followups = FollowUpSet.load(write_followups(tmp_path_factory.mktemp("set")))
    rows = pair_records(60)
    table = label([row for row in map(to_row, rows) if isinstance(row, Preference)], FollowUpReward(lm, followups))
    better = table.differences[:, [1, 2]].sum(axis=1) > 0
    return [
        row if keep else {**row, "chosen": row["rejected"], "rejected": row["chosen"]}
        for row, keep in zip(rows, better, strict=True)
    ]


@pytest.fixture
def uptake(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Cli:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "200")
    return Cli(tmp_path, capsys, monkeypatch)


def test_a_file_of_pairs_makes_a_set_that_scores(
    tmp_path: Path, lm: LanguageModel, records: list[dict[str, Any]]
) -> None:
    pairs = preferences(map(to_row, records))
    followups = FollowUpSet.load(write_followups(tmp_path))
    out = tmp_path / "calibrated.yaml"
    report = calibrate_file(pairs, lm, followups, out)
    made = FollowUpSet.load(out, strict=True)
    assert {"it helped .", "wrong ."} <= set(made.sentences)
    assert (made.fingerprint, made.calibration) == (report.followups, report.calibration)
    assert report.accuracy["pruned"].plain.rate >= report.accuracy["as given"].plain.rate
    before, after = report.cost
    assert (before.count, after.count) == (6, len(made.sentences))
    words = [len(text.split()) for text in followups.sentences if text not in made.sentences]
    assert before.tokens - after.tokens == sum(words)
    first = records[0]
    dialogues = [[Turn("user", first["prompt"]), Turn("assistant", first[side])] for side in ("chosen", "rejected")]
    better, worse = FollowUpReward(lm, made).score(dialogues).rewards.tolist()
    assert better > worse
    written = json.loads((tmp_path / "calibrated.report.json").read_text())
    assert [item["text"] for item in written["items"]] == list(followups.sentences)
    assert written["calibration"]["temperature"] == report.calibration.temperature
    with pytest.raises(InputError, match="exists"):
        calibrate_file(pairs, lm, followups, out)


def test_the_command(uptake: Cli, tmp_path: Path, lm: LanguageModel, records: list[dict[str, Any]]) -> None:
    write_jsonl(tmp_path / "pairs.jsonl", [*records, {"prompt": "when ?"}])
    write_jsonl(tmp_path / "few.jsonl", records[:5])
    write_jsonl(tmp_path / "prompts.jsonl", [{"prompt": "when ?"}])
    model, followups = saved(lm, tmp_path / "model"), write_followups(tmp_path)
    ask = ("--model", model, "--followups", followups, "--out", "set.yaml")
    assert "5 pairs" in uptake.fails("calibrate", "few.jsonl", *ask)
    assert "prompts.jsonl:1" in uptake.fails("calibrate", "prompts.jsonl", *ask)
    said = uptake("calibrate", "pairs.jsonl", *ask, "--size", 2, "--drop-bad")
    assert said.splitlines()[-1].startswith("1 rows were left out: they cannot be used; the first: pairs.jsonl:")
    assert FollowUpSet.load("set.yaml").sentences == ("it helped .", "wrong .")
    for text in ("it helped . thanks .", "as given", "pruned", "calibration error", "2 follow-ups -> set.yaml"):
        assert text in said
    assert "exists" in uptake.fails("calibrate", "pairs.jsonl", *ask)
    write_jsonl(tmp_path / "pairs.jsonl", records)
    scored = uptake("score", "pairs.jsonl", "--model", model, "--followups", "set.yaml", "--out", "scored.jsonl")
    assert "100.0%" in scored
