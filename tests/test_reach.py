"""How far a run reaches: what steps move, what is said where they move nothing, and what proposed settings learn."""

import logging
import math
import random
import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from tiny import WORDS, pair_records, prompt_records, read_jsonl, sentence, tiny_llama, tiny_world, write_jsonl
from tiny_cli import Cli
from torch import Tensor, nn
from transformers import AutoModelForCausalLM, AutoTokenizer

from uptake import methods
from uptake.errors import InputError, ModelError
from uptake.models import add_lora
from uptake.tasks.check import check
from uptake.train.loop import run
from uptake.update import Optimization, build_optimizer, reach_of, set_rate
from uptake.update.reach import distance, settings_that_move

# PEFT still asks Transformers by an old name.

GOOD, BAD = ("bakery", "bread", "cakes"), ("wrong", "where", "when")


def separable(count: int, seed: int) -> list[dict[str, Any]]:
    """Pairs whose chosen side has more of some words, and whose rejected side more of others."""
    rng = random.Random(seed)

    def said(words: Sequence[str], length: int) -> str:
        return " ".join(rng.choice(words if rng.random() < 0.6 else WORDS) for _ in range(length))

    lengths = [rng.randint(2, 5) for _ in range(count)]
    return [{"prompt": sentence(rng), "chosen": said(GOOD, size), "rejected": said(BAD, size)} for size in lengths]


def warned(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.message for record in caplog.records if record.levelno == logging.WARNING]


def accuracy(folder: Path, pairs: Sequence[dict[str, Any]]) -> float:
    """How often plain Transformers finds the chosen side likelier, token by token of prompt and response as text."""
    tokenizer = AutoTokenizer.from_pretrained(folder)
    model: Any = AutoModelForCausalLM.from_pretrained(folder)

    def logp(pair: dict[str, Any], side: str) -> float:
        prompt = [{"role": "user", "content": pair["prompt"]}]
        whole = [*prompt, {"role": "assistant", "content": pair[side]}]
        stem = tokenizer.apply_chat_template(prompt, add_generation_prompt=True, return_dict=False)
        ids = torch.tensor([tokenizer.apply_chat_template(whole, return_dict=False)])
        with torch.no_grad():
            logps = model(ids).logits[0, :-1].log_softmax(-1)
        return float(logps.gather(1, ids[0, 1:, None])[len(stem) - 1 :].sum())

    return sum(logp(pair, "chosen") > logp(pair, "rejected") for pair in pairs) / len(pairs)


# --- what steps move --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("optimizer", ["adamw", "rmsprop", "adafactor"])
@pytest.mark.parametrize("steps", [1, 12])
def test_the_distance_is_what_the_optimizer_moves_under_one_gradient(optimizer: Any, steps: int) -> None:
    """By PyTorch's optimizers themselves, on weights of size 0.5; Adafactor's distance is a share of that size."""
    settings = Optimization(lr=1e-3, warmup=3, schedule="linear", optimizer=optimizer)
    weight = nn.Parameter(torch.full((6, 8), 0.5, dtype=torch.float64))
    built = build_optimizer(settings, [weight])
    for step in range(steps):
        set_rate(built, settings.rate(step, steps))
        weight.grad = torch.full_like(weight, -1e-3)
        built.step()
    moved = float((weight.detach() - 0.5).mean())
    unit = 0.5 if optimizer == "adafactor" else 1.0
    assert moved == pytest.approx(distance(settings, steps) * unit, rel=0.01)


def changed(weight: Tensor, moved: Tensor, inputs: Tensor) -> float:
    """The change of a layer's output as a share of it."""
    return float((inputs @ moved.T).square().mean().sqrt() / (inputs @ weight.T).square().mean().sqrt())


@pytest.mark.parametrize("size", [0.02, 0.4])
def test_the_share_is_what_a_layer_changes_by_where_all_gradients_agree(size: float) -> None:
    """A layer whose weights all moved the way that one input asks for, read at that input."""
    torch.manual_seed(0)
    layer = nn.Linear(256, 300, bias=False)
    nn.init.normal_(layer.weight, std=size)
    inputs = torch.randn(1, 256).sign()
    settings = Optimization(lr=1e-4, warmup=0, schedule="constant")
    moved = 7 * 1e-4 * torch.randn(300, 1).sign() * inputs
    expected = changed(layer.weight.detach(), moved, inputs)
    assert reach_of(settings, layer, 7).share == pytest.approx(expected, rel=0.1)
    assert reach_of(settings, layer.requires_grad_(False), 7).share is None


