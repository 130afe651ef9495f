"""Online AI feedback: the annotator's door, labels from probabilities, the exact optima, and the loop around them."""

import json
import math
import random
import signal
import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import fmean
from typing import Any

import pytest
import torch
from tiny import in_process, killer, prompt_records, read_jsonl, tiny_world
from torch import Tensor

from uptake import methods
from uptake.annotators.base import Annotator, AnnotatorSpec
from uptake.annotators.oracle import OracleAnnotator
from uptake.annotators.order import average_orders
from uptake.errors import InputError, ModelError
from uptake.judge.pairwise import PairwiseJudge
from uptake.judge.registry import annotator_spec
from uptake.losses.pairwise import logistic, soft_label
from uptake.recipe import Recipe
from uptake.reference import frozen_copy
from uptake.rewards.base import Resources
from uptake.rollout.schedule import PromptBatches
from uptake.signal.comparisons import ComparisonPairs
from uptake.support.keys import prompt_key
from uptake.town import Town
from uptake.train.loop import Options, run
from uptake.train.rounds import refuse_moving_judges
from uptake.types import Dropped, Group, Prompt, Rollout, Turn, Verdict

# --- Toy-5: five one-token responses, exact expectations instead of sampling -----------------------------------------

REWARDS = torch.tensor([1.0, 0.5, 0.0, -0.5, -1.2], dtype=torch.float64)
START = torch.tensor([-1.0, 0.3, 1.2, 0.4, -0.2], dtype=torch.float64).log_softmax(0)
GIBBS = torch.tensor([0.2631, 0.3552, 0.3214, 0.0531, 0.0072], dtype=torch.float64)
BETA = 0.5


def optimum(label: str, steps: int = 2500) -> Tensor:
    """The policy that the expected online loss over all pairs of arms, drawn from the policy itself, leads to."""
    preferred = torch.sigmoid(REWARDS[:, None] - REWARDS[None, :])
    p = (preferred > 0.5).double() + 0.5 * (preferred == 0.5) if label == "hard" else preferred
    logits = START.clone().requires_grad_()
    optimizer = torch.optim.Adam([logits], lr=0.02)
    for _ in range(steps):
        optimizer.zero_grad()
        logps = logits.log_softmax(0)
        own = logps.detach().exp()
        ratios = logps - START
        margins = (ratios[:, None] - ratios[None, :]).flatten()
        losses = soft_label(lambda h: logistic(h, BETA), margins, p.flatten())
        ((own[:, None] * own[None, :]).flatten() * losses).sum().backward()
        optimizer.step()
    return logits.detach().softmax(0)


def test_soft_labels_lead_to_the_gibbs_policy() -> None:
    torch.testing.assert_close(optimum("soft"), GIBBS, atol=1e-4, rtol=0)


def test_hard_labels_have_no_finite_optimum() -> None:
    assert optimum("hard")[0] > 0.99


# --- labels ----------------------------------------------------------------------------------------------------------


def rollout(text: str, sample: int = 0, prompt: str = "when ?", finished: bool = True, version: int = 0) -> Rollout:
    turns = (Turn("user", prompt),)
    ids = tuple(map(ord, text)) or (1,)
    return Rollout(Prompt(turns, prompt_key(turns)), (1,), ids, text, finished, sample=sample, version=version)


Duel = tuple[list[Group], list[Verdict]]


def duel(p: float, one: str = "a", two: str = "b", by_order: tuple[float, float] | None = None) -> Duel:
    return [(rollout(one), rollout(two, 1))], [Verdict(p, by_order or (p, p))]


def spelled(ids: Sequence[int]) -> str:
    return "".join(map(chr, ids))


@pytest.mark.parametrize(
    ("label", "p", "chosen", "expected"),
    [
        ("hard", 0.8, "a", 1.0),
        ("hard", 0.2, "b", 1.0),
        ("soft", 0.8, "a", 0.8),
        ("soft", 0.2, "b", 0.8),
        ("soft", 0.5, "a", 0.5),
    ],
)
def test_labels(label: Any, p: float, chosen: str, expected: float) -> None:
    (pair,) = ComparisonPairs(label)(*duel(p)).examples
    assert spelled(pair.chosen_ids) == chosen
    assert pair.p == pytest.approx(expected)
    assert pair.margin == pytest.approx(abs(2 * p - 1))


