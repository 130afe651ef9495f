"""Commit order: what a program waits for appears last, and a call after a kill tidies up and ends well."""

import os
import random
import shutil
import signal
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
from test_bench import write_sets
from test_corpus import data_folder, session
from test_loop import FAST, OPEN, SAMPLED
from test_mine_logs import reactions
from tiny import (
    answered_records,
    command_line,
    in_process,
    pair_records,
    prompt_records,
    read_jsonl,
    write_followups,
    write_jsonl,
)
from tiny_cli import sets

from uptake.town import Town


def pairs() -> None:
    write_jsonl(Path("in.jsonl"), pair_records(24))


def trusted() -> None:
    """Pairs that the model itself would order so."""
    pairs()
    command = arguments("score in.jsonl --model MODEL --out scored.jsonl", *FOLLOW_UPS)
    assert in_process(command_line, command) == 0
    rows = read_jsonl(Path("scored.jsonl"))
    ordered = [
        {"prompt": row["prompt"], "chosen": row[better], "rejected": row[worse]}
        for row in rows
        for better, worse in [
            ("chosen", "rejected") if row["chosen_reward"] > row["rejected_reward"] else ("rejected", "chosen")
        ]
    ]
    write_jsonl(Path("in.jsonl"), ordered)


def prompts() -> None:
    write_jsonl(Path("in.jsonl"), prompt_records(4))


def answers() -> None:
    write_jsonl(Path("in.jsonl"), answered_records(40))


def log() -> None:
    write_jsonl(Path("in.jsonl"), reactions(60))


def town() -> None:
    town, rng = Town(), random.Random(0)
    asked = town.questions(6, seed=1, split="train")
    rows = [{"prompt": one.text, "completion": town.answer(one, town.faults(one)[0], rng)} for one in asked]
    write_jsonl(Path("in.jsonl"), [*rows, {"prompt": "of another town ?", "completion": "nothing known there"}])


def sessions() -> None:
    data_folder(Path("data"), [session(2 * n, f"a room for {n}", "where?", "in town") for n in range(80)])


def data_sets() -> None:
    write_sets(Path("data"))


def a_run() -> None:
    pairs()
    assert in_process(command_line, arguments("train dpo --policy MODEL --data in.jsonl --out run --lora 2")) == 0


FOLLOW_UPS = ("--followups", "followups.yaml")
SHORT = (*FOLLOW_UPS, "--max-new-tokens", "4")
MINING: dict[str, Any] = {**OPEN, **SAMPLED, "n": 2, "max_new_tokens": 4, "followups": "followups.yaml"}

# What a command is given, the command, its output, and what stands beside the output.
COMMANDS: dict[str, tuple[Callable[[], None], Sequence[str], str, Sequence[str]]] = {
    "score": (answers, ["score in.jsonl --reward length --out out.jsonl"], "out.jsonl", ()),
    "judge": (pairs, ["judge in.jsonl --judge length --out out.csv"], "out.csv", ()),
    "edit": (
        *(town, ["edit in.jsonl --editor oracle --judge none --out out.jsonl"]),
        *("out.jsonl", ["out.rejects.jsonl"]),
    ),
    "mine": (
        *(prompts, ["mine in.jsonl --policy MODEL --out out.jsonl", *sets(MINING)]),
        *("out.jsonl", ["out.jsonl.summary.json"]),
    ),
    "mine-logs": (
        *(log, ["mine-logs in.jsonl --model MODEL --any-language --out out.jsonl", *FOLLOW_UPS]),
        *("out.jsonl", ["out.jsonl.summary.json"]),
    ),
    "discover": (
        log,
        ["discover in.jsonl --ratings thumbs --out out.yaml --language en"],
        "out.yaml",
        ["out.report.json"],
    ),
    "calibrate": (
        *(trusted, ["calibrate in.jsonl --model MODEL --out out.yaml --folds 2", *FOLLOW_UPS]),
        *("out.yaml", ["out.report.json"]),
    ),
    "bench": (
        *(data_sets, ["bench pandalm fed --data data --reward length --out out"]),
        *("out/results.json", ["out/results.md", "out/page.html", "out/timing.json"]),
    ),
    "eval": (
        *(prompts, ["eval in.jsonl --policy MODEL --against MODEL --reward follow_up --model MODEL --out out", *SHORT]),
        *("out/evaluation.json", ["out/samples.jsonl"]),
    ),
    "train": (
        *(pairs, ["train dpo --policy MODEL --data in.jsonl --out out --resume", *sets(FAST)]),
        *("out/model", ["out/report.html", "out/metrics.jsonl", "out/run.json"]),
    ),
    "corpus": (
        *(sessions, ["corpus --data data --out out.jsonl --validation out.valid.jsonl"]),
        *("out.jsonl", ["out.valid.jsonl"]),
    ),
    "datasets": (
        *(data_sets, ["datasets pandalm --kind comparisons --heldout --data data --out out.jsonl"]),
        *("out.jsonl", ()),
    ),
    "init-model": (answers, ["init-model in.jsonl --out out --vocabulary 300 --width 64 --layers 1"], "out", ()),
    "report": (a_run, ["report run --out out.html"], "out.html", ()),
}
# These have no journal, and their output may be replaced at any time.
REPEATED = ("bench", "eval", "train", "report")


