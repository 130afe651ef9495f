"""Training beside two busy neighbours, with threads that wait asleep and as OpenMP has them.

A step of the town model in processes of their own, in turn: alone, and beside two loops that each want a core. What
OpenMP does by default is to spin for a thread that the neighbour has pushed off its core.
"""

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from statistics import fmean
from time import perf_counter

from _harness import record, spread

from uptake.support.threads import ASLEEP

STEPS, REPEATS, NEIGHBOURS = 60, 2, 2


def step() -> float:
    """Milliseconds of one step, forward and backward, as the mean of many: the slow ones are the point."""
    import torch  # noqa: PLC0415 - by now the environment is set

    from uptake.methods.town_model import init_town_model  # noqa: PLC0415

    model, ids = init_town_model().base, torch.randint(0, 200, (4, 48))
    times = []
    for _ in range(STEPS):
        start = perf_counter()
        model(input_ids=ids, labels=ids).loss.backward()
        times.append(perf_counter() - start)
    return 1000 * fmean(times[3:])


def in_process(threads: int, asleep: bool) -> float:
    """The same in a process of its own."""
    kept = {name: value for name, value in os.environ.items() if name not in (*ASLEEP, "OMP_WAIT_POLICY")}
    environment = {**kept, "OMP_NUM_THREADS": str(threads), **(ASLEEP if asleep else {})}
    done = subprocess.run(
        [sys.executable, __file__, "step"], env=environment, capture_output=True, text=True, check=True
    )
    return float(done.stdout.splitlines()[-1])


@contextmanager
def neighbours(count: int) -> Iterator[None]:
    """Loops that each take a core."""
    loops = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(count)]
    try:
        yield
    finally:
        for loop in loops:
            loop.kill()


def main() -> None:
    """Measure all in turn and record the table."""
    settings = [(1, True), (os.cpu_count() or 2, True), (os.cpu_count() or 2, False)]
    alone: dict[tuple[int, bool], list[float]] = {each: [] for each in settings}
    beside: dict[tuple[int, bool], list[float]] = {each: [] for each in settings}
    for _ in range(REPEATS):
        for each in settings:
            alone[each].append(in_process(*each))
        with neighbours(NEIGHBOURS):
            for each in settings:
                beside[each].append(in_process(*each))
    rows = [
        {
            "threads": str(each[0]),
            "waiting": "soon asleep" if each[1] else "as OpenMP has it",
            "ms a step alone": str(spread(alone[each])),
            f"beside {NEIGHBOURS} busy loops": str(spread(beside[each])),
            "times as long": str(spread([slow / quick for quick, slow in zip(alone[each], beside[each], strict=True)])),
        }
        for each in settings
    ]
    record("neighbours", f"A step of the town model beside {NEIGHBOURS} busy neighbours", rows)


if __name__ == "__main__":
    print(step()) if sys.argv[1:] == ["step"] else main()
