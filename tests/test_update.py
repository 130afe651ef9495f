"""One optimizer step: the same weights however the batch is cut, and none at all where the numbers are bad."""

import math
from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import torch
from tiny import Imitated, pair_records, tiny_llama, tiny_world, weights_of
from torch import Tensor, nn

from uptake.errors import InputError, ModelError
from uptake.examples.preferences import PreferenceRows
from uptake.losses.pairwise import IPO, Logistic
from uptake.losses.scalar import BradleyTerry
from uptake.models import LanguageModel
from uptake.models.heads import AddHead
from uptake.objective import NextToken, Objective, Pairs, ScoredPairs
from uptake.recipe import Examples, Stage
from uptake.reference import Frozen, NoReference
from uptake.train.loop import Learner
from uptake.types import Pair
from uptake.update import Optimization, build_optimizer, optimizer_step, trainable
from uptake.update.step import micro_batches

CASES: dict[str, tuple[Objective, Examples]] = {
    "dpo": (Pairs(Logistic(0.5)), PreferenceRows()),
    "next token": (NextToken(), Imitated()),
}
Weights = dict[str, Tensor]


def examples(part: Examples = PreferenceRows(), dtype: torch.dtype = torch.float64) -> Sequence[Any]:
    """7 pairs of different lengths (or their 14 responses)."""
    return part(tiny_world(Path("unused"), pair_records(7), tiny_llama(dtype=dtype)), 0).examples


def stepped(
    settings: Optimization, *, dtype: torch.dtype = torch.float64, case: str = "dpo", times: int = 2
) -> tuple[Weights, list[dict[str, float]], LanguageModel]:
    """Weights and metrics after optimizer steps on one batch of everything."""
    objective, part = CASES[case]
    lm = tiny_llama(dtype=dtype)
    reference = Frozen().start(tiny_world(Path("unused"), [], tiny_llama(seed=2, dtype=dtype)))
    optimizer = build_optimizer(settings, trainable(lm).values())
    batch = examples(part, dtype)
    metrics = [optimizer_step(lm, reference, objective, batch, optimizer, settings) for _ in range(times)]
    return weights_of(lm), metrics, lm


def distance(one: Weights, other: Weights) -> float:
    return max(float((one[name].double() - other[name].double()).abs().max()) for name in one)


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("micro_tokens", [1, 30, 75])
def test_micro_batches_add_up_to_the_big_batch(case: str, micro_tokens: int) -> None:
    settings = Optimization(lr=1e-2, clip=0.5)
    whole, one, _ = stepped(settings, case=case)
    cut, other, _ = stepped(replace(settings, micro_tokens=micro_tokens), case=case)
    assert distance(whole, weights_of(tiny_llama(dtype=torch.float64))) > 1e-3
    assert distance(whole, cut) < 1e-12
    for first, second in zip(one, other, strict=True):
        assert first == pytest.approx(second, abs=1e-12)


def test_micro_batches_keep_their_budget() -> None:
    """Every example is in one batch, in order; a batch takes what fits, and more than its budget only when alone."""
    objective: Objective = Pairs(Logistic())
    batch = examples()
    for budget in (1, 30, 75, 10**6):
        parts = list(micro_batches(objective, batch, budget))
        assert [each for part in parts for each in part] == list(batch)
        costs = [[len(objective.tree(each)) for each in part] for part in parts]
        assert all(sum(part) <= budget or len(part) == 1 for part in costs)
        assert all(sum(first) + second[0] > budget for first, second in pairwise(costs))


def test_the_gradient_is_that_of_the_mean_loss() -> None:
    """Plain gradient descent by hand, through one call of the objective."""
    objective, _ = CASES["dpo"]
    settings = Optimization(lr=0.1, clip=None, micro_tokens=40)
    lm = tiny_llama(dtype=torch.float64)
    reference = Frozen().start(tiny_world(Path("unused"), [], tiny_llama(seed=2, dtype=torch.float64)))
    (objective(lm, reference, examples()).total / 7).backward()
    gradients = {name: weight.grad for name, weight in trainable(lm).items() if weight.grad is not None}
    by_hand = {name: weight.detach() - 0.1 * gradients[name] for name, weight in trainable(lm).items()}
    norm = math.sqrt(sum(float((each**2).sum()) for each in gradients.values()))
    other = tiny_llama(dtype=torch.float64)
    metrics = optimizer_step(
        other, reference, objective, examples(), torch.optim.SGD(trainable(other).values(), 0.1), settings
    )
    assert distance(weights_of(other), by_hand) < 1e-12
    assert metrics["grad_norm"] == pytest.approx(norm, rel=1e-9)