def test_the_share_of_an_adapter_is_that_of_its_layer() -> None:
    lm = add_lora(tiny_llama(hidden_size=64, intermediate_size=64, num_hidden_layers=1), rank=8, alpha=32)
    torch.manual_seed(0)
    shares = []
    for module in lm.model.modules():
        if hasattr(module, "lora_A"):
            first, base = module.lora_A["default"].weight.detach(), module.base_layer.weight.detach()
            inputs = torch.randn(1, first.shape[1])
            second = 1e-3 * torch.randn(len(base), 1).sign() * (inputs @ first.T).sign()
            shares.append(changed(base, 32 / 8 * second @ first, inputs))
    found = reach_of(Optimization(lr=1e-3, warmup=0, schedule="constant"), lm.model, 1).share
    # The formula has the root mean square of a normal number where its mean size, 0.8 of it, is exact.
    assert found is not None
    assert sum(shares) / len(shares) == pytest.approx(0.8 * found, rel=0.2)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float64])
def test_the_reach_is_alike_in_every_precision(dtype: torch.dtype) -> None:
    settings = Optimization(lr=1e-3)
    exact, other = (reach_of(settings, tiny_llama(dtype=each).model, 5).share for each in (torch.float32, dtype))
    assert other == pytest.approx(exact, rel=1e-2)


def test_the_sum_of_rates() -> None:
    settings = Optimization(lr=5e-7, warmup=150, schedule="constant")
    assert reach_of(settings, nn.Linear(2, 2), 4).rates == pytest.approx(3.5 * 5e-7)


# --- what is said -----------------------------------------------------------------------------------------------------


def test_the_proposed_settings_learn_where_the_defaults_move_nothing(uptake: Cli, model: Path) -> None:
    """200 separable pairs: by default 4 steps, after which the policy prefers what it did; as proposed, it learns."""
    write_jsonl(Path("pairs.jsonl"), separable(200, seed=1))
    held_out = separable(200, seed=2)
    before = accuracy(model, held_out)
    given = ("dpo", "--policy", model, "--data", "pairs.jsonl")
    said = uptake("check", *given)
    assert "warm-up 1, not 150: at most 0.1 of them (warmup_cap)" in said
    assert "ready, but read the cautions" in said
    (proposed,) = re.findall(r"can move nothing.*instead: (--set.*)", said)

    uptake("train", *given, "--out", "idle")
    uptake("train", *given, "--out", "run", *proposed.split())
    idle, learned = (accuracy(Path(folder) / "model", held_out) for folder in ("idle", "run"))
    assert abs(before - 0.5) < 0.07
    assert abs(idle - before) < 0.02
    assert learned > 0.5 + 3 * math.sqrt(0.25 / 200)
    assert uptake("check", *given, *proposed.split()).endswith(
        "ready: green text is trained on, dim text is only read\n"
    )


@pytest.mark.parametrize("optimizer", ["adamw", "rmsprop", "adafactor"])
@pytest.mark.parametrize("lora", [0, 2])
def test_the_proposed_settings_reach_alike_with_every_optimizer(tmp_path: Path, optimizer: str, lora: int) -> None:
    """Rates differ by more than a thousand times, and yet the loss falls by as much."""
    lm = add_lora(tiny_llama(), rank=lora, alpha=2 * lora) if lora else tiny_llama()
    options: dict[str, Any] = {"optimizer": optimizer, "reference": "adapter_off" if lora else "initial"}
    world = tiny_world(tmp_path / "run", separable(200, seed=1), lm)
    (line,) = check(methods.build("dpo", options), world).cautions
    options |= dict(re.findall(r"--set (\w+)=(\S+)", line))
    run(methods.build("dpo", options), world)
    last = [row["loss"] for row in read_jsonl(tmp_path / "run" / "metrics.jsonl")][-25:]
    assert 0.4 < sum(last) / 25 < 0.63
    # Adafactor moves an adapter, half of which starts at 0, by rates only that scatter the other half.
    assert options["optimizer"] == ("adamw" if lora and optimizer == "adafactor" else optimizer)


