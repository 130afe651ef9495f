"""This tree against another commit of it: scoring, a DPO step and a PPO iteration, by what each tree's own bench does.

    git worktree add ../before COMMIT
    python bench/against.py ../before

Each tree works in a process of its own, on one thread. Both take turns, and a turn's ratio is this tree's CPU seconds
over the other's: seconds by the clock say nothing on a machine that others use as well. The interval is of the median,
by the order of the turns' ratios (sign test, 95 %). Sizes are small: this finds what became slower, not how fast it is.
"""

import argparse
import os
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from statistics import median
from typing import Any

from scipy.stats import binom

# What a tree's process does before and in a turn, by its own bench.
WORK: Mapping[str, tuple[str, str]] = {
    "scoring": (
        "import bench_scoring as bench; lm = bench.prepare(bench.random_model(), bench.tokenizer(), 'random Llama')",
        "call = lambda: bench.as_tree(lm)",
    ),
    "dpo": ("import bench_dpo as bench; step = bench.our_step()", "call = step"),
    "ppo": ("import bench_ppo as bench", "call = bench.our_iteration(Path(tempfile.mkdtemp()))"),
}
LOOP = """
import sys, tempfile, time
from pathlib import Path
import torch
torch.set_num_threads(1)
{before}
for _ in sys.stdin:
    {turn}
    begin = time.process_time()
    call()
    print(time.process_time() - begin, flush=True)
"""


@contextmanager
def worker(tree: Path, name: str) -> Iterator["subprocess.Popen[str]"]:
    """The process of a tree, which takes a turn for every line that it gets."""
    paths = os.pathsep.join([str(tree / "src"), str(tree / "bench"), *filter(None, [os.environ.get("PYTHONPATH")])])
    settings = {"PYTHONPATH": paths, "OMP_NUM_THREADS": "1", "PROMPTS": "4", "SAMPLES": "2"}
    before, turn = WORK[name]
    pipes: dict[str, Any] = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.DEVNULL}
    code = LOOP.format(before=before, turn=turn)
    process = subprocess.Popen([sys.executable, "-c", code], env=os.environ | settings, text=True, **pipes)
    try:
        yield process
    finally:
        process.kill()
        process.wait()


def seconds(process: "subprocess.Popen[str]") -> float:
    """CPU seconds of one turn."""
    assert process.stdin is not None
    assert process.stdout is not None
    process.stdin.write("\n")
    process.stdin.flush()
    # What a bench prints beside is not a number alone.
    return next(float(line) for line in process.stdout if line.strip().replace(".", "", 1).replace("e-", "").isdigit())


def ratios(name: str, trees: tuple[Path, Path], turns: int) -> list[float]:
    """The first tree's seconds over the second's, turn by turn, after one turn that does not count."""
    with ExitStack() as stack:
        ours, theirs = (stack.enter_context(worker(tree, name)) for tree in trees)
        found = []
        for turn in range(turns + 1):
            # Who goes first alternates, so that neither always finds the other's traces.
            pair = [seconds(each) for each in ((ours, theirs) if turn % 2 else (theirs, ours))]
            mine, other = pair if turn % 2 else pair[::-1]
            found.append(mine / other)
        return found[1:]


def interval(values: list[float]) -> tuple[float, float]:
    """95 % interval of the median, by order statistics."""
    ordered, n = sorted(values), len(values)
    low = int(binom.ppf(0.025, n, 0.5))
    return ordered[max(low - 1, 0)], ordered[min(n - low, n - 1)]


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("other", type=Path)
    parser.add_argument("--turns", type=int, default=15)
    parser.add_argument("--only", choices=WORK, nargs="*", default=list(WORK))
    given = parser.parse_args()
    slower = []
    for name in given.only:
        found = ratios(name, (Path(__file__).parents[1].resolve(), given.other.resolve()), given.turns)
        low, high = interval(found)
        print(f"{name}: {median(found):.3f} of the other tree's time (95 %: {low:.3f} to {high:.3f})", flush=True)
        slower += [name] if low > 1 else []
    if slower:
        raise SystemExit(f"slower than before: {', '.join(slower)}")


if __name__ == "__main__":
    main()
