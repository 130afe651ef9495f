"""What every benchmark shares: two sides in turn, memory in a fresh process, this machine's limit, and the record.

Absolute times drift on shared machines, so a speed is a ratio of two sides measured in turn in one run.
"""

import json
import os
import platform
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from importlib.metadata import version
from multiprocessing import get_context
from pathlib import Path
from statistics import median
from time import perf_counter
from typing import Any, TypeVar

import torch
from torch.nn.functional import linear

from uptake.models.products import fast_products
from uptake.support.memory import peak_memory

_Result = TypeVar("_Result")

RESULTS = Path(__file__).parent / "results"
PACKAGES = ("torch", "transformers", "uptake")


@dataclass(frozen=True, slots=True)
class Spread:
    """Median and range of repeated measurements: `Spread(12.3, 11.9, 12.8)`."""

    median: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.median:.3g} ({self.low:.3g} to {self.high:.3g})"


@dataclass(frozen=True, slots=True)
class Comparison:
    """Seconds of both sides, and how many times as long as `ours` the peer takes, turn by turn."""

    ours: Spread
    peer: Spread
    ratio: Spread


def spread(values: Sequence[float]) -> Spread:
    return Spread(median(values), min(values), max(values))


def seconds(call: Callable[[], object]) -> float:
    """Wall-clock seconds of one call, up to the end of what it started on the GPU."""
    start = perf_counter()
    call()
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return perf_counter() - start


def compare(ours: Callable[[], object], peer: Callable[[], object], repeats: int = 5, warmup: int = 1) -> Comparison:
    """Both sides in turn, `repeats` times after `warmup` rounds that do not count."""
    rounds = [(seconds(ours), seconds(peer)) for _ in range(warmup + repeats)][warmup:]
    mine, theirs = zip(*rounds, strict=True)
    return Comparison(spread(mine), spread(theirs), spread([slow / fast for fast, slow in rounds]))


def peak_bytes(prepare: Callable[..., Callable[[], object]], *args: object) -> tuple[int, int]:
    """Peak resident memory of the work `prepare(*args)` returns: in all, and above what was resident before it.

    Measured in a fresh process, which finds `prepare` by name, so it is a function at a script's top level. Linux only.
    """
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        return pool.submit(_peak_here, prepare, *args).result()


def _peak_here(prepare: Callable[..., Callable[[], object]], *args: object) -> tuple[int, int]:
    work = prepare(*args)
    Path("/proc/self/clear_refs").write_text("5")  # the peak starts anew from what is resident now
    before = peak_memory()
    work()
    peak = peak_memory()
    return peak, peak - before


def peer_products() -> dict[str, AbstractContextManager[Any]]:
    """How a peer's linear layers are computed: as ours are, and by PyTorch's choice where that is another one."""
    ours = fast_products(torch.device("cuda" if torch.cuda.is_available() else "cpu"))
    alike = isinstance(ours, nullcontext)
    return {"PyTorch's on both sides": ours} if alike else {"the same": ours, "PyTorch's": nullcontext()}


def multiplied(call: Callable[[], _Result], products: AbstractContextManager[Any]) -> Callable[[], _Result]:
    """A call whose linear layers are computed by `products`."""

    def wrapped() -> _Result:
        with products:
            return call()

    return wrapped


def matmul_flops(size: int = 2048, repeats: int = 7, device: str = "cpu") -> Spread:
    """Floating-point operations per second of a square fp32 matrix product: the limit that a model runs against."""
    left, right = torch.randn(2, size, size, device=device)
    with fast_products(left.device):
        times = [seconds(lambda: linear(left, right)) for _ in range(repeats + 1)][1:]
    return spread([2 * size**3 / each for each in times])


def environment() -> dict[str, str]:
    """What a figure depends on besides the code: `{"cpu": "...", "threads": "2", "torch": "2.13.0", ...}`."""
    gpu = {"gpu": torch.cuda.get_device_name()} if torch.cuda.is_available() else {}
    machine = {"cpu": _cpu_name(), "cores": str(os.cpu_count()), "threads": str(torch.get_num_threads())}
    return machine | gpu | {"python": platform.python_version()} | {name: version(name) for name in PACKAGES}


def _cpu_name() -> str:
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    return next((line.split(": ", 1)[1] for line in lines if line.startswith("model name")), platform.processor())


def recorded(name: str) -> list[dict[str, Any]]:
    """The rows of earlier runs; none where there was no run."""
    file = RESULTS / f"{name}.json"
    rows: list[dict[str, Any]] = json.loads(file.read_text())["rows"] if file.exists() else []
    return rows


def record(name: str, claim: str, rows: Sequence[Mapping[str, Any]]) -> None:
    """Print a table under its claim and keep it as `results/<name>.md` and `.json`; all rows have the same columns."""
    where = environment()
    text = "\n".join(
        (f"# {claim}", "", *_table(rows), "", ", ".join(f"{key} {value}" for key, value in where.items()), "")
    )
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / f"{name}.md").write_text(text)
    content = {"claim": claim, "rows": rows, "environment": where}
    (RESULTS / f"{name}.json").write_text(json.dumps(content, indent=2, default=_plain) + "\n")
    print(text)


def _table(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    cells = [list(rows[0]), ["---"] * len(rows[0]), *(list(map(str, row.values())) for row in rows)]
    return [f"| {' | '.join(row)} |" for row in cells]


def _plain(value: object) -> object:
    if isinstance(value, Spread):
        return {"median": value.median, "low": value.low, "high": value.high}
    return str(value)
