"""The relatives of the three systems: each trains, each is what it is said to be at its neutral settings."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from tiny import answered_records, pair_records, prompt_records, read_jsonl, tiny_llama, tiny_world, weights_of
from torch import Tensor

from uptake import methods
from uptake.recipe import Recipe
from uptake.train.loop import run
from uptake.world import World

FAST: dict[str, Any] = {"lr": 3e-3, "batch_size": 4, "warmup": 0.0, "clip": 1.0}
SHORT: dict[str, Any] = {"max_new_tokens": 5}


def scored_records(count: int, seed: int = 0) -> list[dict[str, Any]]:
    return [row | {"reward": math.sin(7 * index)} for index, row in enumerate(answered_records(count, seed))]


def with_start(world: World) -> World:
    """The world with the policy as it begins among its models, as `train` makes it."""
    start = replace(world.policy, model=tiny_llama().model.requires_grad_(False))
    return replace(world, models={**world.models, "start": start, "second": tiny_llama(seed=5)})


SETTINGS: Mapping[str, tuple[Sequence[Mapping[str, Any]], dict[str, Any]]] = {
    "spin": (answered_records(8), {"iterations": 2, "keep_unfinished": True, **SHORT}),
    "spa": ([*pair_records(4), *prompt_records(8, 1)], {"iterations": 2, "seed_epochs": 2, "least": 1, **SHORT}),
    "selm": (pair_records(8), {"iterations": 2, "reward": "length", **SHORT}),
    "online_self_preferring": (prompt_records(8), {"steps": 2, "judge": "length", **SHORT}),
    "filtering_alignment": (scored_records(12), {}),
    "reward_weighted_regression": (scored_records(12), {}),
    "conditional_alignment": (scored_records(12), {}),
    "multi_reference_po": (pair_records(8), {}),
}


def build(name: str, **changes: Any) -> Recipe:
    return methods.build(name, {**FAST, **SETTINGS[name][1], **changes})


def trained(name: str, folder: Path, **changes: Any) -> dict[str, Tensor]:
    world = with_start(tiny_world(folder, SETTINGS[name][0]))
    run(build(name, **changes), world)
    return weights_of(world.policy)


@pytest.mark.parametrize("name", SETTINGS)
def test_every_relative_learns(name: str, tmp_path: Path) -> None:
    before = weights_of(tiny_llama())
    after = trained(name, tmp_path)
    assert any((after[key] != before[key]).any() for key in before)
    losses = [line["loss"] for line in read_jsonl(tmp_path / "metrics.jsonl")]
    assert all(map(math.isfinite, losses))
