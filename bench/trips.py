"""Trips through the house: what one row meets on its way through three commands.

For one row through `train oaif`, one round of `train ppo` and one `score` row: the record types between a response and
the loss (or its score), and the files entered. Those of the town, the report and the command line are left out, and so
is what loading and saving a model enters by itself, which no row does. A record is a dataclass or named tuple that is
made on the way and carries the response or numbers about it; token trees and how they are packed are the scorer's own,
and what a run notes about itself (cursors, figures of phases) carries no response.

    python bench/trips.py
"""

import json
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from contextlib import chdir, suppress
from dataclasses import dataclass, field, is_dataclass
from pathlib import Path
from types import FrameType
from typing import Any

import uptake
from uptake import cli
from uptake.data.chat import ChatFormat
from uptake.methods.town_model import init_town_model
from uptake.models import save_model
from uptake.town import Town

SOURCE = Path(uptake.__file__).parent
APART = ("town", "report", "cli")
# Rooms whose records are no records of the way: the scorer's, settings, files, and the run's own notes.
ELSEWHERE = ("models", "support", "data", "recipe", "world", "update", "reference", "errors", "methods", "evaluate")
# Calls that load or save a model.
MODEL = {"load", "save_model"}
NOTES = {"Cursor", "Snapshot", "Options", "Learner", "RunLog", "Timer", "Phase", "ScoreSummary"}
# The row itself, and what is read once for all rows.
GIVEN = {"Where", "Turn", "Prompt", "FollowUpSet", "FollowUpSpec", "Category", "Resources"}

FAST = ("--set=lr=1e-3", "--set=max_new_tokens=6")
TRIPS: Mapping[str, tuple[Sequence[str], int, int]] = {
    "train oaif": (("train", "oaif", "--set=judge=oracle", "--set=steps=1", "--set=batch_size=1", *FAST), 6, 50),
    "train ppo": (("train", "ppo", "--set=reward=length", "--set=rounds=1", "--set=prompts=1", *FAST), 5, 40),
    "score": (("score", "answered.jsonl", "--out=scored.jsonl", "--overwrite"), 7, 20),
}
# Where a trip begins that is no row's but a round's.
ROUND = {"train ppo": "_run_rounds"}


@dataclass
class Trip:
    """What a run has met: records by the order of their first making, and files."""

    records: list[str] = field(default_factory=list)
    files: set[str] = field(default_factory=set)
    begin: str | None = None
    apart: FrameType | None = None

    def __call__(self, frame: FrameType, event: str, argument: Any) -> None:
        code = frame.f_code
        if event == "return" and frame is self.apart:
            self.apart = None
        if event != "call" or self.apart is not None:
            return
        if self.begin is not None and code.co_name != self.begin:
            return
        self.begin = None
        if code.co_name in MODEL and code.co_filename.startswith(str(SOURCE / "models")):
            self.apart = frame
            return
        if code.co_filename.startswith(str(SOURCE)) and code.co_name != "<module>":
            path = Path(code.co_filename).relative_to(SOURCE).as_posix()
            if not path.startswith(APART):
                self.files.add(path)
        if code.co_name in ("__init__", "__new__"):
            made = frame.f_locals.get("self", frame.f_locals.get("_cls"))
            kind = made if isinstance(made, type) else type(made)
            if self._is_record(kind) and kind.__name__ not in self.records:
                self.records.append(kind.__name__)

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


def traced(call: Callable[[], object], begin: str | None) -> Trip:
    """A trip of the second of two equal calls: the first one imports."""
    trip = Trip(begin=begin)
    call()
    sys.setprofile(trip)
    try:
        call()
    finally:
        sys.setprofile(None)
    return trip


def command(arguments: Sequence[str]) -> Callable[[], object]:
    """The command line with these arguments; each call writes to a folder of its own."""
    runs = iter(range(100))

    def call() -> None:
        more = (
            ["--policy=model", "--data=prompts.jsonl", f"--out={arguments[1]}-{next(runs)}"]
            if arguments[0] == "train"
            else ["--model=model"]
        )
        sys.argv = ["uptake", *arguments, *more]
        with suppress(SystemExit):
            cli.main()

    return call


def main() -> None:
    with tempfile.TemporaryDirectory() as folder, chdir(folder):
        lm = init_town_model(width=32, layers=1)
        save_model(lm, ChatFormat.of(lm).template, Path("model"))
        (question,) = Town().questions(1, seed=0, split="train")
        messages = [{"role": turn.role, "content": turn.content} for turn in question.prompt.turns]
        Path("prompts.jsonl").write_text(json.dumps({"prompt": messages}) + "\n")
        Path("answered.jsonl").write_text(json.dumps({"prompt": messages, "completion": "at eight"}) + "\n")
        found = {name: traced(command(arguments), ROUND.get(name)) for name, (arguments, *_) in TRIPS.items()}
    for name, trip in found.items():
        _, records, files = TRIPS[name]
        print(f"{name}: {len(trip.way)} record types (at most {records}): {', '.join(trip.way)}")
        print(f"  {len(trip.files)} files (at most {files}): {', '.join(sorted(trip.files))}")


if __name__ == "__main__":
    main()
