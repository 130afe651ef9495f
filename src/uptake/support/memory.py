"""Memory of this process and of its machine, as the operating system counts it."""

import os
import sys
from pathlib import Path

# Where a container is told what it may take, and what it takes: control groups of version 2, and of version 1.
_GROUPS = (
    (Path("/sys/fs/cgroup/memory.max"), Path("/sys/fs/cgroup/memory.current"), "inactive_file"),
    (
        Path("/sys/fs/cgroup/memory/memory.limit_in_bytes"),
        Path("/sys/fs/cgroup/memory/memory.usage_in_bytes"),
        "total_inactive_file",
    ),
)


def peak_memory() -> int:
    """Bytes of memory that the process has held at most so far."""
    held = _status("VmHWM")  # the kernel's other figure, as a child's, counts what its parent had
    if held is not None:
        return held
    import resource  # noqa: PLC0415 - not on every system

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def held_memory() -> int:
    """Bytes of memory that the process holds now; where the system does not say, what it has held at most."""
    held = _status("VmRSS")
    return peak_memory() if held is None else held


def free_memory() -> int:
    """Bytes of memory that the process can still take, within what its container may; all there are, where unknown."""
    free = _field(Path("/proc/meminfo"), "MemAvailable")
    if free is None:
        free = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    return min(free, *(group_room(*group) for group in _GROUPS))


def group_room(limit: Path, usage: Path, reclaimed: str) -> int:
    """What a control group leaves; pages of files that nobody uses are given back before it is full."""
    try:
        allowed, taken = limit.read_text(encoding="utf-8").strip(), int(usage.read_text(encoding="utf-8"))
        stat = (limit.parent / "memory.stat").read_text(encoding="utf-8")
    except OSError:
        return sys.maxsize
    cached = next((int(line.split()[1]) for line in stat.splitlines() if line.startswith(f"{reclaimed} ")), 0)
    return sys.maxsize if allowed == "max" else max(0, int(allowed) - taken + cached)


def _status(name: str) -> int | None:
    return _field(Path("/proc/self/status"), name)


def _field(path: Path, name: str) -> int | None:
    """A line of a file of the kernel's, in bytes; None where there is none."""
    if not path.exists():
        return None
    lines = path.read_text(encoding="utf-8").splitlines()
    return next((1024 * int(line.split()[1]) for line in lines if line.startswith(f"{name}:")), None)