def test_an_even_verdict_is_a_tie_for_hard_labels() -> None:
    # A mean over two orders whose sum is 1 but for a rounding.
    found = ComparisonPairs("hard")(*duel(0.1 + 0.2 + 0.2 - 1e-17))
    assert not found.examples
    assert found.summary["dropped"] == {"tie": 1}


@pytest.mark.parametrize("label", ["hard", "soft", "sampled"])
def test_equal_samples_make_no_pair_whatever_is_said_of_them(label: Any) -> None:
    found = ComparisonPairs(label)(*duel(0.9, "a", "a"))
    assert not found.examples
    assert found.summary["dropped"] == {"equal responses": 1}


def test_sampled_labels_follow_the_probability() -> None:
    duels = [duel(0.3, f"a{index}", f"b{index}") for index in range(2000)]
    groups, verdicts = ([each for (each,) in side] for side in zip(*duels, strict=True))
    pairs = ComparisonPairs("sampled")(groups, verdicts).examples
    share = sum(spelled(pair.chosen_ids).startswith("a") for pair in pairs) / 2000
    # Five standard deviations.
    assert abs(share - 0.3) < 5 * math.sqrt(0.3 * 0.7 / 2000)
    assert {pair.p for pair in pairs} == {1.0}
    assert ComparisonPairs("sampled")(groups, verdicts).examples == pairs
    assert ComparisonPairs("sampled", seed=1)(groups, verdicts).examples != pairs


def test_what_the_annotator_did_is_reported() -> None:
    one, two = duel(0.8, by_order=(0.9, 0.7)), duel(0.51, by_order=(0.61, 0.41))
    bad = [(rollout("x"), rollout("y", 1))], [Verdict(0.5, (0.5, 0.5), reason=Dropped.NO_ANSWER, tokens=7)]
    even = duel(0.5, by_order=(0.5, 0.5))
    groups, verdicts = ([*a, *b, *c, *d] for a, b, c, d in zip(one, two, bad, even, strict=True))
    summary = ComparisonPairs()(groups, verdicts).summary
    assert summary["dropped"] == {"no answer": 1, "tie": 1}
    # What is even in both orders says nothing of order.
    assert summary["orders_agree"] == pytest.approx((1 + 0) / 2)
    assert summary["order_gap"] == pytest.approx((0.2 + 0.2 + 0) / 3)
    assert summary["position_bias"] == pytest.approx((0.1 + 0.1 + 0) / 3)
    assert summary["unsure"] == pytest.approx(2 / 3)
    assert summary["annotator_tokens"] == 7


# --- two orders ------------------------------------------------------------------------------------------------------


def test_order_averages() -> None:
    assert average_orders(0.7, 0.4) == pytest.approx(0.55)
    assert average_orders(0.7, 0.6) == pytest.approx(0.65)
    assert average_orders(0.7, 0.6, "logit") == pytest.approx(0.651669, abs=1e-6)
    assert average_orders(1.0, 0.3, "logit") == 1.0
    assert average_orders(1.0, 0.0, "logit") == 0.5


@pytest.mark.parametrize("contrast", [1, 0.75, 0.5, 0.25, -0.25, -0.5, -0.75, -1])
def test_two_orders_cancel_position_bias(contrast: float) -> None:
    """`logit P(first shown) = contrast + 0.8`: one order has the wrong sign for the three weakest negatives."""

    def sigmoid(x: float) -> float:
        return 1 / (1 + math.exp(-x))

    orders = sigmoid(contrast + 0.8), sigmoid(contrast - 0.8)
    assert (orders[0] > 0.5) == (contrast > -0.8)
    assert (average_orders(*orders) > 0.5) == (contrast > 0)
    assert abs(average_orders(*orders) - sigmoid(contrast)) < 0.0275
    assert average_orders(*orders, "logit") == pytest.approx(sigmoid(contrast), abs=1e-12)


