"""Trips through the house: what one row meets on its way through three commands.

For a row through `train oaif`, one round of `train ppo`, and `score`: the record types between a response and the loss
(or its score), and the files entered, in two figures.

- **The row's own trip**, from its reading to its loss or score: the files with a function that is called more often
  when more rows come, and those of the rooms that do nothing but compute on rows, which may see a whole round at once.
  Every row is worked on by itself for that (chunks of a row, micro-batches of a row), so what a batch passes through
  counts too; what a command does once a run, such as locks, checkpoints and the identity of a run, drops out by itself.
  A few files are left out by name, where no row passes: progress, clocks, the records of the recipe and of the nouns.
- **The whole command**, with all that: every file entered.

The limits are for the row's own trip. What is wanted is printed beside what is held; more than is held ends the script
with an error. Files of the town, the report
and the command line are in neither figure, and so is what loading and saving a model enters by itself. A record is a
dataclass or named tuple that is made on the way and carries the response or numbers about it; token trees and how they
are packed are the scorer's own, and what a run notes about itself (cursors, figures of phases) carries no response.

    python bench/trips.py
"""

import json
import sys
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import chdir
from dataclasses import dataclass, field, is_dataclass
from itertools import count
from pathlib import Path
from types import FrameType
from typing import Any

import uptake
from uptake import cli
from uptake.data.chat import ChatFormat
from uptake.methods.town_model import init_town_model
from uptake.models import save_model
from uptake.tasks import score as scores
from uptake.town import Town
from uptake.train import rounds

SOURCE = Path(uptake.__file__).parent
APART = ("town", "report", "cli")
# Rooms whose records are no records of the way: the scorer's, settings, files, and the run's own notes.
ELSEWHERE = ("models", "support", "data", "recipe", "world", "update", "reference", "errors", "methods", "evaluate")
# Calls that load or save a model.
MODEL = {"load", "save_model"}
NOTES = {"Cursor", "Snapshot", "Options", "Learner", "RunLog", "Timer", "Phase", "ScoreSummary", "_Tally"}
# Files that are called for every row and that no row passes through: the bar, the clock and summaries, the stage; and
# the tokens of two responses a round that the report shows, more calls where these happen to be longer.
BESIDE = {"support/progress.py", "train/run_folder.py", "recipe.py", "types.py", "data/token_views.py"}
# Rooms of which every file that is entered is on the way.
COMPUTE = ("ops", "losses", "signal")
# The row itself, and what is read once for all rows.
GIVEN = {"Where", "Turn", "Prompt", "FollowUpSet", "FollowUpSpec", "Category", "Resources"}
# Where a row's own trip ends.
ENDS = {"Loss", "ResponseScore"}

# Rows of the two runs whose difference is the trip of a row. Of few, each of two samples may be as good as the other.
FEW, MORE = 4, 12
FAST = ("--set=lr=1e-3", "--set=max_new_tokens=6", "--set=micro_tokens=1")


def oaif(rows: int) -> Sequence[str]:
    return (
        "train",
        "oaif",
        "--set=judge=oracle",
        "--set=steps=1",
        f"--set=batch_size={rows}",
        "--set=label=soft",
        f"--data=prompts-{rows}.jsonl",
        *FAST,
    )


def ppo(rows: int) -> Sequence[str]:
    return (
        "train",
        "ppo",
        "--set=reward=length",
        "--set=rounds=1",
        "--set=epochs=1",
        f"--set=prompts={rows}",
        f"--data=prompts-{rows}.jsonl",
        *FAST,
    )


def score(rows: int) -> Sequence[str]:
    return ("score", f"answered-{rows}.jsonl", "--out=scored.jsonl", "--overwrite")


# A command for so many rows, and the limits: record types, and files of a row's own trip as wanted and as held.
TRIPS: Mapping[str, tuple[Callable[[int], Sequence[str]], int, int, int]] = {
    "train oaif": (oaif, 6, 50, 40),
    "train ppo": (ppo, 5, 40, 39),
    "score": (score, 7, 20, 27),
}