def arguments(*parts: str) -> list[str]:
    """Words of the first part, with the model of the tests, and the other parts as they are."""
    return [*parts[0].replace("MODEL", "model").split(), *parts[1:]]


@pytest.fixture(autouse=True)
def _folder(model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    at_hand(model)


def at_hand(model: Path) -> None:
    """Put what commands name into the folder."""
    Path("model").symlink_to(model)
    write_followups(Path())


def noting(target: str, given: Sequence[str]) -> None:
    """Run `uptake`, and write down the names that files and folders got by a rename."""
    names: list[str] = []

    def hook(event: str, found: tuple[Any, ...]) -> None:
        if event == "os.rename":
            names.append(os.path.relpath(found[1]))

    sys.addaudithook(hook)
    try:
        command_line(given)
    finally:
        with open(target, "w") as file:
            file.writelines(f"{name}\n" for name in names)


def everything() -> dict[str, bytes]:
    """All files that a call has left, but for how long it took."""
    timed = ("timing.json", "timing.jsonl", "page.html", "report.html", "out.html", "out.report.json")
    return {
        str(path): b"" if path.name in timed else path.read_bytes()
        for path in Path().rglob("*")
        if path.is_file() and path.parts[0] not in ("model", "renames", "data") and "sqlite" not in path.name
    }


@pytest.mark.parametrize("name", COMMANDS)
def test_the_output_comes_last(name: str) -> None:
    prepare, command, output, beside = COMMANDS[name]
    prepare()
    assert in_process(noting, "renames", arguments(*command)) == 0
    names = Path("renames").read_text().splitlines()
    *before, last = [each for each in names if not each.endswith(".tmp")]  # folders that are about to be removed
    assert last == output
    for each in beside:
        assert each in before or each.endswith(".jsonl"), each
        assert Path(each).is_file()


# Of those whose model does much, the kill sweep speaks behind the same marker.
LONG = ("mine-logs", "calibrate", "discover", "bench", "report", "corpus", "init-model", "eval")


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=pytest.mark.slow if name in LONG else ()) for name in COMMANDS]
)
def test_killed_before_and_after_the_output_came(name: str) -> None:
    prepare, command, output, beside = COMMANDS[name]
    prepare()
    given = arguments(*command)
    assert in_process(command_line, given) == 0
    whole = everything()
    temporary = f"{output}.partial" if Path(output).is_dir() else f".{Path(output).name}."
    number = 1 + sum(f".{Path(each).name}".startswith(temporary) for each in beside)
    clear()
    assert in_process(command_line, given, ("os.rename", temporary, number)) == -signal.SIGKILL
    assert not Path(output).exists()
    assert all(Path(each).is_file() for each in beside)
    assert in_process(command_line, given) == 0
    assert everything() == whole
    assert in_process(command_line, given) == (0 if name in REPEATED else 2)
    assert everything() == whole
    clear()
    assert in_process(command_line, given, ("os.remove", ".lock", 1)) == -signal.SIGKILL
    assert in_process(command_line, given) in (0, 2)
    assert everything() == whole


def clear() -> None:
    for path in Path().glob("out*"):
        shutil.rmtree(path) if path.is_dir() else path.unlink()
