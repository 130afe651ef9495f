"""The first half of a round: rows to groups of rollouts to what is said of them to examples, journaled on the way.

Where a stage works `ahead`, the rollouts of the next rounds are already there and judged in the background while the
policy learns from this one. Who samples, from which weights and in which order does not depend on who is faster, so
such a run can be repeated and resumed too.
"""

import logging
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import CancelledError, Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from itertools import islice
from pathlib import Path
from statistics import fmean
from threading import Event
from time import sleep
from typing import Any, final

from pydantic import TypeAdapter

from uptake.client import held_by, let_go
from uptake.data import Journal, rollout_view
from uptake.errors import InputError, ModelError
from uptake.objective import RoundObjective
from uptake.recipe import Assess, Examples, Produce, Recipe, Stage, StreamedProduce
from uptake.reference import RunningReference
from uptake.rewards.base import Resources
from uptake.support.progress import Bar, progress_bar
from uptake.train.checkpoint import Cursor
from uptake.train.identity import parts
from uptake.train.run_folder import RunLog
from uptake.train.tensor_folder import DamagedFolder, exact, read_tensors, write_tensors
from uptake.types import Assessment, Group, RoundData, Row, Verdict
from uptake.update import precision
from uptake.world import World

logger = logging.getLogger(__name__)

# Groups that are judged together and journaled as one line, and rows that are produced together where no pool is.
CHUNK = 32

# Between two looks at whether background work has ended.
SECONDS = 0.05

# The folder of a round with what its objective has worked out before the first step.
PREPARED = "prepared"

# Responses of a round that are kept for the report, with numbers for their tokens.
SHOWN = 2

RoundIndex = tuple[int, int]  # stage, round
Moment = tuple[int, int]  # round, steps that the policy has taken

_GROUPS = TypeAdapter(tuple[Group, ...])
_ASSESSMENTS = TypeAdapter(tuple[Assessment, ...])

# What was sampled for a chunk of rows, and what was said of it: a line of the journal.
Judged = tuple[Sequence[Group], Sequence[Assessment]]


def refuse_moving_judges(recipe: Recipe, world: World) -> None:
    """Raise InputError where a stage works `ahead` with a judge that is the policy: it learns while the judge reads.

    What such a judge says would depend on which of the two threads is faster.
    """
    judges = (part for stage in recipe.stages if stage.ahead for part in parts(stage.judge))
    for name in (name for judge in judges for name in getattr(judge, "uses", ())):
        if Resources.of(world).model(name).base is world.policy.base:
            problem = f"its judge's model {name!r} is the policy, which learns while that judges"
            allowed = "ahead=0; or a judge with weights of its own, such as the model called start"
            raise InputError(problem, field="ahead", allowed=allowed)


def collect(stage: Stage, world: World, log: RunLog, round_index: RoundIndex, version: int) -> RoundData:
    """The training examples of a round; what an earlier, killed call has sampled and judged is not done again.

    Examples of rows as they are are made anew: they depend on nothing else.
    """
    if stage.examples is not None:
        return _from_rows(stage.examples, world, log, round_index)
    if (judged := _judged_before(stage, world, log, round_index)) is None:
        sampled = sample_round(stage, world, log, round_index, version)
        judged = _judge_round(stage, world, log, round_index, sampled)
    return _round_data(stage, log, round_index, judged)


def prepare_round(
    stage: Stage,
    world: World,
    reference: RunningReference,
    log: RunLog,
    cursor: Cursor,
    examples: Sequence[Any],
) -> tuple[Sequence[Any], dict[str, float]]:
    """The examples of a round as its loss takes them, and metrics that go into each of its lines.

    What the objective works out before the round's first step is kept, since later the weights are others. Raises
    InputError where a round that was begun has lost it, and DamagedFolder where it is damaged.
    """
    objective = stage.objective
    if not (isinstance(objective, RoundObjective) and examples):
        return examples, {}
    folder = _folder(log, (cursor.stage, cursor.round_)) / PREPARED
    if not _is_prepared(folder, cursor):
        memory = _memory(log, cursor)
        with log.timed("prepare", len(examples)), precision(stage.update, world.policy.device):
            found = objective.prepare(world.policy, reference, examples, memory, stage.update.budget)
        tensors, handed_on, figures = found
        write_tensors(folder, {"tensors": tensors, "memory": exact(handed_on), "metrics": exact(figures)})
    prepared = objective.with_prepared(examples, read_tensors(folder, "tensors"))
    views = islice(objective.token_values(prepared), SHOWN)
    log.tokens(cursor.step - cursor.done, [rollout_view(world.chat, *each) for each in views])
    return prepared, _numbers(folder, "metrics")


