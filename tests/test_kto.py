"""KTO: the batch's own divergence, the same however a batch is cut, and runs on rated rows and on rated samples."""

import json
import signal
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from test_loop import same_run
from tiny import (
    answered_records,
    command_line,
    in_process,
    pair_records,
    prompt_records,
    read_jsonl,
    saved,
    tiny_llama,
    tiny_world,
    weights_of,
    write_followups,
    write_jsonl,
)
from torch import Tensor

from uptake import methods
from uptake.errors import InputError
from uptake.examples.rated import RatedRows
from uptake.losses.unpaired import KTO
from uptake.models import LanguageModel, branches
from uptake.objective import Unpaired, mismatched
from uptake.reference import Given, RunningReference
from uptake.signal.thresholds import Thresholds
from uptake.tasks.check import check
from uptake.train.loop import run
from uptake.types import Dropped, Judgement, Labeled, Prompt, Rollout, RoundData, Turn
from uptake.update import Optimization, build_optimizer, optimizer_step, trainable

FAST: dict[str, Any] = {"lr": 1e-2, "batch_size": 4, "warmup": 0, "epochs": 6, "micro_tokens": 40}
BETA, GOOD_WEIGHT, BAD_WEIGHT = 0.05, 1.5, 0.8
KERNEL = KTO(BETA, GOOD_WEIGHT, BAD_WEIGHT)


def rated_records(count: int, seed: int = 0) -> list[dict[str, Any]]:
    return [{**record, "label": index % 3 > 0} for index, record in enumerate(answered_records(count, seed))]


def models(swapped: bool = False, dtype: torch.dtype = torch.float64) -> tuple[LanguageModel, RunningReference]:
    """Two models that differ; which one is the policy decides the sign of the divergence."""
    policy, other = (tiny_llama(seed, dtype) for seed in ((1, 0) if swapped else (0, 1)))
    return policy, Given().start(tiny_world(Path("unused"), [], policy, models={"reference": other}))


def examples(lm: LanguageModel, count: int = 7) -> list[Labeled]:
    world = tiny_world(Path("unused"), rated_records(count), lm)
    found: Sequence[Labeled] = RatedRows()(world, 0).examples
    return list(found)


def rollout(prompt: Sequence[int], response: Sequence[int], key: str = "", **changes: Any) -> Rollout:
    options: dict[str, Any] = {"response": "at eight .", "finished": True, **changes}
    return Rollout(Prompt((), key), tuple(prompt), tuple(response), **options)


def ratio_by_hand(lm: LanguageModel, reference: Any, prompt: Sequence[int], response: Sequence[int]) -> Tensor:
    ids = torch.tensor([[*prompt, *response]])

    def logp(model: Any) -> Tensor:
        table = model(input_ids=ids).logits[0, :-1].log_softmax(-1).gather(1, ids[0, 1:, None])
        total: Tensor = table[len(prompt) - 1 :].sum()
        return total

    with torch.no_grad():
        base = logp(reference.lm.base)
    return logp(lm.base) - base


@pytest.mark.parametrize("swapped", [False, True])
def test_the_loss_is_that_of_plain_rows(swapped: bool) -> None:
    lm, reference = models(swapped)
    batch = examples(lm)
    ratios = [
        ratio_by_hand(lm, reference, side.prompt_ids, batch[index - 1].response_ids).detach()
        for index, side in enumerate(batch)
    ]
    divergence = max(0.0, float(torch.stack(ratios).mean()))
    total = torch.zeros((), dtype=torch.float64)
    for each in batch:
        ahead = ratio_by_hand(lm, reference, each.prompt_ids, each.response_ids) - divergence
        sign, weight = (1, GOOD_WEIGHT) if each.good else (-1, BAD_WEIGHT)
        total = total + weight * (1 - torch.sigmoid(BETA * sign * ahead))
    loss = Unpaired(KERNEL)(lm, reference, batch)
    torch.testing.assert_close(loss.total, total, atol=1e-5, rtol=1e-6)
    assert float(loss.metrics["reference_point"]) / 7 == pytest.approx(divergence, abs=1e-5)
    ours, by_hand = (torch.autograd.grad(each, [*trainable(lm).values()]) for each in (loss.total, total))
    for one, two in zip(ours, by_hand, strict=True):
        torch.testing.assert_close(one, two, atol=1e-5, rtol=1e-4)


def test_the_divergence_is_at_least_zero() -> None:
    """One of the two directions is below zero, or the test above would not see the limit."""
    losses = [Unpaired(KERNEL)(*models(swapped), examples(models()[0])) for swapped in (False, True)]
    found = [float(loss.metrics["reference_point"]) for loss in losses]
    assert min(found) == 0.0 < max(found)


