"""Cost of a run by one real step of it: time and peak memory, before anything is written."""

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch

from uptake.recipe import Stage
from uptake.support.memory import peak_memory
from uptake.train.loop import Learner, batch_plan
from uptake.world import World


@dataclass(frozen=True)
class MeasuredStep:
    """Optimizer step as it was measured: its seconds, its distinct tokens, and the bytes held at its peak."""

    seconds: float
    tokens: int
    peak: int


def measured_step(stage: Stage, world: World, examples: Sequence[Any]) -> MeasuredStep:
    """Take the first two steps of a run over some examples, at a rate of 0: all weights stay what they are.

    The second one is measured, since the first makes what later ones find. On the CPU the peak is that of the whole
    process so far.
    """
    torch.manual_seed(world.seed)
    learner = Learner(stage, world)
    plan = batch_plan(len(examples), stage, (world.seed, 0, 0))
    first, second = ([examples[index] for index in part] for part in (plan[0], plan[min(1, len(plan) - 1)]))
    learner.step(first, 0.0)
    start = time.perf_counter()
    learner.step(second, 0.0)
    seconds = time.perf_counter() - start
    tokens = sum(len(stage.objective.tree(example)) for example in second)
    return MeasuredStep(seconds, tokens, _peak(world.policy.device))


def _peak(device: torch.device) -> int:
    """Bytes that were held at most."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    return peak_memory()
