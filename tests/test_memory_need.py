"""Memory that a run is told to need: sizes as people spell them, what comes on top, and the settings that fit."""

import re
from pathlib import Path
from typing import Any

import pytest
from tiny import pair_records, prompt_records, tiny_llama, tiny_world

from uptake import methods
from uptake.errors import InputError
from uptake.recipe import Stage
from uptake.tasks.check import check
from uptake.tasks.memory_need import GIB, memory_need, memory_size, memory_text, what_fits

# Bytes that a process is taken to hold before its first step.
HELD = 2**28


@pytest.mark.parametrize(
    ("text", "size"),
    [("8GB", 8 * GIB), ("8", 8 * GIB), ("8 GiB", 8 * GIB), ("512mb", 2**29), ("1.5g", 3 * 2**29), ("1T", 2**40)],
)
def test_sizes_are_read_as_people_write_them(text: str, size: int) -> None:
    assert memory_size(text) == size


@pytest.mark.parametrize(("size", "text"), [(586 * 2**20, "586 MiB"), (GIB, "1 GiB"), (3446 * 2**20, "3.37 GiB")])
def test_sizes_are_written_as_they_are_read(size: int, text: str) -> None:
    assert memory_text(size) == text
    assert memory_size(text) == pytest.approx(size, rel=0.005)


@pytest.mark.parametrize("text", ["", "much", "0GB", "-1GB", "8 GBB", "8XB"])
def test_what_is_no_size_is_refused(text: str) -> None:
    with pytest.raises(InputError, match="--memory"):
        memory_size(text)


def stage_of(**options: Any) -> Stage:
    (stage,) = methods.build("dpo", {"batch_size": 4, **options}).stages
    return stage


def test_a_frozen_copy_and_what_learns_come_on_top(tmp_path: Path) -> None:
    """By the reference that costs a copy and the one that costs nothing, and moments of two optimizers."""
    world = tiny_world(tmp_path, [], tiny_llama(hidden_size=256, intermediate_size=1024, num_hidden_layers=4))
    size = sum(weight.nbytes for weight in world.policy.model.parameters())
    costs = [[20, 20]]

    def peak(**options: Any) -> float:
        return memory_need(stage_of(**options), world, costs, HELD).peak

    plain = peak(optimizer="rmsprop")
    assert plain - peak(optimizer="adafactor") == pytest.approx(1.25 * size, abs=2**20)
    assert peak(optimizer="adamw") - plain == pytest.approx(1.25 * size, abs=2**20)
    assert plain - peak(optimizer="rmsprop", reference="given") == pytest.approx(size, abs=2**20)
    assert plain > HELD + 3 * size


def test_larger_micro_batches_take_more_up_to_the_step(tmp_path: Path) -> None:
    world, costs = tiny_world(tmp_path, []), [[30, 30, 30], [10]]
    found = {
        size: memory_need(stage_of(micro_tokens=size), world, costs, HELD).tokens for size in (1, 60, 89, 90, 8192)
    }
    assert found == {1: 30, 60: 60, 89: 60, 90: 90, 8192: 90}


def test_what_does_not_fit_is_told_what_would(tmp_path: Path) -> None:
    """A setting that is enough is named with its peak; where none is, all that it takes; else that nothing is."""
    lm = tiny_llama(hidden_size=256, intermediate_size=1024)
    world, costs = tiny_world(tmp_path, [], lm), [[90] * 128] * 2
    stage = stage_of(micro_tokens=8192)
    need = memory_need(stage, world, costs, HELD)
    assert what_fits(stage, world, costs, HELD, need.peak + 2**20) == ""
    line = what_fits(stage, world, costs, HELD, need.peak - 2**20)
    assert re.match(r"the run takes about \S+ GiB, and there are \S+ GiB: it fits with --set micro_tokens=2048 ", line)
    assert "or with --set recompute=true (" in line
    assert what_fits(stage, world, costs, HELD, 1).endswith("smaller are another model and shorter examples")
    tight = memory_need(stage_of(micro_tokens=2048, recompute=True), world, costs, HELD).peak + 2**20
    assert "it fits with --set micro_tokens=2048 --set recompute=true" in what_fits(stage, world, costs, HELD, tight)


def test_check_says_what_a_small_machine_cannot_hold(tmp_path: Path) -> None:
    found = check(methods.build("dpo"), tiny_world(tmp_path, pair_records(8)), memory=2**20)
    assert any("the run takes about" in line and "smaller are" in line for line in found.cautions)
    found = check(methods.build("dpo"), tiny_world(tmp_path, pair_records(8)))
    facts = dict(found.facts)
    at_once = re.fullmatch(r"about \S+ [MG]iB, with (\d+) tokens at once", facts["memory of a step"])
    # Eight rows are one step, though a batch could have 64.
    assert at_once is not None
    assert facts["distinct tokens"].endswith(f" an example, {at_once[1]} an optimizer step")
    assert not any("the run takes about" in line for line in found.cautions)


def test_a_critic_of_its_own_may_be_shared(tmp_path: Path) -> None:
    world = tiny_world(tmp_path, prompt_records(8), tiny_llama(hidden_size=128))
    recipe = methods.build("ppo", {"prompts": 4, "n": 2, "max_new_tokens": 6, "reward": "length"})
    (line,) = [line for line in check(recipe, world, memory=2**20).cautions if "the run takes" in line]
    assert "--set critic=shared" in line
