"""The only driver: runs the stages of a recipe on a world, and knows no method's name.

Every phase leaves a file behind, so that a run that is killed at any moment goes on from there and ends with the same
weights and metrics as one that was not.
"""

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, final

import numpy as np
import torch

from uptake.errors import InputError
from uptake.models import save_model
from uptake.models.ensemble import by_member
from uptake.recipe import Recipe, Stage
from uptake.support.progress import progress_bar
from uptake.support.stop import going_on
from uptake.train import checkpoint
from uptake.train.checkpoint import Cursor, Snapshot
from uptake.train.rounds import nothing_left, prepare_round, refuse_moving_judges, rounds_of_data
from uptake.train.run_folder import RunLog, open_run
from uptake.train.tensor_folder import read_tensors, write_tensors
from uptake.types import RoundData
from uptake.update import (
    advice,
    build_optimizer,
    fitting,
    optimizer_step,
    rates_line,
    reach_of,
    set_rate,
    trainable,
    trainable_modules,
)
from uptake.world import World

logger = logging.getLogger(__name__)

# Called between optimizer steps with the policy as it is; what it returns is written to curve.jsonl.
Observer = Callable[[World, int], Mapping[str, Any]]

# Rounds in a row without a training example after which a run is given up: its judge never answers, say.
EMPTY_ROUNDS = 5


@dataclass(frozen=True)
class Options:
    """Options of carrying a run out, as opposed to what it computes: nothing here changes a weight.

    `title` and `method` are for the report; `config` is what the run was asked for, as YAML, for people and for a run
    that repeats this one. `report` is called with the folder when all but the trained model is in it.
    """

    title: str = ""
    resume: bool = False
    save_every: int = 50
    observe: Observer | None = None
    observe_every: int = 0
    method: str = ""
    config: str = ""
    report: Callable[[Path], object] | None = None


def run(recipe: Recipe, world: World, options: Options = Options()) -> World:  # frozen
    """Run a recipe in `world.folder`; returns the world with its trained policy, which is also saved under `model/`.

    Raises InputError where the folder holds another run, or a run and `resume` was not asked for, and where a judge
    would read with weights that learn meanwhile; UptakeError where another process is at work in the folder.
    """
    refuse_moving_judges(recipe, world)
    opened = open_run(recipe, world, options.resume, title=options.title, method=options.method, config=options.config)
    with opened as folder, going_on(lambda: _goes_on(folder)):
        return _run(recipe, world, options, folder)


def _goes_on(folder: Path) -> str:
    step = (checkpoint.newest(folder) or Cursor()).step
    return f"{folder}: the same command with --resume goes on from step {step}"


def _run(recipe: Recipe, world: World, options: Options, folder: Path) -> World:
    snapshot = checkpoint.load(folder) if options.resume else None
    with RunLog(folder, (snapshot.cursor if snapshot else Cursor()).step) as log:
        trained = _run_stages(recipe, world, options, log, snapshot)
    if options.report is not None:
        options.report(folder)
    respond = recipe.stages[-1].respond
    chat = trained.chat if respond is None else respond(trained)
    save_model(trained.policy, chat.template, folder / "model", chat.closing, chat.end_ids)
    return trained


def _run_stages(recipe: Recipe, world: World, options: Options, log: RunLog, snapshot: Snapshot | None) -> World:
    """The world after all stages, or those that a snapshot leaves."""
    folder, cursor = log.folder, snapshot.cursor if snapshot else Cursor()
    _keep_start(recipe, world, folder)
    world = trained = log.within_limits(world)
    if snapshot and cursor.stage == len(recipe.stages):
        learner = Learner(recipe.stages[-1], world, log.micro_tokens(cursor.stage - 1))
        learner.load(snapshot.weights)
        trained = learner.world
    for index in range(cursor.stage, len(recipe.stages)):
        stage = recipe.stages[index]
        if index:
            _load_weights(world, read_tensors(_stage_start(folder, index), "weights"))
        # New modules draw their weights, which must not depend on what this process did before.
        torch.manual_seed(world.seed)
        learner = Learner(stage, world, log.micro_tokens(index))
        log.keep_micro_tokens(index, learner.micro_tokens)
        # A snapshot between two stages holds modules and optimizer of the one that is over.
        if snapshot is not None and cursor != Cursor(stage=index, step=cursor.step):
            learner.restore(snapshot)
        snapshot = None
        cursor = _run_rounds(learner, cursor, log, options)
        if stage.finish is not None:
            stage.finish(learner.world, read_tensors(_stage_start(folder, 0), "weights"))
        if index + 1 < len(recipe.stages):
            write_tensors(_stage_start(folder, index + 1), {"weights": trainable(world.policy)})
        cursor = Cursor(stage=index + 1, step=cursor.step)
        learner.save(folder, cursor)
        trained = learner.world
    return trained