def test_training_says_how_far_it_reaches(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    run(methods.build("dpo", {"batch_size": 2}), tiny_world(tmp_path / "idle", pair_records(5)))
    line = "learning rates: sum 1.2e-06 over 3 steps; warm-up 1, not 150: at most 0.1 of them (warmup_cap)"
    assert [record.message for record in caplog.records if record.levelno == logging.INFO][1:] == [line]
    assert "these settings can move nothing" in caplog.text
    caplog.clear()
    learns = {"batch_size": 2, "lr": 0.01, "warmup_cap": None, "warmup": 2}
    run(methods.build("dpo", learns), tiny_world(tmp_path / "learns", pair_records(5)))
    assert [record.message for record in caplog.records][1:] == ["learning rates: sum 0.02 over 3 steps"]


def test_a_method_that_samples_is_told_a_rate_alone(tmp_path: Path) -> None:
    found = check(methods.build("flr", {"lr": 1e-9, "epochs": 30}), tiny_world(tmp_path, prompt_records(8)))
    assert dict(found.facts)["optimizer steps"] == "30 if every prompt gives one example"
    (line,) = found.cautions
    assert re.fullmatch(r".* by \S+ % at most, and less than 1 % does not show; instead: --set lr=\S+", line)
    (rate,) = re.findall(r"lr=(.*)", line)
    proposed = {"lr": float(rate), "epochs": 30}
    assert not check(methods.build("flr", proposed), tiny_world(tmp_path, prompt_records(8))).cautions


def longest_step(settings: Optimization, steps: int) -> float:
    """The longest way of a weight in one step of PyTorch's optimizer, under one gradient, in units of its size."""
    weight = nn.Parameter(torch.ones(4, 4, dtype=torch.float64))
    built, ways = build_optimizer(settings, [weight]), []
    for step in range(steps):
        set_rate(built, settings.rate(step, steps))
        weight.grad, before = torch.full_like(weight, -1e-3), float(weight.detach()[0, 0])
        built.step()
        ways.append(float(weight.detach()[0, 0]) - before)
    return max(ways)


@pytest.mark.parametrize("optimizer", ["adamw", "rmsprop", "adafactor"])
@pytest.mark.parametrize(("rank", "most"), [(0, 0.06), (4, 0.003)])
@pytest.mark.parametrize("steps", [1, 5, 2000])
def test_no_proposed_step_is_longer_than_is_sound(optimizer: Any, rank: int, most: float, steps: int) -> None:
    """Where so few steps would be, there are more of them, with which the goal is reached; else as many as before."""
    lm = add_lora(tiny_llama(), rank=rank, alpha=2 * rank) if rank else tiny_llama()
    settings = Optimization(lr=1e-12, optimizer=optimizer, warmup=0)
    better, enough = settings_that_move(settings, lm.model, steps)
    assert enough == steps if steps == 2000 else enough > steps
    found = reach_of(better, lm.model, enough)
    assert found.share == pytest.approx(0.2, rel=0.34)  # a rate has one digit
    share = found.share / distance(better, enough)
    assert longest_step(replace(better, lr=1e-5), enough) * better.lr / 1e-5 * share < 1.34 * most


def test_one_step_is_told_how_many_would_do(tmp_path: Path) -> None:
    """A round of PPO on an adapter: not a rate of 0.03."""
    world = tiny_world(tmp_path, prompt_records(2), add_lora(tiny_llama(), rank=4, alpha=8))
    options = {"lr": 1e-9, "reward": "length", "prompts": 2, "n": 1, "rounds": 1, "epochs": 1, "critic": "shared"}
    (line,) = check(methods.build("ppo", options), world).cautions
    ((rate, steps),) = re.findall(r"lr=(\S+), in (\d+) steps and not 1: more rounds, or more prompts in each", line)
    assert float(rate) < 0.003
    more = {**options, "lr": float(rate), "rounds": int(steps)}
    (fact,) = [value for name, value in check(methods.build("ppo", more), world).facts if name == "reach"]
    assert 13 < float(fact.split()[0]) < 27


def test_few_pairs_are_told_how_many_epochs_would_do(tmp_path: Path) -> None:
    lm = add_lora(tiny_llama(), rank=4, alpha=8)
    (line,) = check(
        methods.build("dpo", {"reference": "adapter_off"}), tiny_world(tmp_path, pair_records(8), lm)
    ).cautions
    ((size, epochs),) = re.findall(r"batch_size=(\d+) --set epochs=(\d+) --set lr=\S+$", line)
    assert int(size) == 4
    assert int(epochs) > 30


# --- rows that teach nothing ------------------------------------------------------------------------------------------

EQUAL = [{"prompt": f"{word} ?", "chosen": "bread .", "rejected": "bread ."} for word in ("when", "where", "does")]
LEARNS = {"lr": 1e-2, "epochs": 10}


@pytest.mark.parametrize(("method", "count"), [("dpo", 3), ("reward_model", 3), ("kto", 6), ("token_reward_model", 3)])
def test_equal_responses_are_counted_by_every_method_of_pairs(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, method: str, count: int
) -> None:
    recipe = methods.build(method, LEARNS)
    world = tiny_world(tmp_path / "run", [*pair_records(4), *EQUAL])
    assert check(recipe, world).cautions == (f"of the first 7 rows, dropped: equal responses ({count})",)
    run(recipe, world)
    examples = 8 if method == "kto" else 4
    assert warned(caplog) == [f"{examples} examples; dropped: equal responses ({count})"]
    with pytest.raises(InputError, match=rf"in the first 3 rows; dropped: equal responses \({count}\)"):
        check(recipe, tiny_world(tmp_path, EQUAL))
    with pytest.raises(ModelError, match=rf"no training example is left; dropped: equal responses \({count}\)"):
        run(recipe, tiny_world(tmp_path / "equal", EQUAL))


ONE_PROMPT = "batches hold one prompt only, so that their reference point is 0"


@pytest.mark.parametrize(
    ("prompts", "labels", "options", "said"),
    [
        ((0, 1, 2, 3), (True, False, True, False), {}, []),
        ((0, 0, 0, 0), (True, False, True, False), {}, [f"1 of 1 {ONE_PROMPT}"]),
        ((0, 1, 2, 3), (True, False, True, False), {"batch_size": 1}, [f"4 of 4 {ONE_PROMPT}"]),
        ((0, 1, 2, 3), (True, False, True, False), {"batch_size": 3}, [f"1 of 2 {ONE_PROMPT}"]),
        ((0, 1, 2, 3), (True,) * 4, {}, ["every response is good"]),
        ((0, 1, 2, 3), (False,) * 4, {}, ["every response is bad"]),
    ],
)
def test_what_kto_cannot_learn_is_said(
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    prompts: Sequence[int],
    labels: Sequence[bool],
    options: dict[str, Any],
    said: list[str],
) -> None:
    rows = [
        {"prompt": f"{WORDS[prompt]} ?", "completion": f"{WORDS[place + 5]} .", "label": label}
        for place, (prompt, label) in enumerate(zip(prompts, labels, strict=True))
    ]
    recipe = methods.build("kto", {**LEARNS, "epochs": 1, "lr": 0.1, **options})
    world = tiny_world(tmp_path / "run", rows)
    cautions = check(recipe, world).cautions
    run(recipe, world)
    for found in (list(cautions), warned(caplog)):
        assert len(found) == len(said)
        assert all(line.startswith(start) for line, start in zip(found, said, strict=True))


# --- memory -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "copies", "named"),
    [
        ({}, 4, "policy, reference, gradients, 1 optimizer moment"),
        ({"optimizer": "adamw"}, 5, "policy, reference, gradients, 2 optimizer moments"),
        ({"optimizer": "adafactor"}, 3, "policy, reference, gradients"),
    ],
)
def test_memory_for_weights_is_that_of_what_is_held(
    tmp_path: Path, options: dict[str, Any], copies: int, named: str
) -> None:
    lm = tiny_llama(hidden_size=256, intermediate_size=1024, num_hidden_layers=8)
    facts = dict(check(methods.build("dpo", options), tiny_world(tmp_path, pair_records(2), lm)).facts)
    one = sum(weight.nbytes for weight in lm.model.parameters())
    assert facts["memory for weights"] == f"about {copies * one / 2**20:.0f} MiB: {named}"
