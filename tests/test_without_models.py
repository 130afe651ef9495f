"""What needs no model needs neither Torch nor Transformers, and no more memory for more rows."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

HEAVY = ("torch", "transformers", "sklearn", "peft", "datasets")
RUN = f"""
import resource, sys
from uptake import cli
sys.argv = ["uptake", *sys.argv[1:]]
try:
    cli.main()
except SystemExit as end:
    assert not end.code
print("loaded:", *sorted(set(sys.modules) & set({HEAVY!r})))
print("peak:", resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
"""


def write_rows(path: Path, count: int) -> None:
    with path.open("w") as file:
        for index in range(count):
            row = {"prompt": f"Question {index}?", "completion": f"Answer {index} of some words.", "id": index}
            file.write(json.dumps(row) + "\n")


def uptake(folder: Path, *arguments: str) -> dict[str, str]:
    """What a command in a process of its own has loaded, and its peak memory in KB."""
    done = subprocess.run(
        [sys.executable, "-c", RUN, *arguments], cwd=folder, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return dict(
        line.split(": ", 1) for line in done.stdout.replace("loaded:\n", "loaded: \n").splitlines() if ": " in line
    )


@pytest.mark.parametrize("reward", ["length", "{sum: [{reward: length, weight: 0.1}]}"])
def test_scoring_by_length_loads_neither_torch_nor_transformers(tmp_path: Path, reward: str) -> None:
    write_rows(tmp_path / "in.jsonl", 40)
    told = uptake(tmp_path, "score", "in.jsonl", "--reward", reward, "--out", "out.jsonl")
    assert told["loaded"].strip() == ""
    assert len((tmp_path / "out.jsonl").read_text().splitlines()) == 40


@pytest.mark.parametrize("command", [("bench", "--list"), ("methods",), ("datasets",), ("judge", "--help")])
def test_lists_and_help_load_neither(tmp_path: Path, command: tuple[str, ...]) -> None:
    assert uptake(tmp_path, *command)["loaded"].strip() == ""


@pytest.mark.slow
def test_the_memory_of_scoring_does_not_grow_with_the_rows(tmp_path: Path) -> None:
    peaks = []
    for count in (10_000, 200_000):
        write_rows(tmp_path / "in.jsonl", count)
        told = uptake(tmp_path, "score", "in.jsonl", "--reward", "length", "--out", "out.jsonl", "--overwrite")
        peaks.append(int(told["peak"]))
    assert peaks[1] < 1.1 * peaks[0]