def _keep_start(recipe: Recipe, world: World, folder: Path) -> None:
    """Keep the weights a run begins with, where a stage is to end with a change that goes by them."""
    finishes = [stage.finish for stage in recipe.stages if stage.finish is not None]
    for finish in finishes:
        finish.check(world)
    if finishes and not _stage_start(folder, 0).exists():
        write_tensors(_stage_start(folder, 0), {"weights": trainable(world.policy)})


@final
class Learner:
    """A stage at work: the policy with its extra modules, the optimizer over both, and the running reference.

    Its micro-batches are those of its settings or, where these leave it open, those of the run so far; else they are
    chosen by what fits the memory that is free now.
    """

    def __init__(self, stage: Stage, world: World, micro_tokens: int | None = None) -> None:
        heads = stage.modules(world.policy) if stage.modules is not None else {}
        self.reference = stage.reference.start(world)
        policy = replace(world.policy, heads=heads, card={**world.policy.card, **stage.card})
        self.world = replace(world, policy=policy)
        self.weights = trainable(self.world.policy)
        modules = trainable_modules(self.world.policy)
        self.micro_tokens = stage.update.micro_tokens or micro_tokens or _fitting(self.world, stage)
        self.stage = replace(stage, update=replace(stage.update, micro_tokens=self.micro_tokens))
        learned = {name: weight for name, weight in self.weights.items() if name not in modules}
        first, *others = by_member(policy, learned)
        self.optimizer = build_optimizer(stage.update, first, modules.values(), others)
        if learned and not hasattr(policy.model, "peft_config"):
            policy.base.name_or_path = ""  # no folder holds what is learned, so no later adapter may name one

    def step(self, examples: Sequence[Any], rate: float, done: float = 0.0) -> dict[str, float]:
        """One optimizer step at a rate, after a share `done` of the stage's steps; returns its metrics."""
        set_rate(self.optimizer, rate)
        objective = self.stage.objective.at(done)
        return optimizer_step(self.world.policy, self.reference, objective, examples, self.optimizer, self.stage.update)

    def save(self, folder: Path, cursor: Cursor) -> None:
        weights = {name: weight.data for name, weight in self.weights.items()}
        state = self.reference.state()
        optimizer = checkpoint.optimizer_tensors(self.optimizer)
        checkpoint.save(folder, Snapshot(cursor, weights, optimizer, state, torch.get_rng_state()))

    def restore(self, snapshot: Snapshot) -> None:
        self.load(snapshot.weights)
        checkpoint.restore_optimizer(self.optimizer, snapshot.optimizer)
        self.reference.restore(snapshot.reference)
        torch.set_rng_state(snapshot.rng)

    def load(self, weights: Mapping[str, torch.Tensor]) -> None:
        _load_weights(self.world, weights)


def _fitting(world: World, stage: Stage) -> int:
    tokens, line = fitting(world.policy, stage.update)
    logger.info("micro-batches: %s", line)
    return tokens


def _run_rounds(learner: Learner, cursor: Cursor, log: RunLog, options: Options) -> Cursor:
    stage, world = learner.stage, learner.world
    empty = 0
    round_index = cursor.stage, cursor.round_
    with rounds_of_data(stage, world, log, round_index) as data_of, progress_bar("rounds", stage.rounds) as bar:
        bar.advance(cursor.round_)
        for round_ in range(cursor.round_, stage.rounds):
            # The version of the policy that produced this round, also when the round is resumed half-way.
            begun = cursor.step - cursor.done
            data = data_of(round_, begun)
            empty = 0 if data.examples else empty + 1
            if empty == min(stage.rounds, EMPTY_ROUNDS):
                raise nothing_left(log, (cursor.stage, round_), data)
            examples, metrics = prepare_round(stage, learner.world, learner.reference, log, cursor, data.examples)
            cursor = _update(learner, replace(data, examples=examples), metrics, cursor, log, options)
            learner.reference.advance(world)
            cursor = replace(cursor, round_=round_ + 1, done=0)
            over = round_ + 1 == stage.rounds
            # Weights that nothing changes any more are saved once, at the end of the stage.
            if stage.finish is not None if over else _passed(begun, cursor.step, options.save_every):
                learner.save(log.folder, cursor)
            bar.advance()
    return cursor


