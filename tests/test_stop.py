"""Signals that stop a command: one line, the exit status of the signal, nothing left behind, and the work goes on."""

import json
import os
import pty
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

import pytest
from test_commit_order import COMMANDS
from test_loop import FAST, OPEN, SAMPLED, same_run
from test_two_processes import begun, child, until
from tiny import answered_records, command_line, in_process, pair_records, prompt_records, started, write_jsonl
from tiny_cli import sets
from tiny_server import INSTRUCTIONS, Answer, JudgeServer

from uptake.support import stop
from uptake.support.stop import Stopped, stopped_by_signals

STATUS = {signal.SIGINT: 130, signal.SIGTERM: 143, signal.SIGHUP: 129}

SCORE = ("score", "in.jsonl", "--reward", "length", "--out")
TRAIN = ("train", "dpo", "--data", "pairs.jsonl", "--save-every", "2", *sets({**FAST, "epochs": 2}), "--out")


def leftovers(folder: Path) -> list[Path]:
    """Temporary files, locks and half folders."""
    return [path for path in folder.rglob("*") if re.search(r"\.tmp$|\.lock$|\.partial$|\.old$", path.name)]


def stopped(arguments: Sequence[str], moment: tuple[str, str, int], *numbers: int) -> tuple[int | None, str]:
    """The exit status of a process that gets signals at a moment of its work, and what it has said."""
    process = begun(arguments, "stopped", True, moment)
    assert process.is_alive()
    assert process.pid is not None
    for number in numbers:
        os.kill(process.pid, number)
    process.join(60)
    Path("stopped.waits").rmdir()
    return process.exitcode, last_words("stopped")


def last_words(name: str) -> str:
    """What a process has said, but for the notes and bars of loading a model before it."""
    said = Path(f"{name}.errors").read_text()
    assert said.count("stopped by") == 1
    assert "Traceback" not in said
    return said[said.index("stopped by") :]


