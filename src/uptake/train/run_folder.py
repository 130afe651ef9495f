"""The folder of a run: what is written where, and how it is taken up again.

    recipe.yaml    config and recipe, every default    metrics.jsonl  one line per optimizer step
    run.json       versions, models, seed, machine     timing.jsonl   one line per phase, in seconds
    rounds/S-R/    judged rollouts, summary            curve.jsonl    what an observer saw, by step
    checkpoints/   the newest snapshots                model/         the trained model
    tokens.jsonl   a few responses with numbers for each token, where a method keeps them

Metrics and curve are functions of the recipe and the seed alone; everything that differs between two runs of the same
thing (time, machine) stands in the other files.
"""

import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, final

import torch
import transformers
from pydantic import TypeAdapter

import uptake
from uptake.data import Journal, TokenView, Writer
from uptake.data.journal import Closing
from uptake.data.lock import FOLDER_LOCK, check_unlocked, locked
from uptake.data.write import disk_errors, write_json, write_text
from uptake.errors import InputError
from uptake.models.language_model import Limits
from uptake.recipe import Recipe
from uptake.support.damage import undamaged
from uptake.support.texts import json_file
from uptake.train.checkpoint import Cursor
from uptake.train.identity import check_same, identity
from uptake.world import World

_VIEWS = TypeAdapter(TokenView)
_LIMITS, _CHOSEN = TypeAdapter(dict[str, Limits]), TypeAdapter(dict[str, int])


@contextmanager
def open_run(
    recipe: Recipe, world: World, resume: bool, *, title: str = "", method: str = "", config: str = ""
) -> Iterator[Path]:
    """Create the folder of a run, or check that it holds this very run and that resuming it was asked for.

    The folder is locked until the block ends: UptakeError where another process is at work in it. `title` and `method`
    are for the report. `config` is what the run was asked for, as YAML; it stands above the recipe in recipe.yaml.
    """
    folder = world.folder
    _holds_run(folder, resume)
    with disk_errors(folder):
        folder.mkdir(parents=True, exist_ok=True)
    with locked(folder, inside=True):
        if _holds_run(folder, resume):
            check_same(folder, recipe, world)
        else:
            facts = {"title": title or folder.name, "method": method, **_machine(world), **identity(recipe, world)}
            write_json(folder / "run.json", facts)
            write_text(folder / "recipe.yaml", config + str(recipe))
        yield folder


def check_folder(folder: Path, resume: bool) -> None:
    """Raise InputError where a folder can hold no run, or holds one that is not resumed, before a model is loaded.

    Raises UptakeError where another process is at work in it.
    """
    _holds_run(folder, resume)
    if folder.is_dir():
        check_unlocked(folder, inside=True)


def _holds_run(folder: Path, resume: bool) -> bool:
    """Whether a folder holds a run to go on with."""
    written = folder / "recipe.yaml"
    if written.exists() and _has_begun(folder):
        if not resume:
            raise InputError("this folder holds a run", path=folder, allowed="another folder, or --resume to go on")
        return True
    if folder.exists() and not folder.is_dir():
        raise InputError("this is a file", path=folder, allowed="a new or empty folder")
    if folder.exists() and not written.exists() and _holds_something(folder):
        raise InputError("this folder is not empty and holds no run", path=folder, allowed="a new or empty folder")
    return False


def _has_begun(folder: Path) -> bool:
    """Whether a run has done anything: judged a row, made the examples of a round, taken a step, saved a checkpoint."""
    names = ("sampled.jsonl", "judged.jsonl", "summary.json")
    rounds = (path for name in names for path in folder.glob(f"rounds/*/{name}"))
    done = (*rounds, folder / "metrics.jsonl", *folder.glob("checkpoints/*/manifest.json"))
    return any(path.exists() and path.stat().st_size for path in done)


def _holds_something(folder: Path) -> bool:
    """Whether a folder holds more than the beginnings of a run that was killed before its recipe was written."""
    return any(path.name not in ("run.json", FOLDER_LOCK) and path.suffix != ".tmp" for path in folder.iterdir())


