"""Odd command lines, each a process of its own: a fork of one that has imported everything."""

import os
import random
import resource
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path

import mutate
from fuzz import BYTES, SECONDS, Fault
from readers import ROWS
from tiny import FOLLOWUPS, answered_records, pair_records, prompt_records, saved, tiny_llama, write_jsonl

from uptake import cli

# A command that a person has to answer is stopped after so many seconds, as the person would.
_PATIENCE = 3
_LOG = [ROWS[3], ROWS[3]]

# Commands that are right, in a folder with these files; MODEL is the folder of a tiny model.
COMMANDS = [
    *("score answered.jsonl --model MODEL --out out.jsonl", "score pairs.jsonl --reward length --out out.csv"),
    "score answered.jsonl --model MODEL --followups set.yaml --logps --limit 1 --out out.parquet --drop-bad",
    *("judge pairs.jsonl --model MODEL --out out.jsonl", "judge pairs.jsonl --judge length --out out.jsonl --limit 2"),
    "annotate pairs.jsonl --out out.jsonl --port 0 --seed 1",
    "edit pairs.jsonl --editor model --judge none --model editor=MODEL --out out.jsonl --max-edit-ratio 0.5",
    "mine prompts.jsonl --policy MODEL --out out.jsonl --set n=2 --set max_new_tokens=4 --reward length",
    "mine-logs log.jsonl --model MODEL --followups set.yaml --out out.jsonl --ratings thumbs --any-language",
    "mine-logs log.jsonl --by rating_regression --ratings thumbs --out out.jsonl --keep scored",
    "discover log.jsonl --ratings thumbs --out found.yaml --support 1 --clusters 2 --seed 1",
    "train dpo --policy MODEL --data pairs.jsonl --out run --set batch_size=2 --set lr=0.01 --seed 1",
    "train dpo --config run.yaml --out run --lora 2 --limit 2 --save-every 2",
    "train supervised --policy MODEL --data answered.jsonl --out run --set batch_size=2 --device cpu --dtype float32",
    "check dpo --policy MODEL --data pairs.jsonl --memory 4GB",
    "eval prompts.jsonl --policy MODEL --against MODEL --reward length --out run --max-new-tokens 4 --temperature 0.5",
    *("report run", "report finished --out page.html", "show-tokens spans.jsonl --page page.html --limit 1"),
    *(
        "can-judge pairs.jsonl --model MODEL --followups set.yaml --limit 3",
        "methods",
        "methods show dpo --set beta=0.2",
    ),
    "calibrate pairs.jsonl --model MODEL --followups set.yaml --out calibrated.yaml --folds 2 --size 2",
    "extrapolate MODEL MODEL --alpha 0.5 --out far",
    "init-model answered.jsonl --out start --vocabulary 300 --width 64 --layers 1 --window 32",
    *("datasets", "datasets hh --kind preferences --data . --out out.jsonl", "corpus --data . --out out.jsonl"),
    "bench fed --data . --out bench --reward length --limit 2",
]


@dataclass(frozen=True)
class Line:
    """Command line of a case: its words, and how its files come about."""

    words: list[str]
    prepare: Callable[[Path], None]


def line(number: int, model: Path) -> Line:
    """A command line with one or two words, or a file, that are wrong."""
    rng = random.Random(f"command {number}")
    words = rng.choice(COMMANDS).replace("MODEL", str(model)).split()
    files = ["answered.jsonl", "pairs.jsonl", "prompts.jsonl", "log.jsonl", "spans.jsonl", "set.yaml", "run.yaml"]
    used = [name for name in files if name in words]
    damaged = rng.choice(used) if used and rng.random() < 0.4 else None
    for _ in range(rng.choice([0, 1, 2]) if damaged else rng.choice([1, 1, 2])):
        words = _odd(rng, words)
    seed = rng.random()

    def prepare(folder: Path) -> None:
        _files(folder, model)
        if damaged:
            _damage(random.Random(seed), folder / damaged)

    return Line([word for word in words if "\0" not in word], prepare)


def _odd(rng: random.Random, words: list[str]) -> list[str]:
    more = rng.choice(mutate.WORDS)
    if not words:
        return [more]
    at = rng.randrange(len(words))
    changes = [
        [*words[:at], more, *words[at + 1 :]],
        [*words[:at], more, *words[at + 1 :]],
        [*words[:at], *words[at + 1 :]],
        [*words, words[at]],
        [*words, rng.choice(["--seed", "--limit", "--device", "--dtype", "--set", "--lora", "--model", "--x"]), more],
        [*words[:at], words[at].partition("=")[0] + "=" + more, *words[at + 1 :]],
    ]
    return rng.choice(changes)