# --- the annotator's door --------------------------------------------------------------------------------------------


def share_of_e(text: str) -> float:
    return text.count("e") / len(text)


@dataclass(frozen=True)
class MoreE(Annotator, AnnotatorSpec):
    """Prefers the text with the larger share of the letter e, and keeps what it was asked in a file."""

    asked: Path
    answer: float = 0.9
    valid: bool = True

    def build(self, resources: Resources) -> Annotator:
        return self

    @property
    def fingerprint(self) -> str:
        return "more e"

    def compare(self, prompts: Sequence[Prompt], pairs: Sequence[tuple[str, str]]) -> Sequence[Verdict]:
        with self.asked.open("a") as file:
            file.writelines(json.dumps(pair) + "\n" for pair in pairs)
        ps = [self.answer if share_of_e(one) > share_of_e(two) else 1 - self.answer for one, two in pairs]
        return [Verdict(p, (p, p), None if self.valid else Dropped.NO_ANSWER, tokens=10, cost=0.5) for p in ps]


def judged(tmp_path: Path, *groups: Group, **options: Any) -> list[Verdict]:
    judge = PairwiseJudge(MoreE(tmp_path / "asked.jsonl"), **options)
    return list(judge.start(tiny_world(tmp_path, []))(groups))


def test_equal_and_empty_responses_are_not_paid_for(tmp_path: Path) -> None:
    duels = [("aaa", "e"), ("same", "same"), ("", "b"), ("c", "ee")]
    found = judged(tmp_path, *(tuple(rollout(text, place) for place, text in enumerate(duel)) for duel in duels))
    assert [each.valid for each in found] == [True, False, False, True]
    assert [each.reason for each in found] == [None, "equal responses", "empty", None]
    assert read_jsonl(tmp_path / "asked.jsonl") == [["aaa", "e"], ["c", "ee"]]
    assert [found[0].p, found[3].p] == pytest.approx([0.1, 0.1])
    assert sum(each.cost for each in found) == 1.0


def test_unfinished_responses_are_shown_or_not(tmp_path: Path) -> None:
    duel = rollout("aaa", finished=False), rollout("b", 1)
    assert judged(tmp_path, duel)[0].valid
    assert judged(tmp_path, duel, keep_unfinished=False)[0].reason == "unfinished"


def test_two_responses_to_one_prompt(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="two responses to one prompt"):
        judged(tmp_path, (rollout("a"),))
    with pytest.raises(InputError, match="two responses to one prompt"):
        judged(tmp_path, (rollout("a"), rollout("b", prompt="where ?")))


def test_unknown_annotators_and_settings() -> None:
    with pytest.raises(InputError, match=r"no judge 'crowd'.*oracle"):
        annotator_spec("crowd")
    with pytest.raises(InputError, match=r"oracle has no setting 'bias'.*position_bias"):
        annotator_spec({"oracle": {"bias": 1}})
    with pytest.raises(InputError, match=r"server needs a setting 'url'"):
        annotator_spec("server")
    with pytest.raises(InputError, match="noise"):
        annotator_spec({"oracle": {"noise": 2}})
    with pytest.raises(InputError, match="multiple of steps_per_round"):
        methods.build("oaif", {"judge": "oracle", "steps": 5, "steps_per_round": 2})


def test_the_default_beta_is_the_loss_s_own() -> None:
    assert [methods.configure("oaif", {"loss": loss}).model_dump()["beta"] for loss in ("dpo", "ipo", "slic")] == [
        0.1,
        1.0,
        0.002,
    ]
    assert methods.configure("oaif", {"loss": "ipo", "beta": 0.3}).model_dump()["beta"] == 0.3


# --- the town's oracle as annotator ----------------------------------------------------------------------------------