def _is_prepared(folder: Path, cursor: Cursor) -> bool:
    """Whether a round is prepared; what is damaged is worked out again while the weights are those of its start."""
    if not folder.exists():
        if cursor.done:
            raise InputError("it is gone, and the round has begun", path=folder, allowed="the run folder as it was")
        return False
    try:
        for name in ("tensors", "memory", "metrics"):
            read_tensors(folder, name)
    except DamagedFolder as error:
        if cursor.done:
            raise
        logger.warning("%s; it is worked out again", error)
        return False
    return True


def _memory(log: RunLog, cursor: Cursor) -> dict[str, float]:
    """What the last round of the stage that was prepared has handed on."""
    for earlier in reversed(range(cursor.round_)):
        folder = _folder(log, (cursor.stage, earlier)) / PREPARED
        if folder.exists():
            return _numbers(folder, "memory")
    return {}


def _numbers(folder: Path, kind: str) -> dict[str, float]:
    return {name: float(value) for name, value in read_tensors(folder, kind).items()}


def nothing_left(log: RunLog, round_index: RoundIndex, data: RoundData) -> ModelError:
    """The error of a round without any training example."""
    lost = dropped(data) or "nothing, there were none"
    return ModelError(f"{_folder(log, round_index)}: no training example is left; dropped: {lost}")


def dropped(data: RoundData) -> str:
    """What gave no example in a round, counted by reason with a detail of the first; empty for nothing."""
    details = data.summary.get("details", {})
    counts = {reason: count for reason, count in data.summary.get("dropped", {}).items() if count}
    return ", ".join(
        f"{reason} ({count}{f'; {details[reason]}' if reason in details else ''})" for reason, count in counts.items()
    )


@contextmanager
def rounds_of_data(stage: Stage, world: World, log: RunLog, first: RoundIndex) -> Iterator["RoundsOfData"]:
    """The data of a stage's rounds, from the round `first` on; background work ends with the block."""
    work = RoundsOfData(stage, world, log, first)
    try:
        yield work
    finally:
        work.close()


@final
class RoundsOfData:
    """Data in the order of rounds: each made when asked for or, with `stage.ahead`, judged since earlier rounds."""

    def __init__(self, stage: Stage, world: World, log: RunLog, first: RoundIndex) -> None:
        self.stage, self.world, self.log, self.index = stage, world, log, first[0]
        self._next = first[1]
        self._background = ThreadPoolExecutor(1, "judge", initializer=held_by, initargs=(self,))
        self._closed = Event()
        self._pending: deque[Future[RoundData]] = deque()

    def __call__(self, round_: int, version: int) -> RoundData:
        """The data of a round. First, with `ahead` d, the policy as it is samples for rounds up to `round_ + d`."""
        if not self.stage.ahead:
            return collect(self.stage, self.world, self.log, (self.index, round_), version)
        for later in range(self._next, min(round_ + self.stage.ahead + 1, self.stage.rounds)):
            round_index = (self.index, later)
            samples = sample_round(self.stage, self.world, self.log, round_index, version)
            self._pending.append(self._background.submit(self._judge, round_index, samples))
            self._next = later + 1
        with self.log.timed("wait", 1):
            data = self._pending[0].result()
        self._pending.popleft()
        return data

    def close(self) -> None:
        """End the background work after the chunk that it is at, without answers that are still to come.

        Nobody will learn from the rest, and what was answered is on disk.
        """
        self._closed.set()
        self._background.shutdown(wait=False, cancel_futures=True)
        while not all(each.done() for each in self._pending):
            let_go(self)
            sleep(SECONDS)

    def _judge(self, round_index: RoundIndex, sampled: Sequence[Group]) -> RoundData:
        """The data of a round that is sampled already."""
        judged = _judge_round(self.stage, self.world, self.log, round_index, sampled, self._closed)
        return _round_data(self.stage, self.log, round_index, judged)


def sample_round(stage: Stage, world: World, log: RunLog, round_index: RoundIndex, version: int) -> list[Group]:
    """The groups of a round in the order of its rows, journaled by pools: rows that are sampled together.

    Which rows these are does not depend on what was sampled before a kill: products of other shapes round otherwise.
    """
    produce, *_ = stage.sampling
    rows, when = stage.select(world, round_index[1]), (round_index[1], version)
    size = produce.pool if isinstance(produce, StreamedProduce) else CHUNK
    with Journal(_folder(log, round_index) / "sampled.jsonl") as journal, progress_bar("produce", len(rows)) as bar:
        groups = [group for pool in journal.each(_sampled) for group in pool]
        bar.advance(len(groups))
        with log.timed("produce", len(rows) - len(groups)) as timer:
            for start in range(len(groups), len(rows), size):
                pool = _produced(produce, world, rows[start : start + size], when, bar)
                journal.append({"pool": _GROUPS.dump_python(pool, mode="json")})
                groups += pool
                timer.tokens += sum(len(rollout.response_ids) for group in pool for rollout in group)
    return groups


