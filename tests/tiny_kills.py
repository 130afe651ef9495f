"""Chains of calls of a command that are killed, alone and two at once, until one comes to its end.

A process dies at one of its acts (a file opened for writing, renamed, removed, cut, synced, a folder made; of a line
that is written one half), which hits every window however narrow, or by the clock, which hits what has no hook.
"""

import json
import os
import random
import re
import shutil
import signal
import sqlite3
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

import torch
from test_two_processes import REFUSED, NoLock
from tiny import command_line, started

from uptake import cli
from uptake.data import lock
from uptake.data.journal import Journal

FOLDER_ACTS = ("os.rename", "os.remove", "os.rmdir", "os.mkdir", "os.truncate")
SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
SECONDS = 120.0

# Files that say how long something took, and what stands beside the work.
TIMED = re.compile(r"timing\.jsonl?|page\.html|report\.html|out\.html|out\.report\.json|.*\.sqlite-(wal|shm)")
GIVEN = ("model", "data", "start")
TEMPORARY = re.compile(r".*(\.tmp|\.lock|\.partial|\.old)")


@dataclass(frozen=True)
class Strike:
    """A signal that a process gets: at its n-th act, or so many seconds after it has begun."""

    number: int
    act: int = 0
    seconds: float = 0.0


# --- in the process --------------------------------------------------------------------------------------------------


