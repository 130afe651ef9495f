"""Damaged inputs: a few for every reader, and those that once ended in a traceback; `make fuzz` reads many more."""

import sys
from pathlib import Path

import pytest

FOLDER = Path(__file__).with_name("fuzz")
sys.path.append(str(FOLDER))

import fuzz  # noqa: E402 - it is a script, found beside this file
from readers import READERS  # noqa: E402

# Inputs a reader, in a few seconds all together; a run and a model take longer to read than rows.
FEW = {"run folder": 3, "model folder": 3, "report": 2, "data set": 5}

# Inputs that once were a fault.
ONCE = (
    *(("csv", 44), ("jsonl", 409), ("options", 56), ("template", 67), ("template", 126), ("answers", 70)),
    *(("model folder", 100), ("report", 100181)),
)


@pytest.mark.unchecked
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("reader", READERS)
def test_a_few_damaged_inputs(reader: str, tmp_path: Path) -> None:
    faults = []
    for number in range(FEW.get(reader, 25)):
        folder = tmp_path / str(number)
        folder.mkdir()
        faults.append(fuzz.read(reader, number, folder))
    assert not list(filter(None, faults))


@pytest.mark.unchecked
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(("reader", "number"), ONCE)
def test_what_was_a_fault(reader: str, number: int, tmp_path: Path) -> None:
    assert fuzz.read(reader, number, tmp_path) is None
