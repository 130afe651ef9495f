"""Notes count things once, and of very many an estimate, from a sample that stays small."""

import tracemalloc
from collections.abc import Iterator

import pytest

from uptake.support.notes import MOST, clear_notes, note, notes


@pytest.fixture(autouse=True)
def _forget() -> Iterator[None]:
    clear_notes()
    yield
    clear_notes()


def test_equal_things_count_once_and_the_first_example_is_said() -> None:
    for row in (1, 2, 1):
        note("rows are odd", ("a.jsonl", row), f"row {row}")
    note("cells are NaN", 3)
    assert notes() == ["2 rows are odd; the first: row 1", "1 cells are NaN"]


def test_the_count_is_exact_up_to_a_limit() -> None:
    for number in range(MOST):
        note("rows are odd", number)
    assert notes() == [f"{MOST} rows are odd"]


def test_of_very_many_the_number_is_an_estimate_in_bounded_memory() -> None:
    tracemalloc.start()
    for number in range(400_000):
        note("rows are odd", ("a.jsonl", number))
        note("rows are odd", ("a.jsonl", number // 2))
    held, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    ((about, count, *_),) = [line.split() for line in notes()]
    assert about == "about"
    assert int(count) == pytest.approx(400_000, rel=0.02)
    assert held < 16 << 20  # all of them would be three times as much
