"""Memory: what is free, micro-batches and calls that fit it, and a run that keeps its first choice."""

import json
import os
import re
import shutil
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from tiny import pair_records, read_jsonl, tiny_llama, tiny_world, weights_of
from tiny_models import ready, tiny

from uptake import methods
from uptake.models import branches, pack, score_trees, token_logps
from uptake.models.language_model import Limits
from uptake.models.memory import fitting_limits, token_bytes
from uptake.recipe import Recipe
from uptake.sampling.answer import PromptIds
from uptake.sampling.draw import Sampling
from uptake.sampling.sampler import sample
from uptake.support import memory
from uptake.support.memory import free_memory, group_room, held_memory, peak_memory
from uptake.train.loop import Options, run
from uptake.types import Prompt, Turn
from uptake.update import Optimization, StepMemory, build_optimizer, step_memory
from uptake.update.memory import fast_tokens, fitting_tokens
from uptake.world import World


def test_free_memory_is_part_of_the_machine() -> None:
    whole = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    assert 0 < free_memory() <= whole
    assert 0 < held_memory() <= peak_memory() < whole


def test_memory_that_is_taken_is_held_and_no_longer_free() -> None:
    before, size = held_memory(), 256 * 2**20
    block = torch.ones(size, dtype=torch.uint8)
    assert held_memory() - before > 0.9 * size
    del block
    assert held_memory() - before < 0.5 * size
    assert peak_memory() - before > 0.9 * size


def test_a_system_that_does_not_say_the_peak(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "status").write_text("Name:\tpython\nVmRSS:\t7 kB\n")
    monkeypatch.setattr(memory, "_status", lambda name: memory._field(tmp_path / "status", name))
    assert held_memory() == 7 * 1024
    assert peak_memory() > 2**20


@pytest.mark.parametrize(
    ("limit", "room"), [("1000", 1000 - 700 + 50), ("600", 0), ("max", sys.maxsize), (None, sys.maxsize)]
)
def test_a_container_leaves_what_it_may_take_and_can_give_back(tmp_path: Path, limit: str | None, room: int) -> None:
    if limit is not None:
        (tmp_path / "memory.max").write_text(f"{limit}\n")
    (tmp_path / "memory.current").write_text("700\n")
    (tmp_path / "memory.stat").write_text("anon 650\ninactive_file 50\nactive_file 0\n")
    assert group_room(tmp_path / "memory.max", tmp_path / "memory.current", "inactive_file") == room


def test_limits_are_the_largest_that_fit() -> None:
    model = tiny_llama().base
    # Keys and values by hand: 2 layers of 2 heads of 8 numbers, 4 bytes each.
    called, cached = token_bytes(model)
    assert cached == 2 * 2 * 2 * 8 * 4
    assert called > (16 + 24) * 4
    assert fitting_limits(model, free=2**40) == Limits()
    assert fitting_limits(model, free=4 * 8192 * called).call == 8192
    for free in (0, 10**5, 10**6, 10**7):
        found = fitting_limits(model, free)
        for tokens, size, most in ((found.call, called, 8192), (found.cache, cached, 65536)):
            assert tokens.bit_count() == 1
            assert tokens == 256 or 4 * tokens * size <= free
            assert tokens == most or 8 * tokens * size > free


@pytest.mark.parametrize("family", ["Mamba", "Jamba", "GPT2", "Bloom"])
def test_every_model_has_limits(family: str) -> None:
    assert ready(tiny(family)).limits == Limits()


def test_a_call_that_is_bounded_by_one_token_gives_the_same_numbers() -> None:
    lm = tiny_llama(dtype=torch.float64)
    trees = [branches((3, 5, size), (7,) * size, (8, 9)) for size in (2, 9, 4)]
    tight = replace(lm, limits=Limits(call=1, cache=1))
    for one, other in zip(score_trees(lm, trees, 8192), score_trees(tight, trees, 8192), strict=True):
        for node, again in zip(one, other, strict=True):
            torch.testing.assert_close(node, again, atol=1e-12, rtol=0)
    prompts = [PromptIds(Prompt((Turn("user", "when"),), str(size)), (3, 5, *range(4, 4 + size))) for size in (1, 7, 3)]
    drawn = Sampling(n=3, max_new_tokens=5, seed=1)
    both = [[each.response_ids for each in sample(one, prompts, drawn, one.end_ids)] for one in (lm, tight)]
    assert both[0] == both[1]