def test_clipping_shortens_the_gradient_and_keeps_its_direction() -> None:
    def moved(clip: float | None) -> tuple[Weights, float]:
        lm = tiny_llama(dtype=torch.float64)
        before = weights_of(lm)
        reference = Frozen().start(tiny_world(Path("unused"), [], lm))
        sgd = torch.optim.SGD(trainable(lm).values(), 1.0)
        metrics = optimizer_step(lm, reference, Pairs(Logistic()), examples(), sgd, Optimization(lr=1.0, clip=clip))
        return {name: weight - before[name] for name, weight in weights_of(lm).items()}, metrics["grad_norm"]

    free, norm = moved(None)
    short, reported = moved(norm / 4)
    assert reported == pytest.approx(norm, rel=1e-12)  # the norm before clipping
    assert distance({name: change / 4 for name, change in free.items()}, short) < 1e-5 * norm
    wide, _ = moved(norm * 4)
    assert distance(free, wide) < 1e-15


def test_bf16_is_close_to_fp32() -> None:
    settings = Optimization(lr=1e-2)
    exact, one, _ = stepped(settings, dtype=torch.float32, times=1)
    rough, other, lm = stepped(replace(settings, precision="bf16"), dtype=torch.float32, times=1)
    assert all(weight.dtype == torch.float32 for weight in lm.model.parameters())
    assert one[0]["loss"] != other[0]["loss"]
    assert one[0]["loss"] == pytest.approx(other[0]["loss"], rel=0.05)
    assert one[0]["grad_norm"] == pytest.approx(other[0]["grad_norm"], rel=0.1)
    # AdamW's first step moves every weight by lr, so only the signs of small gradients may differ.
    signs = [(exact[name] - rough[name]).abs() < 1e-3 for name in exact]
    assert torch.cat([each.flatten() for each in signs]).float().mean() > 0.9


@pytest.mark.parametrize("optimizer", ["adamw", "rmsprop"])
def test_the_optimizers_are_those_of_torch(optimizer: Any) -> None:
    """Two steps on one weight whose gradient is 1: AdamW moves by lr each time, RMSprop by lr / sqrt(v)."""
    weight = nn.Parameter(torch.zeros(1, dtype=torch.float64))
    built = build_optimizer(Optimization(lr=0.1, optimizer=optimizer, weight_decay=0.0), [weight])
    for _ in range(2):
        weight.grad = torch.ones(1, dtype=torch.float64)
        built.step()
    averages = (0.01, 0.99 * 0.01 + 0.01)
    expected = -0.2 if optimizer == "adamw" else -sum(0.1 / math.sqrt(average) for average in averages)
    assert float(weight.detach()) == pytest.approx(expected, rel=1e-6)


def test_weight_decay_shrinks_what_has_no_gradient() -> None:
    weight = nn.Parameter(torch.ones(1, dtype=torch.float64))
    built = build_optimizer(Optimization(lr=0.1, weight_decay=0.5), [weight])
    weight.grad = torch.zeros(1, dtype=torch.float64)
    built.step()
    assert float(weight.detach()) == pytest.approx(1 - 0.1 * 0.5)


@pytest.mark.parametrize("bad", [torch.nan, torch.inf])
def test_a_loss_that_is_not_finite_moves_nothing(bad: float) -> None:
    lm = tiny_llama(dtype=torch.float64)
    reference = Frozen().start(tiny_world(Path("unused"), [], lm))
    with torch.no_grad():
        lm.base.model.norm.weight[0] = bad
    before = weights_of(lm)
    settings = Optimization(lr=0.1)
    optimizer = build_optimizer(settings, trainable(lm).values())
    with pytest.raises(ModelError, match=r"^tiny-0: .* the weights were left as they were"):
        optimizer_step(lm, reference, Pairs(IPO()), examples(), optimizer, settings)
    assert all(
        torch.equal(old, new.detach()) or old.isnan().any()
        for old, new in zip(before.values(), lm.model.parameters(), strict=True)
    )
    assert not optimizer.state


def test_modules_keep_their_share_of_a_rate_that_changes(tmp_path: Path) -> None:
    """Two steps of a learner: Adam moves a weight by the rate where its gradient stays, and the head by 100 times that.

    Gradients of the second step are nearly those of the first, for which the rates are small enough.
    """
    settings = Optimization(lr=1e-5, module_lr=1e-3, clip=None)
    stage = Stage(
        examples=PreferenceRows(),
        objective=ScoredPairs(BradleyTerry()),
        modules=AddHead(std=0.5),
        update=settings,
    )
    world = tiny_world(tmp_path, pair_records(4))
    torch.manual_seed(0)
    learner = Learner(stage, world)
    data = PreferenceRows()(world, 0).examples
    for rate in (1e-5, 4e-6):
        before = {name: weight.detach().clone() for name, weight in learner.weights.items()}
        learner.step(data, rate)
        moved = {name: float((weight.detach() - before[name]).abs().max()) for name, weight in learner.weights.items()}
        assert moved.pop("heads.score.weight") == pytest.approx(100 * rate, rel=0.05)
        assert max(moved.values()) == pytest.approx(rate, rel=0.05)