def test_the_oracle_prefers_the_right_answer() -> None:
    town = Town()
    rng = random.Random(0)
    prompts, pairs = [], []
    for question in town.questions(20, 0, "train"):
        for fault in town.faults(question):
            prompts.append(question.prompt)
            pairs.append((town.answer(question, None, rng), town.answer(question, fault, rng)))
    assert all(verdict.p > 0.5 for verdict in OracleAnnotator().compare(prompts, pairs))
    swapped = [(two, one) for one, two in pairs]
    for here, there in zip(
        OracleAnnotator().compare(prompts, pairs), OracleAnnotator().compare(prompts, swapped), strict=True
    ):
        assert here.p == pytest.approx(1 - there.p, abs=1e-12)
    wrong = sum(verdict.p < 0.5 for verdict in OracleAnnotator(noise=0.3).compare(prompts, pairs)) / len(pairs)
    assert abs(wrong - 0.3) < 5 * math.sqrt(0.21 / len(pairs))
    biased = OracleAnnotator(position_bias=40.0).compare(prompts, swapped)
    assert all(verdict.p < 0.5 for verdict in biased)
    assert all(
        verdict.p > 0.5 for verdict in OracleAnnotator(position_bias=40.0, one_order=True).compare(prompts, swapped)
    )


# --- whole runs ------------------------------------------------------------------------------------------------------

TRAIN: dict[str, Any] = {"lr": 1e-2, "batch_size": 4, "warmup": 2, "optimizer": "adamw", "micro_tokens": 60}
SAMPLED: dict[str, Any] = {"temperature": 1.0, "max_new_tokens": 8}


def oaif(tmp_path: Path, by: AnnotatorSpec | None = None, **options: Any) -> Recipe:
    recipe = methods.build("oaif", {"judge": "oracle", **TRAIN, **SAMPLED, "steps": 12, **options})
    (stage,) = recipe.stages
    judge = PairwiseJudge(by or MoreE(tmp_path / "asked.jsonl"))
    return Recipe((replace(stage, judge=judge),))


@dataclass(frozen=True)
class Counted(AnnotatorSpec):
    """Notes every time that it is built."""

    built: Path

    def build(self, resources: Resources) -> Annotator:
        with self.built.open("a") as file:
            file.write("built\n")
        return MoreE(self.built.with_name("asked.jsonl"))


def test_an_annotator_is_built_once_a_round(tmp_path: Path) -> None:
    judged_in_two_chunks = 40
    recipe = oaif(tmp_path, Counted(tmp_path / "built"), steps=2, batch_size=judged_in_two_chunks)
    run(recipe, tiny_world(tmp_path / "run", prompt_records(judged_in_two_chunks)))
    lines = [read_jsonl(tmp_path / "run" / "rounds" / f"0-{round_}" / "judged.jsonl") for round_ in range(2)]
    assert [len(each) for each in lines] == [2, 2]
    assert (tmp_path / "built").read_text().count("built") == 2


def test_the_policy_learns_what_the_annotator_prefers(tmp_path: Path) -> None:
    world = tiny_world(tmp_path / "run", prompt_records(16))
    run(oaif(tmp_path, steps=24, batch_size=16, lr=5e-3, beta=0.5), world)
    rounds = [read_jsonl(tmp_path / "run" / "rounds" / f"0-{round_}" / "judged.jsonl") for round_ in range(24)]
    texts = [
        [each["response"] or " " for line in lines for group in line["groups"] for each in group] for lines in rounds
    ]
    shares = [fmean(map(share_of_e, said)) for said in texts]
    assert fmean(shares[-6:]) > fmean(shares[:6]) + 0.02
    lines = read_jsonl(tmp_path / "run" / "metrics.jsonl")
    assert lines[0]["log_ratio"] == pytest.approx(0, abs=1e-5)
    assert lines[-1]["log_ratio"] > 0.1


@pytest.mark.parametrize("ahead", [0, 1, 2])
def test_working_ahead_makes_pairs_older(ahead: int, tmp_path: Path) -> None:
    run(oaif(tmp_path, ahead=ahead), tiny_world(tmp_path / "run", prompt_records(16)))
    ages = [line["age"] for line in read_jsonl(tmp_path / "run" / "metrics.jsonl")]
    assert ages == [min(step, ahead) for step in range(12)]