@pytest.mark.parametrize("swapped", [False, True])
def test_a_prompt_without_a_partner_does_not_count(swapped: bool) -> None:
    """The divergence is a mean over the prompts that meet another response, and not over the whole batch."""
    lm, reference = models(swapped)
    window = lm.window or 0
    # Its response of one token fits after every prompt, but none fits after its own.
    long = Labeled((5,) * (window - 1), (6,), good=True)
    batch = [*examples(lm, 3), long]
    assert len(mismatched(batch, window)) == 3
    sides = [(batch[0], long), *((batch[index], batch[index - 1]) for index in (1, 2))]
    ratios = [ratio_by_hand(lm, reference, one.prompt_ids, two.response_ids).item() for one, two in sides]
    found = Unpaired(KERNEL)(lm, reference, batch).metrics["reference_point"]
    assert float(found) / 4 == pytest.approx(max(0.0, sum(ratios) / 3), abs=1e-5)


def stepped(budget: int, swapped: bool) -> tuple[dict[str, float], dict[str, Tensor]]:
    lm, reference = models(swapped)
    settings = Optimization(lr=1e-2, micro_tokens=budget)
    optimizer = build_optimizer(settings, trainable(lm).values())
    metrics = optimizer_step(lm, reference, Unpaired(KERNEL), examples(lm), optimizer, settings)
    return metrics, weights_of(lm)


@pytest.mark.parametrize("swapped", [False, True])
@pytest.mark.parametrize("budget", [1, 25, 60])
def test_micro_batches_add_up_to_the_big_batch(budget: int, swapped: bool) -> None:
    whole, weights = stepped(10**6, swapped)
    cut, others = stepped(budget, swapped)
    assert whole == pytest.approx(cut, abs=1e-12)
    for name, weight in weights.items():
        torch.testing.assert_close(weight, others[name], atol=1e-12, rtol=0)
    start = weights_of(models(swapped)[0])
    assert any((weight - start[name]).abs().max() > 1e-3 for name, weight in weights.items())


def test_the_divergence_is_that_of_the_batch() -> None:
    """An example alone knows no other prompt, and so none."""
    lm, reference = models()
    batch = examples(lm)
    alone = [Unpaired(KERNEL)(lm, reference, [each]) for each in batch]
    together = Unpaired(KERNEL)(lm, reference, batch)
    assert [float(loss.metrics["reference_point"]) for loss in alone] == [0.0] * 7
    assert abs(sum(float(loss.metrics["loss"]) for loss in alone) - float(together.metrics["loss"])) > 1e-3
    assert not together.metrics["reference_point"].requires_grad


def test_rewards_are_means_over_their_own_kind() -> None:
    lm, reference = models()
    batch = examples(lm)
    metrics, _ = stepped(30, swapped=False)
    for name, good in (("good_reward", True), ("bad_reward", False)):
        ratios = [
            ratio_by_hand(lm, reference, each.prompt_ids, each.response_ids).item()
            for each in batch
            if each.good == good
        ]
        assert metrics[name] == pytest.approx(BETA * sum(ratios) / len(ratios), abs=1e-5)
    only = Unpaired(KERNEL)(lm, reference, [each for each in batch if each.good]).metrics
    assert "good_reward" in only
    assert "bad_reward" not in only


def test_a_policy_that_equals_its_reference() -> None:
    lm, _ = models()
    reference = Given().start(tiny_world(Path("unused"), [], lm, models={"reference": models()[0]}))
    batch = examples(lm)
    metrics = Unpaired(KTO(2.0))(lm, reference, batch).metrics
    assert float(metrics["loss"]) == pytest.approx(0.5 * len(batch), abs=1e-6)
    assert float(metrics["reference_point"]) == pytest.approx(0.0, abs=1e-6)


def test_only_good_examples_still_learn() -> None:
    """With one kind only the loss is that kind's, and a step lowers it."""
    lm, reference = models()
    batch = [replace(each, good=True) for each in examples(lm)]
    settings = Optimization(lr=1e-3)
    optimizer = build_optimizer(settings, trainable(lm).values())
    first, *_, last = (optimizer_step(lm, reference, Unpaired(KERNEL), batch, optimizer, settings) for _ in range(6))
    assert last["loss"] < first["loss"] < GOOD_WEIGHT
    assert last["good_reward"] > first["good_reward"]


# --- which response stands in for another -----------------------------------------------------------------------------


def test_every_prompt_meets_the_response_before_it() -> None:
    batch = [Labeled((number,), (number, 9), good=True) for number in range(1, 5)]
    met = ((1, 4), (2, 1), (3, 2), (4, 3))
    assert mismatched(batch) == [branches((number,), (before, 9)) for number, before in met]