def _files(folder: Path, model: Path) -> None:
    for name, records in {
        "answered": answered_records(3),
        "pairs": pair_records(6),
        "prompts": prompt_records(2),
        "log": _LOG,
        "spans": [ROWS[8], ROWS[9]],
    }.items():
        write_jsonl(folder / f"{name}.jsonl", records)
    (folder / "set.yaml").write_text(FOLLOWUPS)
    (folder / "run.yaml").write_text(f"method: dpo\npolicy: {model}\ndata: pairs.jsonl\noptions: {{batch_size: 2}}\n")
    (folder / "finished").mkdir()
    (folder / "finished" / "metrics.jsonl").write_text('{"step": 1, "stage": 0, "round": 0, "loss": 0.5}\n')


def _damage(rng: random.Random, path: Path) -> None:
    kind = rng.random()
    if kind < 0.1:
        path.unlink()
        path.mkdir()
    elif path.suffix == ".jsonl" and kind < 0.7:
        lines = path.read_text().splitlines()
        at = rng.randrange(len(lines))
        lines[at] = mutate.json.dumps(mutate.value(rng, mutate.json.loads(lines[at])), default=str)
        path.write_text("\n".join(lines), "utf-8", "surrogatepass")
    else:
        path.write_bytes(mutate.text(rng, path.read_text()))


def run_line(number: int, words: list[str], folder: Path) -> Fault | None:
    """Run a command line in a folder as a process; the fault, if it is one."""
    said = folder / "said.txt"
    child = os.fork()
    if not child:
        _become(words, folder, said)
    begin = time.monotonic()
    while not (ended := os.wait4(child, os.WNOHANG))[0]:
        time.sleep(0.01)
        waited = time.monotonic() - begin
        if words[:1] == ["annotate"] and waited > _PATIENCE:
            os.kill(child, signal.SIGINT)
            time.sleep(0.5)
        if waited > 9 * SECONDS:
            os.kill(child, signal.SIGKILL)
    _, status, used = ended
    code, text = os.waitstatus_to_exitcode(status), said.read_text(errors="replace")
    allowed = (0, 2, 130) if words[:1] == ["annotate"] else (0, 2)
    spent, what = used.ru_utime + used.ru_stime, ""
    if code not in allowed or "Traceback" in text:
        what = f"status {code}: {text.strip()[-300:]!r}"
    elif spent > SECONDS:
        what = f"{spent:.0f} s"
    elif 1024 * used.ru_maxrss > BYTES:
        what = f"{used.ru_maxrss >> 10} MiB"
    return Fault("command", number, what, " ".join(word[:60] for word in words)) if what else None


def _become(words: list[str], folder: Path, said: Path) -> None:
    """Be the process of a command; never returns."""
    code: object = 1
    try:
        os.setsid()
        os.chdir(folder)
        null, out = os.open(os.devnull, os.O_RDWR), os.open(said, os.O_WRONLY | os.O_CREAT)
        for target, source in ((0, null), (1, out), (2, out)):
            os.dup2(source, target)
        sys.stdout, sys.stderr = (os.fdopen(number, "w") for number in (1, 2))
        resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 28, 1 << 28))
        sys.argv = ["uptake", *words]
        cli.main()
        code = 0
    except SystemExit as end:
        code = end.code or 0
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code if isinstance(code, int) else 1)


def run_commands(count: int, first: int = 0) -> list[Fault]:
    """Run so many odd command lines; prints each fault, and the figures."""
    os.environ["HF_HUB_OFFLINE"] = "1"
    for name in ("uptake.report", "uptake.tasks.train", "uptake.tasks.can_judge", "uptake.tasks.discover", "peft"):
        import_module(name)
    home = Path(tempfile.mkdtemp(prefix="uptake-fuzz-"))
    model, faults, begin = saved(tiny_llama(), home / "model"), [], time.monotonic()
    for number in range(first, first + count):
        case, folder = line(number, model), home / str(number)
        folder.mkdir()
        case.prepare(folder)
        if fault := run_line(number, case.words, folder):
            faults.append(fault)
            print(fault, flush=True)
        shutil.rmtree(folder)
    shutil.rmtree(home)
    print(f"commands: {count}, {len(faults)} faults, {time.monotonic() - begin:.0f} s")
    return faults