@pytest.mark.parametrize("number", STATUS)
def test_a_score_that_is_stopped(number: signal.Signals, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    write_jsonl(Path("in.jsonl"), answered_records(64))
    assert in_process(command_line, [*SCORE, "whole.jsonl"]) == 0
    name = signal.Signals(number).name
    # The journal is opened for every chunk of 16 rows.
    status, said = stopped([*SCORE, "out.jsonl"], ("open", "out.jsonl.journal", 4), number)
    assert status == STATUS[number]
    where = "score 16 of 64; out.jsonl: the same command goes on from 16 results"
    assert said == f"stopped by {name} at {where}\n"
    # While the output is written its temporary file is there.
    status, said = stopped([*SCORE, "out.jsonl"], ("os.rename", "out.jsonl", 1), number)
    assert (status, said) == (
        STATUS[number],
        f"stopped by {name}; out.jsonl: the same command goes on from 64 results\n",
    )
    assert not Path("out.jsonl").exists()
    assert not leftovers(tmp_path)
    assert in_process(command_line, [*SCORE, "out.jsonl"]) == 0
    assert Path("out.jsonl").read_bytes() == Path("whole.jsonl").read_bytes()
    assert not Path("out.jsonl.journal.jsonl").exists()


@pytest.mark.parametrize("number", STATUS)
def test_a_run_that_is_stopped(
    number: signal.Signals, model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    write_jsonl(Path("pairs.jsonl"), pair_records(8))
    arguments = [*TRAIN[:2], "--policy", str(model), *TRAIN[2:]]
    assert in_process(command_line, [*arguments, "whole"]) == 0
    status, said = stopped([*arguments, "run"], ("os.mkdir", "00000004.partial", 1), number)
    assert status == STATUS[number]
    where = "rounds 0 of 1, update 4 of 8; run: the same command with --resume goes on from step 2"
    assert said == f"stopped by {signal.Signals(number).name} at {where}\n"
    assert not leftovers(tmp_path)
    assert in_process(command_line, [*arguments, "run", "--resume"]) == 0
    assert same_run(Path("run"), Path("whole"))


def test_mining_that_is_stopped(model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    write_jsonl(Path("prompts.jsonl"), prompt_records(40))
    options = {**OPEN, **SAMPLED, "n": 2, "max_new_tokens": 3}
    arguments = ["mine", "prompts.jsonl", "--policy", str(model), *sets(options), "--out"]
    assert in_process(command_line, [*arguments, "whole.jsonl"]) == 0
    status, said = stopped([*arguments, "out.jsonl"], ("open", "timing.jsonl", 2), signal.SIGTERM)
    assert status == 143
    where = "out.jsonl: the same command goes on from what is judged, which is in out.jsonl.work"
    assert said == f"stopped by SIGTERM; {where}\n"
    assert in_process(command_line, [*arguments, "out.jsonl"]) == 0
    assert Path("out.jsonl").read_bytes() == Path("whole.jsonl").read_bytes()


def test_a_corpus_that_is_stopped_between_its_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    prepare, words, *_ = COMMANDS["corpus"]
    prepare()
    command = words[0].split()
    assert stopped(command, ("os.rename", "out.jsonl", 1), signal.SIGHUP)[0] == 129
    assert (Path("out.valid.jsonl").exists(), Path("out.jsonl").exists()) == (True, False)
    valid = Path("out.valid.jsonl").read_bytes()
    Path("out.valid.jsonl").write_text("somebody's")
    assert in_process(command_line, command) == 2
    assert Path("out.valid.jsonl").read_text() == "somebody's"
    Path("out.valid.jsonl").write_bytes(valid)
    assert in_process(command_line, command) == 0
    assert Path("out.valid.jsonl").read_bytes() == valid
    assert Path("out.jsonl").read_bytes()


def test_a_command_that_begins_anew(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    write_jsonl(Path("in.jsonl"), answered_records(8))
    command = ["init-model", "in.jsonl", "--out", "m", "--vocabulary", "300", "--width", "64", "--layers", "1"]
    status, said = stopped(command, ("open", "m.partial", 1), signal.SIGTERM)
    assert (status, said) == (143, "stopped by SIGTERM; the same command begins anew\n")
    assert not Path("m").exists()
    assert not leftovers(tmp_path)


INTERRUPTED = """
import os, runpy, signal, sys
seen = []

def hook(event, given):
    if event == "import" and given[0].startswith("uptake.cli") and not seen:
        seen.append(given[0])
        os.kill(os.getpid(), signal.SIGINT)

sys.addaudithook(hook)
sys.argv = ["uptake", "methods"]
runpy.run_module("uptake", run_name="__main__")
"""


def test_an_interrupt_before_anything_is_imported_leaves_no_traceback() -> None:
    done = subprocess.run([sys.executable, "-c", INTERRUPTED], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (-signal.SIGINT, "", "")


def ends_soon(process: BaseProcess) -> None:
    """Stopped by a signal, it ends long before the answers that it waits for."""
    began = time.monotonic()
    assert process.pid is not None
    os.kill(process.pid, signal.SIGTERM)
    process.join()
    assert time.monotonic() - began < 10
    assert process.exitcode == 143


def test_answers_on_their_way_are_let_go(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A judge behind a server that answers some questions and then lets wait: what was answered is not asked again."""
    monkeypatch.chdir(tmp_path)
    write_jsonl(Path("in.jsonl"), pair_records(8))

    def plan(number: int, request: Any) -> Answer | None:
        return Answer(b"", wait=30) if number >= 8 else None

    with JudgeServer(plan) as server:
        Path("oracle.txt").write_text(INSTRUCTIONS)
        options = {"url": server.url, "model": "x", "concurrency": 4, "instructions": "oracle.txt"}
        settings = [f"--judge-set={name}={value}" for name, value in options.items()]
        arguments = ["judge", "in.jsonl", "--judge", "server", *settings, "--out", "out.jsonl"]
        process = started(child, arguments, "one", True, None)
        until(lambda: len(server.requests) == 12)
        ends_soon(process)
        assert (
            last_words("one")
            == "stopped by SIGTERM at judge 0 of 8; out.jsonl: the same command goes on from 0 results\n"
        )
        paid = set(server.paid)
        assert len(paid) == 8
        server.plan = lambda number, request: None
        assert in_process(command_line, arguments) == 0
        assert len(server.paid) == 16
        assert len(set(server.paid)) == 16


def test_answers_on_their_way_in_the_background_are_let_go(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The judge of the next round waits for answers while the policy learns, and has the process wait no longer."""
    monkeypatch.chdir(tmp_path)
    write_jsonl(Path("in.jsonl"), prompt_records(6))
    Path("oracle.txt").write_text(INSTRUCTIONS)

    def plan(number: int, request: Any) -> Answer | None:
        return Answer(b"", wait=30) if number >= 4 else None

    with JudgeServer(plan) as server:
        judge = {"server": {"url": server.url, "model": "x", "instructions": "oracle.txt"}}
        options = {**FAST, "steps": 4, "max_new_tokens": 4, "ahead": 1, "label": "soft", "judge": json.dumps(judge)}
        words = ["train", "oaif", "--policy", str(model), "--data", "in.jsonl", "--out", "run", "--resume"]
        process = started(child, [*words, *sets(options)], "one", True, None)
        until(lambda: len(server.requests) > 4 and Path("run/metrics.jsonl").read_bytes().count(b"\n") == 1)
        ends_soon(process)
        assert last_words("one").endswith("run: the same command with --resume goes on from step 0\n")
        assert not leftovers(tmp_path)


def test_a_page_that_waits_for_a_person(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    write_jsonl(Path("in.jsonl"), pair_records(2))
    process = started(child, ["annotate", "in.jsonl", "--out", "out.jsonl"], "one", True, None)
    until(lambda: Path("one.errors").exists() and "http" in Path("one.errors").read_text())
    assert process.pid is not None
    os.kill(process.pid, signal.SIGTERM)
    process.join(20)
    assert process.exitcode == 143
    where = "judge 0 of 2; out.jsonl: the same command goes on from 0 results"
    assert last_words("one") == f"stopped by SIGTERM at {where}\n"


def test_copies_of_a_signal_are_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    write_jsonl(Path("in.jsonl"), answered_records(64))
    numbers = (signal.SIGHUP, signal.SIGTERM, signal.SIGHUP, signal.SIGHUP, signal.SIGTERM)
    status, said = stopped([*SCORE, "out.jsonl"], ("os.rename", "out.jsonl", 1), *numbers)
    assert status in (129, 143)
    assert said.count("\n") == 1
    assert not leftovers(tmp_path)


def hold(seconds: float, ready: Path) -> None:
    """A process that does not end by itself when it is stopped."""
    stop.COPIES = seconds
    with stopped_by_signals():
        try:
            ready.mkdir()
            time.sleep(60)
        except Stopped:
            (ready / "stopped").touch()
            time.sleep(60)


@pytest.mark.parametrize(("seconds", "status"), [(0.0, -signal.SIGTERM), (60.0, None)])
def test_a_later_signal_ends_the_process_at_once(seconds: float, status: int | None, tmp_path: Path) -> None:
    process = started(hold, seconds, tmp_path / "ready")
    assert process.pid is not None
    for name in ("ready", "ready/stopped"):
        until((tmp_path / name).exists)
        os.kill(process.pid, signal.SIGTERM)
    process.join(10 if status else 0.5)
    assert process.exitcode == status
    process.kill()
    process.join()


def ignoring(function: Callable[..., None], *arguments: Any) -> None:
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    function(*arguments)


def test_what_is_to_be_ignored_stays_ignored(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As under nohup."""
    monkeypatch.chdir(tmp_path)
    write_jsonl(Path("in.jsonl"), answered_records(8))
    process = started(ignoring, child, [*SCORE, "out.jsonl"], "one", True, ("os.rename", "out.jsonl", 1))
    until(Path("one.waits").exists)
    assert process.pid is not None
    os.kill(process.pid, signal.SIGHUP)
    time.sleep(0.2)
    Path("go").touch()
    process.join()
    assert process.exitcode == 0
    assert Path("out.jsonl").exists()


def test_signals_mean_what_they_did_before() -> None:
    before = [signal.getsignal(number) for number in STATUS]
    with stopped_by_signals():
        assert all(signal.getsignal(number) != found for number, found in zip(STATUS, before, strict=True))
    assert [signal.getsignal(number) for number in STATUS] == before


def test_a_terminal_that_closes(tmp_path: Path, model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Bars are drawn on it until then; nobody can be told anything any more."""
    monkeypatch.chdir(tmp_path)
    write_jsonl(Path("pairs.jsonl"), pair_records(8))
    arguments = [*TRAIN[:2], "--policy", str(model), *TRAIN[2:], "run", "--set=epochs=2000"]
    parent, terminal = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, "-m", "uptake", *arguments],
        stdin=terminal,
        stdout=terminal,
        stderr=terminal,
        start_new_session=True,
        preexec_fn=open_terminal,  # noqa: PLW1509  # no thread is there
    )
    os.close(terminal)
    drawn = b""
    while b"update" not in drawn:
        drawn += os.read(parent, 1 << 16)
    os.close(parent)
    assert process.wait(60) == 129
    assert not leftovers(tmp_path)


def open_terminal() -> None:
    """Opening it makes it the terminal of the session that has just begun."""
    os.close(os.open(os.ttyname(0), os.O_RDWR))


# --- before there is work, and where an exception is not let through --------------------------------------------------

STARTED = """
import os, signal, sys
def hook(event, found):
    if event == {event!r} and str(found[0]).endswith({part!r}) and not hit:
        hit.append(found)
        os.kill(os.getpid(), signal.{by})
hit = []
sys.addaudithook(hook)
sys.argv = ["uptake", *{arguments!r}]
from uptake.cli import main
main()
"""


@pytest.mark.parametrize(
    ("event", "part", "by"),
    [
        ("import", "typer", "SIGINT"),
        ("import", "torch._C", "SIGHUP"),
        pytest.param("import", "numpy._core._multiarray_umath", "SIGTERM", marks=pytest.mark.slow),
        pytest.param("import", "transformers.modeling_outputs", "SIGINT", marks=pytest.mark.slow),
        pytest.param("open", "policy/config.json", "SIGTERM", marks=pytest.mark.slow),
        ("open", "policy/generation_config.json", "SIGHUP"),
    ],
)
def test_a_start_that_is_stopped(
    event: str, part: str, by: str, model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A process as a person starts it, which imports most of what it needs, and then loads a model."""
    monkeypatch.chdir(tmp_path)
    write_jsonl(Path("in.jsonl"), answered_records(8))
    arguments = ["score", "in.jsonl", "--model", str(model), "--out", "out.jsonl"]
    code = STARTED.format(event=event, part=part, by=by, arguments=arguments)
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (STATUS[signal.Signals[by]], "")
    assert done.stderr[done.stderr.index("stopped") :] == f"stopped by {by}; the same command begins anew\n"
    assert "Traceback" not in done.stderr
    assert os.listdir() == ["in.jsonl"]


# Method files that are stopped while they are run.
TURNED = '''"""Odd."""
import os, signal
try:
    os.kill(os.getpid(), signal.SIGTERM)
except BaseException as error:
    raise ImportError("cannot load") from error
class Config: ...
def build(config): ...
'''
HALF = '''"""Odd."""
import logging, os, signal
made = []
class Config(logging.Handler):
    def createLock(self):
        made.append(self)
        os.kill(os.getpid(), signal.SIGTERM)
Config()
def build(config): ...
'''
LATE = '''"""Odd."""
import os, signal
from uptake.errors import ModelError
from uptake.methods import MethodConfig
class Late(ModelError):
    def __str__(self):
        os.kill(os.getpid(), signal.SIGHUP)
        return "told late"
class Config(MethodConfig):
    lr: float = 1e-2
    batch_size: int = 2
def build(config):
    raise Late("late")
'''


def test_a_stop_while_an_error_is_told_is_told(tmp_path: Path, model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    write_jsonl(Path("in.jsonl"), answered_records(8))
    Path("odd.py").write_text(LATE)
    words = ["train", "./odd.py", "--policy", str(model), "--data", "in.jsonl", "--out", "run"]
    assert in_process(child, words, "one", True, None) == 129
    assert last_words("one") == "stopped by SIGHUP; the same command begins anew\n"


def test_what_becomes_of_a_stop_on_its_way_is_no_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As an extension module does whose import of another one fails, for whatever reason."""
    monkeypatch.chdir(tmp_path)
    write_jsonl(Path("in.jsonl"), answered_records(8))
    Path("odd.py").write_text(TURNED)
    words = ["train", "./odd.py", "--policy", "nowhere", "--data", "in.jsonl", "--out", "run"]
    assert in_process(child, words, "one", True, None) == 143
    assert Path("one.errors").read_text() == "stopped by SIGTERM; the same command begins anew\n"


def test_what_was_half_made_is_not_complained_of(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    write_jsonl(Path("in.jsonl"), answered_records(8))
    Path("odd.py").write_text(HALF)
    words = ["train", "./odd.py", "--policy", "nowhere", "--data", "in.jsonl", "--out", "run"]
    call = [sys.executable, "-m", "uptake", *words]
    done = subprocess.run(call, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (143, "stopped by SIGTERM; the same command begins anew\n")


class Dying:
    """Nothing can be raised where it is finalized."""

    def __del__(self) -> None:
        signal.raise_signal(signal.SIGTERM)


def lose(ready: Path) -> None:
    with stopped_by_signals() as came:
        dying = Dying()
        del dying
        assert came() is None
        ready.mkdir()
        time.sleep(60)


def test_a_signal_that_is_lost_comes_again(tmp_path: Path) -> None:
    process = started(lose, tmp_path / "ready")
    process.join(20)
    assert process.exitcode == 143
    assert (tmp_path / "ready").exists()
