"""Memory of this process, as the operating system counts it."""

import sys
from pathlib import Path


def peak_memory() -> int:
    """Bytes of memory that the process has held at most so far."""
    status = Path("/proc/self/status")
    if status.exists():  # the kernel's other figure, as a child's, counts what its parent had
        return next(
            1024 * int(line.split()[1]) for line in status.read_text().splitlines() if line.startswith("VmHWM:")
        )
    import resource  # noqa: PLC0415 - not on every system

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