def memory_of(**changes: Any) -> StepMemory:
    usual = {
        "gradients": 100,
        "moments": 200,
        "table": 10,
        "fixed": 0,
        "token": 1.0,
        "layer": 0.0,
        "logits": 0,
        "chunk": 1,
    }
    return StepMemory(**{**usual, **changes})


def test_the_peak_of_a_step_by_hand() -> None:
    """One micro-batch: its activations are gone when all gradients are there; of several, those before are there."""
    memory = memory_of(token=4.0, layer=1.0, logits=3, chunk=5)
    assert memory.micro_batch(60) == 4 * 60 + max(60, 3 * 5 + 3 * 10)
    assert memory.micro_batch(2) == 4 * 2 + max(2, 3 * 2 + 3 * 10)
    assert memory.peak(2, several=False) == 200 + 100 + 10
    assert memory.peak(60, several=False) == 200 + 300
    assert memory.peak(60, several=True) == 200 + 100 + 300
    assert replace(memory, gaps=1.5, always=7).peak(60, several=True) == 1.5 * 600 + 7


@pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="no system that forgets the highest")
def test_a_second_micro_batch_takes_no_second_set_of_gradients() -> None:
    """Each weight's gradient is added to what is there when it is known: no other set of all is ever held."""
    lm = tiny_llama(hidden_size=512, intermediate_size=2048, num_hidden_layers=8)
    packed, size = pack([branches([1, 2], [3, 4])]), sum(4 * weight.numel() for weight in lm.model.parameters())
    before = held_memory()
    token_logps(lm, packed).sum().backward()
    assert held_memory() - before > 0.9 * size
    Path("/proc/self/clear_refs").write_text("5")  # the highest is from now on
    before = held_memory()
    token_logps(lm, packed).sum().backward()
    assert peak_memory() - before < 0.4 * size


def test_what_is_measured_of_a_step_is_let_go() -> None:
    """Five looks at activations of some 60 MB leave no more behind than one does."""
    lm = tiny_llama(hidden_size=256, intermediate_size=1024, num_hidden_layers=4)
    memory = step_memory(lm, Optimization(lr=1e-3))
    before = held_memory()
    for _ in range(5):
        assert step_memory(lm, Optimization(lr=1e-3)) == memory
    assert held_memory() - before < 64 * 2**20 < 5 * 320 * memory.token


