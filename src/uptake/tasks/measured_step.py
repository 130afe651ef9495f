"""Cost of a run by real work: a small share of a round's samples and judgements, one step, and the peak memory."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, TypeVar

import torch

from uptake.errors import InputError
from uptake.objective import RoundObjective
from uptake.recipe import Stage
from uptake.support.memory import peak_memory
from uptake.train.loop import Learner, batch_plan
from uptake.types import Row
from uptake.update import precision
from uptake.world import World

T = TypeVar("T")

# Rows that are sampled and judged to tell the time of all: so many, or fewer where responses may be this long together.
MOST_ROWS, MOST_TOKENS = 8, 1 << 13


@dataclass(frozen=True)
class MeasuredStep:
    """Optimizer step as it was measured: its seconds, its distinct tokens, and the bytes held at its peak."""

    seconds: float
    tokens: int
    peak: int


@dataclass(frozen=True)
class MeasuredRound:
    """Share of a round as it was measured: `rows` sampled and judged, in seconds, and what one step of them took.

    `prepare` are the seconds of what its objective works out once a round; `tokens` are those of all examples.
    """

    rows: int
    responses: int
    response_tokens: int
    sampling: float
    judging: float
    prepare: float
    examples: int
    tokens: int
    step: MeasuredStep


def measured_step(stage: Stage, world: World, examples: Sequence[Any]) -> MeasuredStep:
    """Take the first two steps of a run over some examples, at a rate of 0: all weights stay what they are.

    The second one is measured, since the first makes what later ones find. On the CPU the peak is that of the whole
    process so far.
    """
    torch.manual_seed(world.seed)
    return _steps(Learner(stage, world), examples)


def measured_round(stage: Stage, world: World, rows: Sequence[Row]) -> MeasuredRound:
    """Sample and judge the first of a round's rows, prepare what they give and take two steps, at a rate of 0.

    Nothing is kept of it. Raises InputError where no training example comes of them.
    """
    torch.manual_seed(world.seed)
    produce, judge, signal = stage.sampling
    longest = getattr(produce, "n", 1) * getattr(produce, "max_new_tokens", 1)
    learner, rows = Learner(stage, world), rows[: max(2, min(MOST_ROWS, MOST_TOKENS // longest))]
    with TemporaryDirectory() as scratch:
        aside = replace(learner.world, folder=Path(scratch))
        groups, sampling = _timed(lambda: produce(aside, rows, 0, 0))
        assessments, judging = _timed(lambda: judge.start(aside)(groups))
    examples = signal(groups, assessments).examples
    if not examples:
        problem = f"no training example came of {len(rows)} rows that were sampled and judged"
        raise InputError(problem, field="--measure", allowed="rows and settings that give examples")
    prepared, prepare = _timed(lambda: _prepared(learner, examples))
    responses = [rollout for group in groups for rollout in group]
    return MeasuredRound(
        rows=len(rows),
        responses=len(responses),
        response_tokens=sum(len(rollout.response_ids) for rollout in responses),
        sampling=sampling,
        judging=judging,
        prepare=prepare,
        examples=len(prepared),
        tokens=sum(len(stage.objective.tree(example)) for example in prepared),
        step=_steps(learner, prepared),
    )


def _prepared(learner: Learner, examples: Sequence[Any]) -> Sequence[Any]:
    """Examples as the loss takes them."""
    objective, update = learner.stage.objective, learner.stage.update
    if not isinstance(objective, RoundObjective):
        return examples
    policy = learner.world.policy
    with precision(update, policy.device):
        tensors, *_ = objective.prepare(policy, learner.reference, examples, {}, update.budget)
    return objective.with_prepared(examples, tensors)


def _steps(learner: Learner, examples: Sequence[Any]) -> MeasuredStep:
    stage, world = learner.stage, learner.world
    plan = batch_plan(len(examples), stage, (world.seed, 0, 0))
    first, second = ([examples[index] for index in part] for part in (plan[0], plan[min(1, len(plan) - 1)]))
    learner.step(first, 0.0)
    _, seconds = _timed(lambda: learner.step(second, 0.0))
    tokens = sum(len(stage.objective.tree(example)) for example in second)
    return MeasuredStep(seconds, tokens, _peak(world.policy.device))


def _timed(work: Callable[[], T]) -> tuple[T, float]:
    start = time.perf_counter()
    return work(), time.perf_counter() - start


def _peak(device: torch.device) -> int:
    """Bytes that were held at most."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    return peak_memory()
