"""Two processes on one output or in one run folder: the second is refused at once. Without the lock it is not."""

import os
import sys
import time
from collections.abc import Callable, Sequence
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

import pytest
from test_commit_order import COMMANDS, arguments, at_hand
from test_loop import FAST
from tiny import answered_records, command_line, in_process, pair_records, read_jsonl, started, write_jsonl
from tiny_cli import sets

from uptake.data import lock
from uptake.tasks.score import CHUNK

REFUSED = "another process is at work on this"
Moment = tuple[str, str, int]  # the n-th event of `sys.audit` with this in its path


class NoLock:
    """A lock that holds nobody off, for the control."""

    def __init__(self, lock_file: Path, **_: Any) -> None:
        self.lock_file = lock_file

    def acquire(self, **_: Any) -> None: ...

    def release(self) -> None: ...


def child(arguments: Sequence[str], name: str, locks: bool, pause: Moment | None) -> None:
    """Run `uptake` with its messages in a file; at a moment of its work it waits until there is a file `go`."""
    sys.stderr = Path(f"{name}.errors").open("w", buffering=1)  # noqa: SIM115  # it stays for as long as the process
    if not locks:
        lock.FileLock = NoLock  # type: ignore[assignment, misc]
    if pause is not None:
        sys.addaudithook(waiter(*pause, Path(f"{name}.waits").absolute()))
    command_line(arguments)


def waiter(wanted: str, part: str, number: int, waits: Path) -> Callable[[str, tuple[Any, ...]], None]:
    seen = 0

    def hook(event: str, arguments: tuple[Any, ...]) -> None:
        nonlocal seen
        if event == wanted and part in str(arguments[0]):
            seen += 1
            if seen == number:
                os.mkdir(waits)
                until(waits.with_name("go").exists)

    return hook


def until(done: Callable[[], bool]) -> None:
    end = time.monotonic() + 300
    while not done():
        assert time.monotonic() < end
        time.sleep(0.02)


def begun(arguments: Sequence[str], name: str, locks: bool, pause: Moment | None) -> BaseProcess:
    """A process that has come to where it waits, or to its end."""
    process = started(child, arguments, name, locks, pause)
    until(lambda: Path(f"{name}.waits").exists() or not process.is_alive())
    return process


@pytest.mark.parametrize("locks", [True, False])
def test_two_that_score_to_one_output(locks: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Both are killed in the middle. The next call gives every row its own score, and what was done is not done again.

    Without the lock the second goes on. Yet no row gets another's score, since every line says which row it is of.
    """
    monkeypatch.chdir(tmp_path)
    write_jsonl(Path("in.jsonl"), answered_records(4 * CHUNK))
    arguments = ["score", "in.jsonl", "--reward", "length", "--out"]
    assert in_process(command_line, [*arguments, "whole.jsonl"]) == 0
    # The journal is looked into once a chunk.
    both = [begun([*arguments, "out.jsonl"], each, locks, ("open", "out.jsonl.journal", 4)) for each in ("one", "two")]
    assert both[0].is_alive()
    assert both[1].is_alive() != locks
    for process in both:
        process.kill()
        process.join()
    if locks:
        assert both[1].exitcode == 2
        assert Path("two.errors").read_text() == f"error: out.jsonl: {REFUSED}; wait for it or stop it\n"
    done = len(read_jsonl(Path("out.jsonl.journal.jsonl")))
    assert done > 1
    assert (done - 1) % CHUNK == 0
    assert in_process(child, [*arguments, "out.jsonl"], "three", True, None) == 0
    assert Path("out.jsonl").read_bytes() == Path("whole.jsonl").read_bytes()
    assert {path.name for path in tmp_path.iterdir() if path.is_file() and "errors" not in path.name} == {
        *("in.jsonl", "whole.jsonl", "out.jsonl")
    }


@pytest.mark.parametrize(
    "name",
    [
        pytest.param(name, marks=() if name in ("bench", "edit", "score", "train") else pytest.mark.slow)
        for name in sorted(COMMANDS.keys() - {"report"})
    ],
)
def test_a_second_is_refused_at_once(name: str, model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever the command, and though the first only holds the lock."""
    monkeypatch.chdir(tmp_path)
    at_hand(model)
    prepare, command, output, _ = COMMANDS[name]
    prepare()
    held = Path("out") if name in ("bench", "train") else Path(output)
    inside = name in ("bench", "train")
    held.mkdir() if inside else held.parent.mkdir(exist_ok=True)
    with lock.locked(held, inside=inside):
        before = set(tmp_path.rglob("*"))
        assert in_process(child, arguments(*command), "two", True, None) == 2
        said = Path("two.errors").read_text()
        assert f"error: {held}: {REFUSED}; wait for it or stop it\n" in said
        assert set(tmp_path.rglob("*")) - before == {tmp_path / "two.errors"}
    Path("two.errors").unlink()
    assert in_process(child, arguments(*command), "two", True, None) == 0
    assert Path(output).exists()


@pytest.mark.parametrize("locks", [True, False])
def test_two_that_train_in_one_folder(
    locks: bool, model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The second would write every step into the same metrics a second time, and both would end well."""
    monkeypatch.chdir(tmp_path)
    write_jsonl(Path("pairs.jsonl"), pair_records(6))
    arguments = ["train", "dpo", "--policy", str(model), "--data", "pairs.jsonl", "--out", "run", "--resume"]
    arguments += sets(FAST)
    one = begun(arguments, "one", locks, ("open", "timing.jsonl", 1))
    assert one.is_alive()
    second = in_process(child, arguments, "two", locks, None)
    Path("go").touch()
    one.join()
    steps = [line["step"] for line in read_jsonl(Path("run/metrics.jsonl"))]
    if locks:
        assert Path("two.errors").read_text() == f"error: run: {REFUSED}; wait for it or stop it\n"
        assert (one.exitcode, second, steps) == (0, 2, [1, 2, 3])
        assert not list(Path("run").glob(".*"))
    else:
        assert (second, sorted(steps)) == (0, [1, 1, 2, 2, 3, 3])