def test_micro_batches_are_halved_until_they_fit() -> None:
    """Three quarters of what is free hold moments, gradients and the tokens."""
    lm, memory = tiny_llama(), memory_of(table=0, moments=201)
    assert fitting_tokens(lm, memory, free=(301 + 8192) * 4 // 3) == 8192
    assert fitting_tokens(lm, memory, free=(301 + 8192) * 4 // 3 - 1) == 4096
    assert fitting_tokens(lm, memory, free=(301 + 256) * 2) == 512
    assert fitting_tokens(lm, memory, free=0) == 128


@pytest.mark.parametrize(
    ("weights", "tokens"), [(670_000, 8192), (5_000_000, 8192), (30_000_000, 2048), (7_000_000_000, 2048)]
)
def test_large_models_take_few_tokens_at_once(weights: int, tokens: int) -> None:
    """Beyond them, a processor is no faster."""
    assert fast_tokens(weights, torch.device("cpu")) == tokens
    assert fast_tokens(weights, torch.device("cuda")) == 8192


def begun(folder: Path) -> Recipe:
    """A run that is stopped after its second step, every one of which is saved."""
    recipe = methods.build("dpo", {"lr": 1e-2, "batch_size": 4, "warmup": 0})

    def stop(world: World, step: int) -> dict[str, Any]:
        if step == 2:
            raise KeyboardInterrupt
        return {}

    with pytest.raises(KeyboardInterrupt):
        run(recipe, tiny_world(folder, pair_records(16)), Options(observe=stop, observe_every=1, save_every=1))
    return recipe


def gone_on(recipe: Recipe, folder: Path) -> int:
    """The passes over a layer of the policy that learn, in the rest of a run on a machine that seems to be full."""
    world, passes = tiny_world(folder, pair_records(16)), []
    layer = world.policy.base.model.layers[0]
    layer.register_forward_hook(lambda *_: passes.append(1) if torch.is_grad_enabled() else None)
    tight = replace(world.policy, limits=Limits(1, 1))
    run(recipe, replace(world, policy=tight), Options(resume=True, observe=lambda *_: {"call": 1}))
    return len(passes)


def test_a_resumed_run_keeps_its_micro_batches_and_limits(tmp_path: Path) -> None:
    """What was chosen first is in run.json, and counts whatever is free by then."""
    recipe = begun(tmp_path / "run")
    file = tmp_path / "run" / "run.json"
    facts = json.loads(file.read_text())
    assert facts["micro_tokens"] == {"0": 8192}
    assert facts["limits"]["policy"] == facts["limits"]["follow_up"] == {"call": 8192, "cache": 65536}
    shutil.copytree(tmp_path / "run", tmp_path / "cut")
    (tmp_path / "cut" / "run.json").write_text(json.dumps({**facts, "micro_tokens": {"0": 1}}))
    assert gone_on(recipe, tmp_path / "run") == 3  # a pass for each step that is left
    assert gone_on(recipe, tmp_path / "cut") == 3 * 4  # one for each example
    run(recipe, tiny_world(tmp_path / "whole", pair_records(16)))
    whole, resumed = (read_jsonl(tmp_path / name / "metrics.jsonl") for name in ("whole", "run"))
    assert resumed == whole
    assert json.loads(file.read_text())["limits"] == facts["limits"]


def test_the_choice_is_one_line(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level("INFO", logger="uptake.train"):
        run(methods.build("dpo", {"batch_size": 4}), tiny_world(tmp_path / "run", pair_records(4)))
        (line,) = [record.message for record in caplog.records if "micro-batches" in record.message]
        assert re.fullmatch(
            r"micro-batches: at most 8192 tokens of \S+ MiB, so that a step takes \S+ GiB of the \S+ that are free "
            r"\(micro_tokens\)",
            line,
        )
        caplog.clear()
        # Neither a run that is over already nor one that was given a size chooses.
        run(
            methods.build("dpo", {"batch_size": 4}), tiny_world(tmp_path / "run", pair_records(4)), Options(resume=True)
        )
        run(methods.build("dpo", {"micro_tokens": 1}), tiny_world(tmp_path / "set", pair_records(4)))
        assert "micro-batches" not in caplog.text


def test_micro_batches_smaller_than_an_example_hold_one(tmp_path: Path) -> None:
    """An example is never cut; the numbers are those of a large budget, to rounding."""
    found = []
    for name, micro_tokens in (("one", 1), ("all", 8192)):
        world = tiny_world(tmp_path / name, pair_records(8), tiny_llama(dtype=torch.float64))
        recipe = methods.build("dpo", {"lr": 1e-3, "batch_size": 4, "micro_tokens": micro_tokens})
        found.append(weights_of(run(recipe, world).policy))
    for name, weight in found[0].items():
        torch.testing.assert_close(weight, found[1][name], atol=1e-9, rtol=0)


@pytest.mark.parametrize("optimizer", ["adamw", "rmsprop", "adafactor"])
def test_what_an_optimizer_keeps_is_counted(optimizer: Any) -> None:
    """Its state after a step, by the bytes of its tensors of more than one number; adafactor's are rows and columns."""
    lm = tiny_llama()
    memory = step_memory(lm, Optimization(lr=1e-3, optimizer=optimizer))
    weights = list(lm.model.parameters())
    made = build_optimizer(Optimization(lr=1e-3, optimizer=optimizer), weights)
    for weight in weights:
        weight.grad = torch.ones_like(weight)
    made.step()
    kept = sum(
        value.nbytes
        for state in made.state.values()
        for value in state.values()
        if torch.is_tensor(value) and value.dim()
    )
    if optimizer == "adafactor":
        assert memory.moments == 0 < kept < 0.3 * memory.gradients
    else:
        assert memory.moments == kept
    assert memory.gradients == sum(weight.nbytes for weight in weights)
