"""What needs no model needs neither Torch nor Transformers, and no more memory for more rows."""

import json
import random
import subprocess
import sys
from pathlib import Path

import pytest

from uptake.town import Town

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


def write_log(path: Path, count: int) -> None:
    """Conversations of five turns with words of their own; of every fifty one has a rating."""
    with path.open("w") as file:
        for index in range(count):
            good = index % 2
            texts = (
                *(f"When does shop {index} open?", f"Shop {index} opens at {index % 24} and has bread and cakes."),
                f"{('No, that is wrong', 'Thanks, it helped')[good]}. And shop {index + 1}, which is far away?",
                *(f"It is near shop {index}.", f"{('I did not ask that', 'Perfect')[good]}. That was number {index}."),
            )
            messages = [{"role": ("user", "assistant")[n % 2], "content": text} for n, text in enumerate(texts)]
            file.write(json.dumps({"messages": messages, "thumbs": None if index // 2 % 25 else good}) + "\n")


BY_RATINGS = ("--ratings", "thumbs", "--by", "rating_regression")


@pytest.mark.parametrize(
    "command",
    [
        ("mine-logs", "log.jsonl", *BY_RATINGS, "--out", "out.jsonl"),
        ("discover", "log.jsonl", "--ratings", "thumbs", "--out", "out.yaml"),
        ("edit", "answers.jsonl", "--editor", "oracle", "--judge", "none", "--out", "out.jsonl"),
        ("report", "run"),
    ],
)
def test_what_asks_no_model_loads_none(tmp_path: Path, command: tuple[str, ...]) -> None:
    write_log(tmp_path / "log.jsonl", 1500)
    town, rng = Town(), random.Random(0)
    answers = [(one.text, town.answer(one, town.faults(one)[0], rng)) for one in town.questions(12, 1, "train")]
    rows = [json.dumps({"prompt": asked, "completion": answer}) for asked, answer in answers]
    (tmp_path / "answers.jsonl").write_text("\n".join(rows))
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "metrics.jsonl").write_text('{"step": 1, "loss": 0.5}\n')
    assert not {"torch", "transformers"} & set(uptake(tmp_path, *command)["loaded"].split())


@pytest.mark.slow
def test_the_memory_of_mining_a_log_hardly_grows_with_it(tmp_path: Path) -> None:
    peaks = []
    for count in (10_000, 100_000):
        write_log(tmp_path / "log.jsonl", count)
        told = uptake(tmp_path, "mine-logs", "log.jsonl", *BY_RATINGS, "--out", "out.jsonl", "--overwrite")
        peaks.append(int(told["peak"]))
    assert peaks[1] < 1.3 * peaks[0]


@pytest.mark.slow
def test_the_memory_of_scoring_does_not_grow_with_the_rows(tmp_path: Path) -> None:
    peaks = []
    for count in (10_000, 200_000):
        write_rows(tmp_path / "in.jsonl", count)
        told = uptake(tmp_path, "score", "in.jsonl", "--reward", "length", "--out", "out.jsonl", "--overwrite")
        peaks.append(int(told["peak"]))
    assert peaks[1] < 1.1 * peaks[0]
