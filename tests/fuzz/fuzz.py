"""Damaged inputs for every reader, and odd command lines: how many end in a traceback, a hang or too much memory.

    python tests/fuzz/fuzz.py [--inputs 19500] [--commands 500] [--first 0] [--reader NAME]

What is read is drawn from the numbers of its case alone: `--reader jsonl --first 17 --inputs 1` is that case again. A
command ends well with status 0 or 2; 70, which says that nobody foresaw it, is a traceback here.
"""

import argparse
import logging
import random
import resource
import shutil
import signal
import sys
import tempfile
import time
import traceback
import warnings
from dataclasses import dataclass
from pathlib import Path
from types import FrameType

sys.path[:0] = [str(Path(__file__).parent), str(Path(__file__).parents[1])]

from readers import READERS, SHARES  # noqa: E402 - a script is found beside its own modules

from uptake.errors import UptakeError  # noqa: E402

SECONDS, BYTES = 10, 2 << 30


class Hangs(BaseException):
    """More than `SECONDS` have passed."""


@dataclass(frozen=True)
class Fault:
    """Fault of a reader: the number of its input, and what happened."""

    reader: str
    number: int
    what: str
    where: str

    def __str__(self) -> str:
        return f"{self.reader} {self.number}: {self.what} at {self.where}"


def shares(inputs: int, first: int = 0, reader: str | None = None) -> dict[str, range]:
    """The numbers of the inputs of each reader, by its share of all."""
    known = {name: share for name, share in SHARES.items() if name in READERS and reader in (None, name)}
    counts = {name: round(inputs * share / sum(known.values())) for name, share in known.items()}
    return {name: range(first, first + count) for name, count in counts.items() if count}


def read_one(reader: str, number: int) -> Fault | None:
    """Have one damaged input read, in a folder of its own; says so where it is a fault."""
    folder = Path(tempfile.mkdtemp(prefix="uptake-fuzz-"))
    fault = read(reader, number, folder)
    shutil.rmtree(folder, ignore_errors=True)
    if fault:
        print(fault, flush=True)
    return fault


def read(reader: str, number: int, folder: Path) -> Fault | None:
    """Have one damaged input read; the fault, if it is one."""
    rng = random.Random(f"{reader} {number}")
    held, begin = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, time.process_time()
    signal.signal(signal.SIGALRM, _alarm)
    signal.setitimer(signal.ITIMER_REAL, 6 * SECONDS)
    try:
        READERS[reader](rng, folder)
    except UptakeError:
        pass
    except (Exception, SystemExit, Hangs) as error:
        frames = traceback.extract_tb(error.__traceback__)
        ours = [each for each in frames if "/uptake/" in each.filename] or frames
        at = f"{Path(ours[-1].filename).name}:{ours[-1].lineno}"
        return Fault(reader, number, f"{type(error).__name__}: {str(error)[:100]!r}", at)
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
    if (seconds := time.process_time() - begin) > SECONDS:
        return Fault(reader, number, f"{seconds:.0f} s", "")
    peak = 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return Fault(reader, number, f"{peak >> 20} MiB", "") if peak > BYTES and peak > 1024 * held else None


def _alarm(number: int, frame: FrameType | None) -> None:
    raise Hangs(f"{6 * SECONDS} s")


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--inputs", type=int, default=19_500)
    parser.add_argument("--commands", type=int, default=500)
    parser.add_argument("--first", type=int, default=0)
    parser.add_argument("--reader")
    asked = parser.parse_args()
    logging.disable(logging.CRITICAL)
    warnings.simplefilter("ignore")
    faults: list[Fault] = []
    for name, numbers in shares(asked.inputs, asked.first, asked.reader).items():
        begin = time.process_time()
        found = list(filter(None, (read_one(name, number) for number in numbers)))
        print(f"{name}: {len(numbers)} inputs, {len(found)} faults, {time.process_time() - begin:.0f} s", flush=True)
        faults += found
    if asked.commands:
        from commands import run_commands  # noqa: PLC0415 - only the command line needs it

        faults += run_commands(asked.commands, asked.first)
    print(f"{len(faults)} faults")
    raise SystemExit(bool(faults))


if __name__ == "__main__":
    main()