@dataclass
class Trip:
    """What a run has met: records by the order of their first making, and calls by file and function."""

    records: list[str] = field(default_factory=list)
    calls: Counter[tuple[str, str]] = field(default_factory=Counter)
    until_end: Counter[tuple[str, str]] = field(default_factory=Counter)
    apart: FrameType | None = None

    def __call__(self, frame: FrameType, event: str, argument: Any) -> None:
        code = frame.f_code
        if event == "return" and frame is self.apart:
            self.apart = None
        if event != "call" or self.apart is not None:
            return
        if code.co_name in MODEL and code.co_filename.startswith(str(SOURCE / "models")):
            self.apart = frame
            return
        if code.co_filename.startswith(str(SOURCE)) and code.co_name != "<module>":
            path = Path(code.co_filename).relative_to(SOURCE).as_posix()
            if not path.startswith(APART):
                self.calls[path, code.co_name] += 1
        if code.co_name in ("__init__", "__new__"):
            made = frame.f_locals.get("self", frame.f_locals.get("_cls"))
            self._made(made if isinstance(made, type) else type(made))

    def _made(self, kind: type) -> None:
        if self._is_record(kind) and kind.__name__ not in self.records:
            self.records.append(kind.__name__)
        if kind.__name__ in ENDS and kind.__module__.startswith("uptake."):
            self.until_end = self.calls.copy()

    @staticmethod
    def _is_record(kind: type) -> bool:
        room = kind.__module__.removeprefix("uptake.").split(".")[0]
        ours = kind.__module__.startswith("uptake.") and room not in (*ELSEWHERE, *APART)
        record = is_dataclass(kind) or hasattr(kind, "_fields")
        # What can be called is a part that works on records.
        return ours and record and "__call__" not in vars(kind) and kind.__name__ not in NOTES | GIVEN

    @property
    def way(self) -> list[str]:
        """The records from the first response on; all of them where there is no policy to respond."""
        start = self.records.index("Rollout") if "Rollout" in self.records else 0
        end = self.records.index("Loss") + 1 if "Loss" in self.records else len(self.records)
        return self.records[start:end]

    def longer_than(self, other: "Trip") -> set[str]:
        """The files that more rows enter more often, up to the last loss or score."""
        grown = {path for path, _ in self.until_end - other.until_end}
        return (grown | {path for path, _ in self.until_end if path.startswith(COMPUTE)}) - BESIDE


def traced(arguments: Sequence[str], number: Iterator[int]) -> Trip:
    """The trip of a command."""
    trip = Trip()
    command(arguments, number, trip)
    return trip


def command(arguments: Sequence[str], number: Iterator[int], trip: Trip | None = None) -> None:
    """Run a command; each training writes to a folder of its own."""
    more = ["--policy=model", f"--out=run-{next(number)}"] if arguments[0] == "train" else ["--model=model"]
    sys.argv = ["uptake", *arguments, *more]
    sys.setprofile(trip)
    try:
        cli.main()
    except SystemExit as end:
        if end.code:
            raise
    finally:
        sys.setprofile(None)


def write_rows() -> None:
    """Prompts, and files of few and of more answers."""
    questions = Town().questions(MORE, seed=0, split="train")
    prompts = [[{"role": turn.role, "content": turn.content} for turn in each.prompt.turns] for each in questions]
    for rows in (FEW, MORE):
        write(f"prompts-{rows}.jsonl", [{"prompt": each} for each in prompts[:rows]])
        write(f"answered-{rows}.jsonl", [{"prompt": each, "completion": "at eight"} for each in prompts[:rows]])


def write(name: str, rows: Sequence[Mapping[str, Any]]) -> None:
    Path(name).write_text("".join(json.dumps(row) + "\n" for row in rows))


def main() -> None:
    # Every row is a chunk of its own.
    rounds.CHUNK = scores.CHUNK = 1
    number, found = count(), {}
    with tempfile.TemporaryDirectory() as folder, chdir(folder):
        lm = init_town_model(width=32, layers=1)
        save_model(lm, ChatFormat.of(lm).template, Path("model"))
        write_rows()
        for name, (arguments, *_) in TRIPS.items():
            command(arguments(FEW), number)  # which imports
            found[name] = traced(arguments(FEW), number), traced(arguments(MORE), number)
    over = []
    for name, (few, more) in found.items():
        _, records, wanted, held = TRIPS[name]
        own, whole = sorted(more.longer_than(few)), {path for path, _ in more.calls}
        print(f"{name}: {len(more.way)} record types (at most {records}): {', '.join(more.way)}")
        print(f"  {len(own)} files on a row's own trip (wanted {wanted}, held to {held}): {', '.join(own)}")
        print(f"  {len(whole)} files in the whole command; beside a row's trip: {', '.join(sorted(whole - {*own}))}")
        over += [name] if len(more.way) > records or len(own) > held else []
    if over:
        raise SystemExit(f"longer than they may be: {', '.join(over)}")


if __name__ == "__main__":
    main()
