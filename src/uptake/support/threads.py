"""Threads of OpenMP: how those wait that have nothing to do."""

import os
from types import MappingProxyType

# How long a thread turns before it sleeps: 5,000 turns in GNU's OpenMP, a millisecond in Intel's.
ASLEEP = MappingProxyType({"GOMP_SPINCOUNT": "5000", "KMP_BLOCKTIME": "1"})


def patient_threads() -> None:
    """Threads of OpenMP that wait for another soon do so asleep.

    By default they spin, and where neighbours have taken a core they spin for the thread that this core would run. So
    many turns cost next to nothing where nobody else is about (bench/bench_neighbours.py). What the user has set stays.
    Torch reads this when it is imported: it is to be called before.
    """
    if "OMP_WAIT_POLICY" not in os.environ:
        for name, value in ASLEEP.items():
            os.environ.setdefault(name, value)