def test_responses_to_the_same_prompt_do_not_count_as_others() -> None:
    one, same, other = ((1,), (5,)), ((1,), (6,)), ((2,), (7,))
    batch = [Labeled(*each, good=True) for each in (one, same, other)]
    assert mismatched(batch) == [branches((1,), (7,)), branches((1,), (7,)), branches((2,), (6,))]
    assert mismatched(batch[:2]) == []


def test_a_response_that_does_not_fit_the_window_is_passed_over() -> None:
    short, wide, long = ((1,), (5,)), ((2, 2, 2), (6,)), ((3,), (7, 7, 7))
    batch = [Labeled(*each, good=True) for each in (short, wide, long)]
    assert mismatched(batch, window=4) == [branches((1,), (7, 7, 7)), branches((2, 2, 2), (5,)), branches((3,), (6,))]
    assert mismatched([batch[1], batch[2]], window=4) == [branches((3,), (6,))]


# --- from scores to labels --------------------------------------------------------------------------------------------


def labeled(signal: Thresholds, rollouts: Sequence[Rollout], judgements: Sequence[Judgement]) -> RoundData:
    """Responses to prompts of their own."""
    return signal([(each,) for each in rollouts], [(each,) for each in judgements])


def test_thresholds_at_their_boundaries() -> None:
    scores = [0.29, 0.3, 0.31, 0.69, 0.7, 0.71]
    rollouts = [rollout((index,), (index, 9), str(index)) for index in range(6)]
    found = labeled(Thresholds(0.3, 0.7), rollouts, [Judgement(score) for score in scores])
    assert [(each.prompt_ids[0], each.good) for each in found.examples] == [
        (0, False),
        (1, False),
        (4, True),
        (5, True),
    ]
    counts = {"unfinished": 0, "between the thresholds": 2}
    labels = {"low": 0.3, "high": 0.7, "good": 2, "bad": 2}
    assert found.summary == {"prompts": 6, "samples": 6, **labels, "dropped": counts}


def test_thresholds_as_quantiles() -> None:
    """The quantiles are those of the scores that can be used, and move with them."""
    rollouts = [rollout((index,), (index, 9), str(index)) for index in range(6)]
    judgements = [Judgement(score) for score in (3.0, 0.0, 1.0, 4.0, 2.0)] + [Judgement(-9.0, reason=Dropped.FAILED)]
    signal = Thresholds(0.25, 0.75, "quantile")
    found = labeled(signal, rollouts, judgements)
    assert [(each.prompt_ids[0], each.good) for each in found.examples] == [
        (0, True),
        (1, False),
        (2, False),
        (3, True),
    ]
    assert (found.summary["low"], found.summary["high"]) == (1.0, 3.0)
    moved = labeled(signal, rollouts, [replace(each, score=7 * each.score - 5) for each in judgements])
    assert moved.examples == found.examples
    alike = labeled(signal, rollouts, [Judgement(2.0)] * 6)
    assert (alike.examples, alike.summary["dropped"]["between the thresholds"]) == ((), 6)
    assert labeled(signal, rollouts, [judgements[5]] * 6).examples == ()


def test_thresholds_drop_what_cannot_be_labeled() -> None:
    cut = rollout((1,), (2,), finished=False)
    judgements = [Judgement(1.0), Judgement(5.0, reason=Dropped.FAILED), Judgement(float("nan")), Judgement(1.0)]
    rollouts = [rollout((1,), (2,)), rollout((1,), (3,)), rollout((1,), (4,)), cut]
    found = labeled(Thresholds(-1.0, 1.0), rollouts, judgements)
    assert found.summary["dropped"] == {
        "unfinished": 1,
        "the reward failed": 1,
        "not a finite number": 1,
        "between the thresholds": 0,
    }
    assert [tuple(each.response_ids) for each in found.examples] == [(2,)]
    assert len(labeled(Thresholds(-1.0, 1.0, keep_unfinished=True), rollouts, judgements).examples) == 2


def test_thresholds_on_length_residuals() -> None:
    """Over the whole round: scores that are lengths label nothing, and what is beside them labels alone.

    Lengths 1 to 4 and scores 1, 2, 3, 4 with (1, -1, -1, 1) on top, which no line explains any of.
    """
    rollouts = [replace(rollout((index,), (9,), str(index)), response="a" * (index + 1)) for index in range(4)]
    signal = Thresholds(0.25, 0.75, "quantile", length_residual=True)
    found = labeled(signal, rollouts, [Judgement(float(index)) for index in range(4)])
    assert (found.examples, found.summary["dropped"]["between the thresholds"]) == ((), 4)
    beside = [1.0, -1.0, -1.0, 1.0]
    found = labeled(signal, rollouts, [Judgement(index + each) for index, each in enumerate(beside)])
    assert [each.good for each in found.examples] == [True, False, False, True]