def test_ahead_is_refused_where_the_judge_is_the_policy(tmp_path: Path) -> None:
    for judge in ({"model": {"model": "policy"}}, {"model": {"model": "follow_up"}}):
        recipe = methods.build("oaif", {"judge": judge, **TRAIN, **SAMPLED, "steps": 4, "ahead": 1})
        world = tiny_world(tmp_path / "run", prompt_records(16))
        with pytest.raises(InputError, match=r"ahead.*is the policy.*ahead=0"):
            run(recipe, replace(world, models={"follow_up": world.policy}))
        assert not (tmp_path / "run").exists()
    apart = replace(world, models={"start": frozen_copy(world.policy)})
    refuse_moving_judges(methods.build("oaif", {"judge": {"model": {"model": "start"}}, "ahead": 1}), apart)
    refuse_moving_judges(methods.build("oaif", {"judge": {"model": {"model": "policy"}}}), apart)


def test_a_round_of_several_steps_gets_older(tmp_path: Path) -> None:
    run(oaif(tmp_path, steps=6, steps_per_round=3), tiny_world(tmp_path / "run", prompt_records(16)))
    assert [line["age"] for line in read_jsonl(tmp_path / "run" / "metrics.jsonl")] == [0, 1, 2, 0, 1, 2]


def test_a_pass_meets_every_prompt_once(tmp_path: Path) -> None:
    world = tiny_world(tmp_path, prompt_records(10))
    rounds = [PromptBatches(3)(world, round_) for round_ in range(6)]
    first = [id(row) for rows in rounds[:3] for row in rows]
    assert len(set(first)) == 9
    assert [id(row) for rows in rounds[3:] for row in rows] != first
    with pytest.raises(InputError, match="1 to 10"):
        PromptBatches(11)(world, 0)


def same(one: Path, other: Path) -> bool:
    return all(
        (one / name).read_bytes() == (other / name).read_bytes()
        for name in ("metrics.jsonl", "model/model.safetensors")
    )


def train(folder: str, ahead: int, resume: bool, kill_at: tuple[str, str, int] | None = None) -> None:
    """A run in a process of its own, until SIGKILL at an event of `tiny.command_line`."""
    if kill_at is not None:
        sys.addaudithook(killer(*kill_at))
    place = Path(folder)
    world = tiny_world(place, prompt_records(16))
    run(oaif(place.parent, ahead=ahead), world, Options(resume=resume, save_every=4))


@pytest.fixture(scope="module", params=[0, 1])
def whole(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[int, Path]:
    """How far a run works ahead, and the folder of one that nothing disturbs."""
    folder = tmp_path_factory.mktemp("whole")
    run(oaif(folder, ahead=request.param), tiny_world(folder / "run", prompt_records(16)), Options(save_every=4))
    return request.param, folder


@pytest.mark.parametrize(
    "moment",
    [
        ("open", "0-5/judged.jsonl", 1),
        ("open", "0-9/judged.jsonl", 1),
        ("os.rename", "00000008-", 1),
        ("os.mkdir", "model.partial", 1),
    ],
    ids=["judging", "later", "saving", "ending"],
)
def test_killed_online(moment: tuple[str, str, int], whole: tuple[int, Path], tmp_path: Path) -> None:
    """A resumed run ends bit-equal, and no duel is asked again that was answered before."""
    ahead, undisturbed = whole
    folder = str(tmp_path / "run")
    assert in_process(train, folder, ahead, False, moment) == -signal.SIGKILL
    assert in_process(train, folder, ahead, True) == 0
    assert same(tmp_path / "run", undisturbed / "run")
    assert len(read_jsonl(tmp_path / "asked.jsonl")) == len(read_jsonl(undisturbed / "asked.jsonl"))


def test_an_annotator_that_never_answers_ends_the_run(tmp_path: Path) -> None:
    recipe = oaif(tmp_path, by=MoreE(tmp_path / "asked.jsonl", valid=False))
    with pytest.raises(ModelError, match="no training example is left; dropped: no answer"):
        run(recipe, tiny_world(tmp_path / "run", prompt_records(16)))
    # Five rounds of four duels, then it was given up.
    assert len(read_jsonl(tmp_path / "asked.jsonl")) <= 20
