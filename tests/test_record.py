"""What every command computes is what `record/make.py` has recorded: losses, samples, judgements, rows and weights.

Ids, texts, counts and choices are equal, and numbers agree to a relative 1e-5 or an absolute 1e-6. Every tensor of the
final weights is compared as its sum, norm and product with a fixed vector, to 1e-5 of its norm.

The last bit of a sum depends on the processor's vector instructions and on the version of PyTorch. So a hash over the
bytes of all weights is compared too where processor, PyTorch and Python are those of the record. Elsewhere it is not,
and tolerances are 1e-4: scores are differences of larger log-probabilities in single precision, and training carries
their rounding on. With AVX2 or plain kernels in place of AVX-512 log-probabilities differ by 3e-5 at most, and no id or
text does.
"""

import json
import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import pytest
from record.make import COMMANDS, RECORDS, compute, machine


@dataclass(frozen=True)
class Tolerance:
    """How far numbers may lie apart: by a share of their size, or by this much."""

    relative: float
    absolute: float


SAME_MACHINE = Tolerance(1e-5, 1e-6)
OTHER_MACHINE = Tolerance(1e-4, 1e-4)
SHOWN = 20

# PEFT still asks Transformers by an old name.


@pytest.mark.parametrize("name", COMMANDS)
def test_a_command_computes_what_is_recorded(name: str) -> None:
    recorded, found = json.loads((RECORDS / f"{name}.json").read_text()), compute(name)
    there, here = recorded.pop("machine"), machine()
    tolerance, where = SAME_MACHINE, "on a machine like that of the record"
    if there != here:
        tolerance, where = OTHER_MACHINE, f"on another machine, recorded on {there}, found on {here}"
        for record in (recorded, found):
            record.pop("weights_sha256", None)
    changes = list(differences(recorded, found, tolerance))
    more = [f"and {len(changes) - SHOWN} more"] if len(changes) > SHOWN else []
    if changes:
        pytest.fail("\n".join([f"{name} is not as recorded, {where}:", *changes[:SHOWN], *more]), pytrace=False)


def test_every_record_is_of_a_command() -> None:
    assert {path.stem for path in RECORDS.glob("*.json")} == COMMANDS.keys()


def differences(recorded: Any, found: Any, tolerance: Tolerance, place: str = "") -> Iterator[str]:
    """A line for every field in which two records differ, with both values."""
    match recorded, found:
        case dict(), dict():
            if "norm" in recorded:  # a tensor: each of its numbers is as exact as the largest can be
                tolerance = replace(tolerance, absolute=tolerance.relative * recorded["norm"])
            for part in sorted(recorded.keys() | found.keys()):
                one, other = (side.get(part, "nothing") for side in (recorded, found))
                yield from differences(one, other, tolerance, f"{place}.{part}".strip("."))
        case list(), list() if len(recorded) == len(found):
            for part, (one, other) in enumerate(zip(recorded, found, strict=True)):
                yield from differences(one, other, tolerance, f"{place}[{part}]")
        case (float(), int() | float()) | (int(), float()):
            if not math.isclose(recorded, found, rel_tol=tolerance.relative, abs_tol=tolerance.absolute):
                yield f"{place}: recorded {recorded!r}, found {found!r}"
        case _ if recorded != found:
            yield f"{place}: recorded {recorded!r}, found {found!r}"


@pytest.mark.parametrize(
    ("recorded", "found", "lines"),
    [
        ({"ids": [1, 2]}, {"ids": [1, 2]}, []),
        ({"ids": [1, 2]}, {"ids": [1, 3]}, ["ids[1]: recorded 2, found 3"]),
        ({"ids": [1, 2]}, {"ids": [1]}, ["ids: recorded [1, 2], found [1]"]),
        ({"rows": [{"p": 0.5}]}, {"rows": [{"p": 0.500004}]}, []),
        ({"rows": [{"p": 0.5}]}, {"rows": [{"p": 0.50001}]}, ["rows[0].p: recorded 0.5, found 0.50001"]),
        ({"loss": 0.0}, {"loss": 1e-7}, []),
        ({"loss": 1.0}, {"loss": float("nan")}, ["loss: recorded 1.0, found nan"]),
        ({"a": 1}, {"b": 1}, ["a: recorded 1, found 'nothing'", "b: recorded 'nothing', found 1"]),
        ({"swapped": True}, {"swapped": False}, ["swapped: recorded True, found False"]),
        ({"w": {"norm": 8.0, "sum": 0.0}}, {"w": {"norm": 8.0, "sum": 7e-5}}, []),
        ({"w": {"norm": 8.0, "sum": 0.0}}, {"w": {"norm": 8.0, "sum": 9e-5}}, ["w.sum: recorded 0.0, found 9e-05"]),
    ],
)
def test_differences_are_seen(recorded: Any, found: Any, lines: list[str]) -> None:
    assert list(differences(recorded, found, SAME_MACHINE)) == lines