@pytest.mark.unchecked
@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ((1.0, 1.0), "field 'low': 1.0 .*a number below high"),
        ((2.0, 1.0), "field 'low'"),
        ((float("nan"), 1.0), "field 'low'"),
        ((-0.1, 0.5, "quantile"), "field 'low': -0.1 .*a quantile from 0 to 1"),
        ((0.5, 1.1, "quantile"), "field 'high': 1.1 "),
        ((0.2, 0.5, "rank"), "field 'threshold_unit': 'rank' .*score, quantile"),
    ],
)
def test_thresholds_out_of_their_range(settings: Any, message: str) -> None:
    with pytest.raises(InputError, match=message):
        Thresholds(*settings)


def test_rated_rows_and_preferences_are_labeled_alike(tmp_path: Path) -> None:
    world = tiny_world(tmp_path, [*rated_records(3), *pair_records(2)])
    found = RatedRows()(world, 0)
    assert [each.good for each in found.examples] == [False, True, True, True, False, True, False]
    record = pair_records(2)[0]
    turns = (Turn("user", record["prompt"]),)
    expected = [world.chat.response_ids(turns, record[side])[1] for side in ("chosen", "rejected")]
    assert [tuple(each.response_ids) for each in found.examples[3:5]] == expected
    # The first rows of both kinds have one prompt.
    assert found.summary == {
        "prompts": 4,
        "samples": 7,
        "good": 4,
        "bad": 3,
        "dropped": {"equal responses": 0, "unfinished": 0},
    }
    for records in (answered_records(1), prompt_records(1)):
        world = tiny_world(tmp_path, records)
        with pytest.raises(InputError, match=r"no response of this row is rated .*completion and label"):
            RatedRows()(world, 0)


# --- whole runs -------------------------------------------------------------------------------------------------------


def test_kto_from_rated_rows(tmp_path: Path) -> None:
    run(methods.build("kto", FAST), tiny_world(tmp_path / "run", rated_records(8)))
    first, *_, last = read_jsonl(tmp_path / "run" / "metrics.jsonl")
    assert first["loss"] == pytest.approx(0.5, abs=1e-5)
    assert last["loss"] < 0.45
    assert last["good_reward"] > last["bad_reward"]
    summary = json.loads((tmp_path / "run" / "rounds" / "0-0" / "summary.json").read_text())
    assert (summary["good"], summary["bad"]) == (5, 3)


def test_kto_from_follow_ups(tmp_path: Path) -> None:
    options = {"followups": str(write_followups(tmp_path)), "n": 4, "temperature": 1.0, "top_p": 1.0}
    more = {"max_new_tokens": 8, "keep_unfinished": True, "rounds": 2, "epochs": 1, "lr": 1e-4}
    run(methods.build("flr_kto", {**FAST, **options, **more}), tiny_world(tmp_path / "run", prompt_records(6)))
    for number in range(2):
        summary = json.loads((tmp_path / "run" / "rounds" / f"0-{number}" / "summary.json").read_text())
        assert summary["samples"] == 24 == summary["good"] + summary["bad"] + sum(summary["dropped"].values())
        assert min(summary["good"], summary["bad"], summary["dropped"]["between the thresholds"]) > 0


def test_the_preflight_of_rated_rows(tmp_path: Path) -> None:
    recipe = methods.build("kto", {"desirable_weight": 2.0})
    facts = dict(check(recipe, tiny_world(tmp_path, rated_records(4))).facts)
    assert facts["loss before step 1"] == "0.500000, 1.000000"


def test_killed_and_resumed_from_the_command_line(tmp_path: Path) -> None:
    data = write_jsonl(tmp_path / "rated.jsonl", rated_records(12))
    policy = saved(tiny_llama(), tmp_path / "policy")
    options = [f"--set={name}={value}" for name, value in {**FAST, "epochs": 2}.items()]
    given = ["train", "kto", "--policy", str(policy), "--data", str(data), "--save-every", "2", *options]
    assert in_process(command_line, [*given, "--out", str(tmp_path / "whole")]) == 0
    arguments = [*given, "--out", str(tmp_path / "run")]
    moment = ("open", "00000004.partial/manifest.json", 1)
    assert in_process(command_line, arguments, moment) == -signal.SIGKILL
    assert in_process(command_line, [*arguments, "--resume"]) == 0
    assert same_run(tmp_path / "run", tmp_path / "whole")
    assert (tmp_path / "whole" / "report.html").exists()
