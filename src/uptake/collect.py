"""The first half of a round: rows to rollouts to judgements to examples, journaled chunk by chunk."""

from dataclasses import dataclass

from pydantic import TypeAdapter

from uptake.data import Journal
from uptake.errors import ModelError
from uptake.progress import progress_bar
from uptake.recipe import Harvest, Stage
from uptake.run_folder import RunLog
from uptake.types import Judgement, Rollout
from uptake.world import World

# Rows that are produced and judged together, and journaled as one line.
CHUNK = 32


@dataclass(frozen=True)
class Judged:
    """A journal line: the rollouts of consecutive rows with their judgements."""

    rollouts: tuple[Rollout, ...]
    judgements: tuple[Judgement, ...]


_LINES = TypeAdapter(Judged)


def collect(stage: Stage, world: World, log: RunLog, place: tuple[int, int], version: int) -> Harvest:
    """The training examples of round `place` (stage, round); what an earlier, killed call finished is not done again.

    Raises ModelError where nothing was left to learn from.
    """
    round_ = place[1]
    folder = log.folder / "rounds" / "{}-{}".format(*place)
    rows = stage.select(world, round_)
    chunks = [rows[start : start + CHUNK] for start in range(0, len(rows), CHUNK)]
    judged: list[Judged] = []
    with Journal(folder / "judged.jsonl") as journal, progress_bar("produce and judge", len(rows)) as bar:
        judged.extend(_LINES.validate_python(record) for record in journal.done)
        bar.advance(sum(map(len, chunks[: len(judged)])))
        for chunk in chunks[len(judged) :]:
            with log.timed("produce", len(chunk)) as timer:
                rollouts = tuple(stage.produce(world, chunk, round_, version))
                timer.tokens = sum(len(rollout.response_ids) for rollout in rollouts)
            with log.timed("judge", len(rollouts)) as timer:
                judgements = tuple(stage.judge(world, rollouts))
                timer.tokens = sum(len(rollout.prompt_ids) + len(rollout.response_ids) for rollout in rollouts)
            judged.append(Judged(rollouts, judgements))
            journal.append(_LINES.dump_python(judged[-1], mode="json"))
            bar.advance(len(chunk))
    harvest = stage.signal(
        [rollout for line in judged for rollout in line.rollouts],
        [judgement for line in judged for judgement in line.judgements],
    )
    log.summary(place, harvest.summary)
    if not harvest.examples:
        dropped = ", ".join(f"{reason} {count}" for reason, count in harvest.summary["dropped"].items() if count)
        raise ModelError(f"{folder}: no training example is left; dropped: {dropped or 'nothing, there were none'}")
    return harvest