def _update(
    learner: Learner,
    data: RoundData,
    round_metrics: Mapping[str, float],
    cursor: Cursor,
    log: RunLog,
    options: Options,
) -> Cursor:
    """The optimizer steps of one round, from wherever the cursor says, with checkpoints on the way.

    The `age` of a step is how many steps ago the policy sampled the round, where it did.
    """
    stage, world, examples = learner.stage, learner.world, data.examples
    plan = batch_plan(len(examples), stage, (world.seed, cursor.stage, cursor.round_))
    total = len(plan) * stage.rounds
    if plan and not (cursor.round_ or cursor.done):
        _announce(stage, world, [[examples[index] for index in part] for part in plan], total)
    if options.observe is not None and cursor.step == 0:
        log.curve(0, options.observe(world, 0))
    with log.timed("update", len(plan) - cursor.done) as timer, progress_bar("update", len(plan)) as bar:
        bar.advance(cursor.done)
        for done in range(cursor.done, len(plan)):
            before = len(plan) * cursor.round_ + done
            batch = [examples[index] for index in plan[done]]
            rate = stage.update.rate(before, total)
            metrics = learner.step(batch, rate, before / total)
            left = len(plan) - done - 1
            if left and stage.objective.ends_round(metrics):
                metrics["skipped"] = left
                timer.count, left = timer.count - left, 0
            cursor = replace(cursor, done=done + 1, step=cursor.step + 1)
            tokens = sum(len(stage.objective.tree(example)) for example in batch)
            timer.tokens += tokens
            age = {} if data.version is None else {"age": cursor.step - 1 - data.version}
            log.metrics(cursor, {**round_metrics, **metrics, **age, "lr": rate, "tokens": tokens})
            bar.advance()
            bar.say(f"loss {metrics['loss']:.4f}")
            over = not left and cursor.round_ + 1 == stage.rounds
            if options.observe is not None and (over or _due(cursor.step, options.observe_every)):
                log.curve(cursor.step, options.observe(world, cursor.step))
            if not left:
                # Saved under the next round's cursor only: one of this round would say that steps are left.
                break
            if _due(cursor.step, options.save_every):
                learner.save(log.folder, cursor)
    return cursor


def _announce(stage: Stage, world: World, batches: Sequence[Sequence[Any]], total: int) -> None:
    """Say before the first step of a stage how far its steps reach, and what its examples cannot teach."""
    found = reach_of(stage.update, world.policy.model, total)
    logger.info("learning rates: %s", rates_line(stage.update, found))
    count = None if stage.examples is None else sum(map(len, batches)) // stage.update.epochs
    for line in (*advice(stage.update, world.policy.model, found, count), *stage.objective.cautions(batches)):
        logger.warning("%s", line)


def batch_plan(examples: int, stage: Stage, seed: Sequence[int]) -> list[list[int]]:
    """The example indices of each optimizer step of a round: every epoch in a fresh order that the seed fixes."""
    size = stage.update.batch_size
    plan: list[list[int]] = []
    for epoch in range(stage.update.epochs):
        order = np.random.default_rng([*seed, epoch]).permutation(examples).tolist()
        plan.extend(order[start : start + size] for start in range(0, examples, size))
    return plan


def _passed(begun: int, step: int, every: int) -> bool:
    return every > 0 and begun // every < step // every


def _due(step: int, every: int) -> bool:
    return every > 0 and step % every == 0


def _load_weights(world: World, weights: Mapping[str, torch.Tensor]) -> None:
    current = trainable(world.policy)
    if current.keys() != weights.keys():
        name = sorted(current.keys() ^ weights.keys())[0]
        raise InputError(f"the checkpoint does not fit this policy: {name} is in one of them only", path=world.folder)
    with torch.no_grad():
        for name, weight in current.items():
            weight.copy_(weights[name])


def _stage_start(folder: Path, index: int) -> Path:
    """The weights a stage begins with, kept so that its reference can be started again after a kill."""
    return folder / "stages" / f"{index:02d}"
