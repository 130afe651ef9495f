"""This tree against another commit of it: what each tree's own bench does, and token trees of stated sizes.

    git worktree add ../before COMMIT
    python bench/against.py ../before
    python bench/against.py ../before --model SMOLLM2 --turns 3 --only "pairs, 2 x 4 of 512 + 2 x 128"

Each tree works in a process of its own, on one thread. Both take turns, and a turn's ratio is this tree's CPU seconds
over the other's: seconds by the clock say nothing on a machine that others use as well. The interval is of the median,
by the order of the turns' ratios (sign test, 95 %; of six turns or fewer it is their range). Memory is what a turn
takes above what was there before it. Without names, what the benches do is measured, in small sizes: this finds what
became slower, not how fast it is.
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

from _works import works
from scipy.stats import binom

# What a tree's process does before and in a turn, by its own bench.
BENCHES: Mapping[str, tuple[str, str]] = {
    "scoring": (
        "import bench_scoring as bench; lm = bench.prepare(bench.random_model(), bench.tokenizer(), 'random Llama')",
        "call = lambda: bench.as_tree(lm)",
    ),
    "dpo": ("import bench_dpo as bench; step = bench.our_step()", "call = step"),
    "ppo": ("import bench_ppo as bench", "call = bench.our_iteration(Path(tempfile.mkdtemp()))"),
    "sampling": (
        "import bench_sampling as bench; lm = bench.prepare(bench.random_model(), bench.tokenizer(), 'random Llama'); "
        "sampling = bench.Sampling(n=4, temperature=0.7, max_new_tokens=32)",
        "call = lambda: bench.uptake(lm, sampling)",
    ),
    "online": ("import bench_online as bench; step = bench.our_step(Path(tempfile.mkdtemp()))", "call = step"),
}
# Trees of stated sizes: scored, or with the backward pass of all log-probabilities.
GROWTH = """
from _model import llama, tokenizer
from _works import works
from uptake.models import load, pack, prepare, score_trees, token_logps
work = next(each for each in works() if each.name == {name!r})
trees, model = work.trees(), {model!r}
lm = load(Path(model)) if model else prepare(llama(*{size}, max_position_embeddings=16_384), tokenizer(), "random")
"""
SCORED = "call = lambda: score_trees(lm, trees, 8192)"
TRAINED = "call = lambda: token_logps(lm, pack(trees, lean=True)).sum().backward()"
LOOP = """
import sys, tempfile, time
from pathlib import Path
import torch
torch.set_num_threads(1)
def memory(name):
    return next(int(line.split()[1]) for line in open("/proc/self/status") if line.startswith(name)) * 1024
{before}
for _ in sys.stdin:
    {turn}
    Path("/proc/self/clear_refs").write_text("5")
    here, begin = memory("VmRSS"), time.process_time()
    call()
    print("turn", time.process_time() - begin, memory("VmHWM") - here, flush=True)
"""


@contextmanager
def worker(tree: Path, work: tuple[str, str]) -> Iterator["subprocess.Popen[str]"]:
    """The process of a tree, which takes a turn for every line that it gets."""
    places = [str(tree / "src"), str(tree / "bench"), str(Path(__file__).parent), os.environ.get("PYTHONPATH")]
    paths = os.pathsep.join(filter(None, places))
    settings = {"PYTHONPATH": paths, "OMP_NUM_THREADS": "1", "PROMPTS": "4", "SAMPLES": "2"}
    before, turn = work
    pipes: dict[str, Any] = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.DEVNULL}
    code = LOOP.format(before=before, turn=turn)
    process = subprocess.Popen([sys.executable, "-c", code], env=os.environ | settings, text=True, **pipes)
    try:
        yield process
    finally:
        process.kill()
        process.wait()


def turn_of(process: "subprocess.Popen[str]") -> tuple[float, float]:
    """CPU seconds of one turn, and bytes above what was there before."""
    assert process.stdin is not None
    assert process.stdout is not None
    process.stdin.write("\n")
    process.stdin.flush()
    # What a bench prints beside is no turn.
    _, seconds, memory = next(line.split() for line in process.stdout if line.startswith("turn "))
    return float(seconds), float(memory)


def ratios(work: tuple[str, str], trees: tuple[Path, Path], turns: int) -> tuple[list[float], list[float]]:
    """The first tree's seconds and memory over the second's, turn by turn, after one turn that does not count."""
    with ExitStack() as stack:
        ours, theirs = (stack.enter_context(worker(tree, work)) for tree in trees)
        seconds, memory = [], []
        for turn in range(turns + 1):
            # Who goes first alternates, so that neither always finds the other's traces.
            pair = [turn_of(each) for each in ((ours, theirs) if turn % 2 else (theirs, ours))]
            mine, other = pair if turn % 2 else pair[::-1]
            seconds.append(mine[0] / other[0])
            memory.append(mine[1] / max(other[1], 1.0))
        return seconds[1:], memory[1:]


def interval(values: list[float]) -> tuple[float, float]:
    """95 % interval of the median, by order statistics."""
    ordered, n = sorted(values), len(values)
    low = int(binom.ppf(0.025, n, 0.5))
    return ordered[max(low - 1, 0)], ordered[min(n - low, n - 1)]


def main() -> None:
    growth = {each.name: TRAINED if each.kind == "pairs" else SCORED for each in works()}
    parser = argparse.ArgumentParser()
    parser.add_argument("other", type=Path)
    parser.add_argument("--turns", type=int, default=15)
    parser.add_argument("--only", choices=[*BENCHES, *growth], nargs="*", default=list(BENCHES), metavar="NAME")
    parser.add_argument("--model", default="", help="folder of a Transformers model, for trees of stated sizes")
    parser.add_argument("--size", default="256,704,4,4", help="width, inner width, layers, heads of a random Llama")
    given = parser.parse_args()
    slower = []
    for name in given.only:
        size = tuple(map(int, given.size.split(",")))
        before = GROWTH.format(name=name, model=given.model, size=size)
        trees = Path(__file__).parents[1].resolve(), given.other.resolve()
        found, memory = ratios(BENCHES.get(name) or (before, growth[name]), trees, given.turns)
        low, high = interval(found)
        print(
            f"{name}: {median(found):.3f} of the other tree's time (95 %: {low:.3f} to {high:.3f}), "
            f"{median(memory):.2f} of its memory",
            flush=True,
        )
        slower += [name] if low > 1 else []
    if slower:
        raise SystemExit(f"slower than before: {', '.join(slower)}")


if __name__ == "__main__":
    main()