def test_heads_and_unfrozen_weights_are_trained() -> None:
    lm = replace(tiny_llama(), heads={"value": nn.Linear(2, 1)})
    lm.base.model.embed_tokens.requires_grad_(False)
    names = trainable(lm).keys()
    assert {"heads.value.weight", "heads.value.bias"} < names
    assert "model.embed_tokens.weight" not in names
    assert len(names) == len(list(lm.model.parameters())) - 1 + 2


# --- the schedule -----------------------------------------------------------------------------------------------------


def rates(total: int, **settings: Any) -> list[float]:
    update = Optimization(lr=1.0, **settings)
    return [update.rate(step, total) for step in range(total)]


def test_warmup_in_steps() -> None:
    """The rate rises by lr / (steps + 1), so the first step is not lost, and the first after warmup has all of it."""
    assert rates(6, warmup=3, warmup_cap=None, schedule="constant") == pytest.approx([0.25, 0.5, 0.75, 1, 1, 1])
    assert Optimization(lr=5e-7, warmup=150, schedule="constant").rate(149, 10**6) == pytest.approx(5e-7 * 150 / 151)


def test_a_warmup_in_steps_is_a_tenth_of_the_run_at_most() -> None:
    """A run of 4 steps has all of the rate after its first one, unless the paper's length is asked for."""
    assert rates(4, warmup=150, schedule="constant") == pytest.approx([1 / 2, 1, 1, 1])
    assert rates(25, warmup=150, schedule="constant") == pytest.approx([1 / 4, 2 / 4, 3 / 4, *[1] * 22])
    assert rates(10, warmup=150, warmup_cap=0.25, schedule="constant")[:4] == pytest.approx([1 / 4, 2 / 4, 3 / 4, 1])
    assert rates(4, warmup=150, warmup_cap=None, schedule="constant") == pytest.approx([n / 151 for n in (1, 2, 3, 4)])
    # A share of the run is what somebody chose for it, and a short warm-up stays what it is.
    assert rates(10, warmup=0.5, schedule="constant")[:5] == pytest.approx([n / 6 for n in (1, 2, 3, 4, 5)])
    assert rates(2000, warmup=150, schedule="constant")[149] == pytest.approx(150 / 151)


def test_warmup_as_a_share() -> None:
    assert rates(10, warmup=0.2, schedule="constant") == pytest.approx([1 / 3, 2 / 3, *[1] * 8])
    assert rates(4, warmup=0.0, schedule="constant") == [1] * 4


def test_linear_and_cosine_fall_to_almost_nothing() -> None:
    assert rates(4, warmup=0, schedule="linear") == pytest.approx([1, 0.75, 0.5, 0.25])
    half = math.sqrt(0.5)
    assert rates(4, warmup=0, schedule="cosine") == pytest.approx([1, (1 + half) / 2, 0.5, (1 - half) / 2])
    assert rates(6, warmup=2, warmup_cap=None, schedule="linear") == pytest.approx([1 / 3, 2 / 3, 1, 0.75, 0.5, 0.25])


@pytest.mark.parametrize("schedule", ["constant", "linear", "cosine"])
@pytest.mark.parametrize("warmup", [0, 0.1, 0.33, 1, 3, 50])
def test_rates_stay_between_nothing_and_all(schedule: Any, warmup: float) -> None:
    for total in (1, 2, 7):
        assert all(0 < rate <= 1 for rate in rates(total, schedule=schedule, warmup=warmup))


@pytest.mark.unchecked
@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("lr", -1e-3),
        ("lr", math.nan),
        ("lr", math.inf),
        ("warmup", -1),
        ("weight_decay", -0.1),
        ("batch_size", 0),
        ("epochs", 0),
        ("micro_tokens", 0),
        ("clip", 0.0),
        ("warmup_cap", 0.0),
        ("warmup_cap", math.nan),
        ("clip", math.nan),
        ("schedule", "cosin"),
        ("optimizer", "sgd"),
        ("precision", "fp16"),
    ],
)
def test_bad_settings(name: str, value: Any) -> None:
    with pytest.raises(InputError) as caught:
        Optimization(**{"lr": 1e-3, name: value})
    assert caught.value.field == name
    assert caught.value.allowed


def test_no_reference_is_an_error_for_pairs(tmp_path: Path) -> None:
    lm = tiny_llama(dtype=torch.float64)
    settings = Optimization(lr=0.1)
    optimizer = build_optimizer(settings, trainable(lm).values())
    with pytest.raises(InputError, match="needs a reference"):
        optimizer_step(
            lm, NoReference().start(tiny_world(tmp_path, [], lm)), Pairs(Logistic()), examples(), optimizer, settings
        )


def test_pairs_are_examples() -> None:
    assert all(isinstance(each, Pair) for each in examples())
    assert len({len(each.chosen_ids) for each in examples()}) > 1