def _produced(produce: Produce, world: World, rows: Sequence[Row], when: Moment, bar: Bar) -> tuple[Group, ...]:
    """The groups of a pool, in the order of its rows; the bar sees each as soon as it is done."""
    if not isinstance(produce, StreamedProduce):
        groups = tuple(produce(world, rows, *when))
        bar.advance(len(groups))
        return groups
    found: dict[int, Group] = {}
    for number, group in produce.stream(world, rows, *when):
        found[number] = group
        bar.advance()
    return tuple(found[number] for number in range(len(rows)))


def _judge_round(
    stage: Stage,
    world: World,
    log: RunLog,
    round_index: RoundIndex,
    sampled: Sequence[Group],
    closed: Event | None = None,
) -> list[Judged]:
    """The groups of a round and what was said of them, chunk by chunk; CancelledError once it is closed."""
    _, judge, _ = stage.sampling
    chunks = [sampled[start : start + CHUNK] for start in range(0, len(sampled), CHUNK)]
    with Journal(_folder(log, round_index) / "judged.jsonl") as journal, progress_bar("judge", len(sampled)) as bar:
        judged = journal.each(_read)
        bar.advance(sum(len(groups) for groups, _ in judged))
        assess = judge.start(world)
        for groups in chunks[len(judged) :]:
            if closed is not None and closed.is_set():
                raise CancelledError
            judged.append(_judge(assess, log, groups))
            journal.append(_spelled(*judged[-1]))
            bar.advance(len(groups))
    return judged


def _judged_before(stage: Stage, world: World, log: RunLog, round_index: RoundIndex) -> list[Judged] | None:
    """What an earlier call has judged; None where a row is left."""
    with Journal(_folder(log, round_index) / "judged.jsonl") as journal:
        judged = journal.each(_read)
    return judged if sum(len(groups) for groups, _ in judged) == len(stage.select(world, round_index[1])) else None


def _folder(log: RunLog, round_index: RoundIndex) -> Path:
    return log.folder / "rounds" / "{}-{}".format(*round_index)


def _from_rows(examples: Examples, world: World, log: RunLog, round_index: RoundIndex) -> RoundData:
    with log.timed("examples", 0) as timer:
        data = examples(world, round_index[1])
        timer.count = len(data.examples)
    log.summary(round_index, {"rows": len(world.rows), **data.summary})
    if data.examples and (lost := dropped(data)):
        logger.warning("%d examples; dropped: %s", len(data.examples), lost)
    return data


def _judge(assess: Assess, log: RunLog, groups: Sequence[Group]) -> Judged:
    with log.timed("judge", sum(map(len, groups))) as timer:
        assessments = assess(groups)
        timer.tokens = sum(len(each.prompt_ids) + len(each.response_ids) for group in groups for each in group)
    return groups, assessments


def _sampled(record: Mapping[str, Any]) -> tuple[Group, ...]:
    return _GROUPS.validate_python(record["pool"])


def _read(record: Mapping[str, Any]) -> Judged:
    return _GROUPS.validate_python(record["groups"]), _ASSESSMENTS.validate_python(record["assessments"])


def _spelled(groups: Sequence[Group], assessments: Sequence[Assessment]) -> dict[str, Any]:
    """A line of the journal."""
    return {
        "groups": _GROUPS.dump_python(tuple(groups), mode="json"),
        "assessments": _ASSESSMENTS.dump_python(tuple(assessments), mode="json"),
    }


def _round_data(stage: Stage, log: RunLog, round_index: RoundIndex, judged: Sequence[Judged]) -> RoundData:
    *_, signal = stage.sampling
    judged = [*_earlier(log, round_index, stage.earlier), *judged]
    groups = [group for chunk, _ in judged for group in chunk]
    assessments = [each for _, chunk in judged for each in chunk]
    data = signal(groups, assessments)
    if details := _details(assessments):
        data = replace(data, summary={**data.summary, "details": details})
    log.summary(round_index, data.summary)
    return replace(data, version=_version(groups))


def _details(assessments: Sequence[Assessment]) -> dict[str, str]:
    """What is known of the first judgement or verdict that is invalid for each reason, beside the reason."""
    each = [one for some in assessments for one in ([some] if isinstance(some, Verdict) else some)]
    return {one.reason: one.detail for one in reversed(each) if one.reason and one.detail}


def _earlier(log: RunLog, round_index: RoundIndex, count: int) -> Iterator[Judged]:
    """What was sampled and said in up to `count` rounds before this one, the oldest first."""
    if not count:
        return
    found = [tuple(map(int, path.parent.name.split("-"))) for path in log.folder.glob("rounds/*/judged.jsonl")]
    for stage, round_ in sorted(each for each in found if each < round_index)[-count:]:
        with Journal(_folder(log, (stage, round_)) / "judged.jsonl") as journal:
            yield from journal.each(_read)


def _version(groups: Sequence[Group]) -> float | None:
    """How many steps the policy had taken, on average, that sampled these responses; None where no policy did."""
    versions = [rollout.version for group in groups for rollout in group if rollout.source == "policy"]
    return fmean(versions) if versions else None