@dataclass
class Timer:
    """Timer of a phase: what it reports beside its seconds."""

    count: int
    tokens: int = 0


@final
class RunLog(Closing):
    """Appends to the files of a run; opening it at step `step` forgets what a killed run wrote after that step."""

    def __init__(self, folder: Path, step: int) -> None:
        self.folder = folder
        self._metrics = _journal_until(folder / "metrics.jsonl", step)
        self._curve = _journal_until(folder / "curve.jsonl", step)
        self._observed = set(self._curve.each(_step))
        self._timing = Journal(folder / "timing.jsonl")
        self._tokens = folder / "tokens.jsonl"
        if self._tokens.exists():
            _journal_until(self._tokens, step).close()

    def close(self) -> None:
        for journal in (self._metrics, self._curve, self._timing):
            journal.close()

    def within_limits(self, world: World) -> World:
        """A world whose models compute within the limits that they had when the run began; later ones repeat them."""
        known = self._facts().get("limits")
        if known is None:
            models = {"policy": world.policy, **world.models}
            self._keep({"limits": {name: asdict(lm.limits) for name, lm in models.items()}})
            return world
        with undamaged(self.folder / "run.json", "limits"):
            limits = _LIMITS.validate_python(known)
            models = {name: replace(lm, limits=limits[name]) for name, lm in world.models.items()}
            return replace(world, policy=replace(world.policy, limits=limits["policy"]), models=models)

    def micro_tokens(self, stage: int) -> int | None:
        """The micro-batch that the run first chose for a stage; None where it has chosen none."""
        with undamaged(self.folder / "run.json", "micro_tokens"):
            return _CHOSEN.validate_python(self._facts().get("micro_tokens", {})).get(str(stage))

    def keep_micro_tokens(self, stage: int, tokens: int) -> None:
        self._keep({"micro_tokens": {**self._facts().get("micro_tokens", {}), str(stage): tokens}})

    def _facts(self) -> dict[str, Any]:
        path = self.folder / "run.json"
        with undamaged(path):
            return dict(json_file(path))

    def _keep(self, facts: Mapping[str, Any]) -> None:
        write_json(self.folder / "run.json", {**self._facts(), **facts})

    def metrics(self, cursor: Cursor, values: Mapping[str, float]) -> None:
        self._metrics.append({"step": cursor.step, "stage": cursor.stage, "round": cursor.round_, **values})

    def curve(self, step: int, values: Mapping[str, Any]) -> None:
        if step not in self._observed:
            self._observed.add(step)
            self._curve.append({"step": step, **values})

    def tokens(self, step: int, views: Iterable[TokenView]) -> None:
        """Keep responses with numbers for their tokens, for the report; what is there already is not added again."""
        records = [_VIEWS.dump_python(replace(view, step=step), mode="json") for view in views]
        with Journal(self._tokens) as journal:
            for record in records:
                if record not in journal.done:
                    journal.append(record)

    def summary(self, round_index: tuple[int, int], summary: Mapping[str, Any]) -> None:
        write_json(self.folder / "rounds" / "{}-{}".format(*round_index) / "summary.json", summary)

    @contextmanager
    def timed(self, phase: str, count: int) -> Iterator[Timer]:
        start, timer = time.perf_counter(), Timer(count)
        yield timer
        seconds = round(time.perf_counter() - start, 4)
        self._timing.append({"phase": phase, "seconds": seconds, "count": timer.count, "tokens": timer.tokens})


def _journal_until(path: Path, step: int) -> Journal:
    """The journal of a file without the lines after `step`."""
    with Journal(path) as journal:
        done = journal.done
        left = [line for line, at in zip(done, journal.each(_step), strict=True) if at <= step]
    if len(left) < len(done):
        with Writer(path, overwrite=True) as writer:
            for line in left:
                writer.write(line)
    return Journal(path)


def _step(line: Mapping[str, Any]) -> int:
    return int(line["step"])


def _machine(world: World) -> dict[str, Any]:
    return {
        "uptake_version": uptake.__version__,
        "torch_version": torch.__version__,
        "transformers_version": transformers.__version__,
        "device": str(world.policy.device),
        "threads": torch.get_num_threads(),
    }