class Acts:
    """The acts of this process in its folder, counted; at one of them it gets a signal."""

    def __init__(self, strike: Strike | None) -> None:
        self.count, self._strike, self._folder = 0, strike, os.getcwd()
        self._write, self._sync = os.write, os.fsync
        sys.addaudithook(self._hook)
        os.write, os.fsync = self.write, self.sync  # type: ignore[assignment]

    def _hook(self, event: str, arguments: tuple[Any, ...]) -> None:
        if event in FOLDER_ACTS or (event == "open" and arguments[2] & (os.O_WRONLY | os.O_RDWR)):
            self._act(arguments[0])

    def write(self, handle: int, data: bytes) -> int:
        if self._act(handle, strikes=False):
            self._write(handle, data[: len(data) // 2])
            self._hit()
            return self._write(handle, data[len(data) // 2 :]) + len(data) // 2
        return self._write(handle, data)

    def sync(self, handle: int) -> None:
        self._act(handle)
        self._sync(handle)

    def end(self) -> None:
        """The last act; a process that is about to end anyway knows of no other signal."""
        for number in SIGNALS:
            signal.signal(number, signal.SIG_IGN)
        self._act(self._folder)

    def _act(self, path: object, *, strikes: bool = True) -> bool:
        """Count an act, if it is one in the folder; says whether it is the one."""
        name = os.readlink(f"/proc/self/fd/{path}") if isinstance(path, int) else os.path.abspath(os.fsdecode(path))  # type: ignore[arg-type]
        if not name.startswith(self._folder):
            return False
        self.count += 1
        if self._strike is None or self._strike.act != self.count:
            return False
        if strikes:
            self._hit()
        return True

    def _hit(self) -> None:
        assert self._strike is not None
        os.kill(os.getpid(), self._strike.number)


def call(arguments: Sequence[str], log: str, strike: Strike | None, control: str) -> None:
    """Run `uptake` with its words in LOG.errors and its acts counted in LOG.acts; LOG.begun says when it begins."""
    sys.stdout, sys.stderr = (open(f"{log}.{name}", "w", buffering=1) for name in ("out", "errors"))  # noqa: SIM115
    CONTROLS[control]()
    hearing = cli.stopped_by_signals

    @contextmanager
    def begin() -> Iterator[Any]:
        with hearing() as came:
            Path(f"{log}.begun").touch()
            yield came

    cli.stopped_by_signals = begin
    acts = Acts(strike)
    try:
        command_line(arguments)
    finally:
        acts.end()
        Path(f"{log}.acts").write_text(str(acts.count))


def _no_control() -> None: ...


def _late_lines() -> None:
    """A journal that has its last line in memory, as if it were not written through."""
    append, waiting = Journal.append, dict[Path, Any]()

    def late(journal: Journal, record: Any) -> None:
        if journal.path in waiting:
            append(journal, waiting[journal.path])
        waiting[journal.path] = record

    def close(journal: Journal) -> None:
        if journal.path in waiting:
            append(journal, waiting.pop(journal.path))
        really(journal)

    really = Journal.close
    Journal.append, Journal.close = late, close  # type: ignore[method-assign]


def _no_lock() -> None:
    lock.FileLock = NoLock  # type: ignore[assignment, misc]


def _no_random_state() -> None:
    torch.set_rng_state = lambda state: None


# Faults that a sweep has to find, by name; under "" there is none.
CONTROLS: dict[str, Callable[[], None]] = {
    "": _no_control,
    "a dropped line": _late_lines,
    "a skipped lock": _no_lock,
    "a lost random state": _no_random_state,
}


# --- from outside ----------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Command:
    """A command in a folder with what it is given, its output, and whether an output that is there may be made anew."""

    arguments: Sequence[str]
    output: str
    repeated: bool = False


@dataclass
class Sweep:
    """Killed chains of a command; `problems` says what was not as it has to be, `kills` how many processes died."""

    command: Command
    given: Path
    control: str = ""
    kills: int = 0
    refused: int = 0
    problems: list[str] = field(default_factory=list)
    _chains: int = 0

    def __post_init__(self) -> None:
        """Do the whole once, undisturbed: what there is to be in the end, how many acts it takes, how many seconds."""
        self._begin("whole")
        log = self._log("whole")
        process = self._start(log, None, control="")
        process.join(SECONDS)
        self.seconds = time.time() - log.with_suffix(".begun").stat().st_mtime
        assert process.exitcode == 0, log.with_suffix(".errors").read_text()
        self.acts = int(log.with_suffix(".acts").read_text())
        self.whole = contents(self.folder)

    def chain(self, seed: object, *, kills: int, pairs: float = 0.3, clock: float = 0.4, signals: float = 0.25) -> None:
        """Call the command until it has been killed so many times, and then once more; two calls at once now and then.

        `clock` and `signals` are the shares of deaths by the clock, and by a signal that can be heard.
        """
        rng = random.Random(f"{seed}")
        self._chains += 1
        self._begin(f"chain-{self._chains}")
        told: list[str] = []
        for _ in range(kills):
            count = 1 + (rng.random() < pairs)
            strikes = [self._strike(rng, clock, signals) for _ in range(count)]
            told += [str(strike) for strike in strikes]
            apart = rng.uniform(0, 0.5 * self.seconds)
            self._round(strikes, apart)
        self._round([None], 0.0)
        found = contents(self.folder)
        for path in sorted(found.keys() | self.whole.keys()):
            if found.get(path) != self.whole.get(path):
                state = "is missing" if path not in found else "is left" if path not in self.whole else "is another"
                self._problem(f"{path} {state}")
        if self.problems:
            self.problems.append(f"chain {seed}: {'; '.join(told)}")
        else:
            shutil.rmtree(self.folder)

    @property
    def folder(self) -> Path:
        """Where the chain is at work."""
        return Path.cwd()

    def _begin(self, name: str) -> None:
        folder = self.given.parent / name
        shutil.copytree(self.given, folder, symlinks=True)
        os.chdir(folder)

    def _log(self, name: str) -> Path:
        return self.given.parent / f"log-{self.folder.name}-{name}"

    def _strike(self, rng: random.Random, clock: float, signals: float) -> Strike:
        number = rng.choice(SIGNALS) if rng.random() < signals else signal.SIGKILL
        if rng.random() < clock:
            return Strike(number, seconds=rng.uniform(0, self.seconds))
        return Strike(number, act=rng.randint(1, self.acts))

    def _start(self, log: Path, strike: Strike | None, control: str) -> BaseProcess:
        return started(call, self.command.arguments, str(log), strike, control)

    def _round(self, strikes: Sequence[Strike | None], apart: float) -> None:
        """Have one process or two at work until all are dead, and look at what they leave."""
        before = leftovers(self.folder)
        logs = [self._log(f"{self.kills}-{self.refused}-{place}") for place in range(len(strikes))]
        processes: list[BaseProcess] = []
        for log, strike in zip(logs, strikes, strict=True):
            if processes:
                time.sleep(apart)
            log.with_suffix(".begun").unlink(missing_ok=True)
            processes.append(self._start(log, strike, self.control))
        self._wait(processes, logs, strikes)
        dead = [process.exitcode == -signal.SIGKILL for process in processes]
        for process, log, strike in zip(processes, logs, strikes, strict=True):
            self._look(process, log.with_suffix(".errors"), strike)
        if not any(dead) and (left := leftovers(self.folder) - before):
            self._problem(f"left behind, though nobody was killed: {sorted(left)}")
        if (now := at(self.command.output, contents(self.folder))) and now != at(self.command.output, self.whole):
            self._problem(f"{self.command.output} is there, and not as it has to be")

    def _wait(self, processes: Sequence[BaseProcess], logs: Sequence[Path], strikes: Sequence[Strike | None]) -> None:
        begun: dict[int, float] = {}
        end = time.monotonic() + SECONDS
        while any(process.is_alive() for process in processes):
            now = time.monotonic()
            for place, (process, strike) in enumerate(zip(processes, strikes, strict=True)):
                if place not in begun and logs[place].with_suffix(".begun").exists():
                    begun[place] = now
                hit = strike is not None and not strike.act and place in begun and now > begun[place] + strike.seconds
                if hit and begun[place] != float("inf") and process.is_alive():
                    begun[place] = float("inf")
                    assert process.pid is not None
                    assert strike is not None
                    os.kill(process.pid, strike.number)
            if now > end:
                self._problem("hangs")
                for process in processes:
                    process.kill()
            time.sleep(0.002)

    def _look(self, process: BaseProcess, errors: Path, strike: Strike | None) -> None:
        """Whether a process has ended as it may."""
        said, status = errors.read_text() if errors.exists() else "", process.exitcode
        if "Traceback" in said:
            self._problem(f"a traceback: {said[-2000:]}")
        if status == 0:
            return
        if strike is not None and status == -strike.number == -signal.SIGKILL:
            self.kills += 1
            return
        if strike is not None and status == 128 + strike.number and said.count("stopped by") == 1:
            self.kills += 1
            return
        if status == 2 and REFUSED in said:
            self.refused += 1
            return
        there = at(self.command.output, contents(self.folder)) == at(self.command.output, self.whole)
        if status == 2 and re.search(r"(file|folder) exists", said) and there and not self.command.repeated:
            return
        self._problem(f"exit status {status} after {strike}: {said[-2000:]}")

    def _problem(self, what: str) -> None:
        self.problems.append(f"{self.folder}: {what}")


def contents(folder: Path) -> dict[str, bytes]:
    """All that a call has left: bytes of files and rows of tables, and of folders and what is timed the names."""
    found: dict[str, bytes] = {}
    for path in folder.rglob("*"):
        name = str(path.relative_to(folder))
        if Path(name).parts[0] in GIVEN:
            continue
        if path.is_dir() or TIMED.fullmatch(path.name):
            found[name] = b""
        elif path.suffix == ".sqlite":
            found[name] = json.dumps(sorted(_rows(path))).encode()
        else:
            found[name] = path.read_bytes()
    return {name: content for name, content in found.items() if not re.search(r"sqlite-(wal|shm)", name)}


def _rows(path: Path) -> Iterator[tuple[Any, ...]]:
    with closing(sqlite3.connect(path)) as base:
        yield from base.execute("SELECT key, value FROM answers").fetchall()


def at(output: str, found: dict[str, bytes]) -> dict[str, bytes]:
    """What there is of an output."""
    return {name: content for name, content in found.items() if name == output or name.startswith(f"{output}/")}


def leftovers(folder: Path) -> set[str]:
    """Temporary files, locks and half folders."""
    return {str(path) for path in folder.rglob("*") if TEMPORARY.fullmatch(path.name)}
