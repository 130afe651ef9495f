"""The page of identities: every test it names exists, and where there is none it says why."""

import ast
import re
from functools import cache
from pathlib import Path

PAGE = Path(__file__).parent.parent / "docs" / "identities.md"
NAMED = re.compile(r"`(test_\w+\.py)::(test_\w+)`")


def rows() -> list[list[str]]:
    """The cells of every row of the page's tables, without heads."""
    lines = [line for line in PAGE.read_text().splitlines() if line.startswith("| ")]
    return [[cell.strip() for cell in line.strip("|").split(" | ")] for line in lines if "| source |" not in line]


@cache
def functions_of(name: str) -> set[str]:
    tree = ast.parse((PAGE.parent.parent / "tests" / name).read_text())
    return {each.name for each in tree.body if isinstance(each, ast.FunctionDef)}


def test_every_identity_names_a_test_that_exists_or_says_why_not() -> None:
    table = rows()
    assert len(table) > 100
    for cells in table:
        identity, source, tests = cells
        assert identity, cells
        assert source, cells
        named = NAMED.findall(tests)
        # Nothing but names of tests, or one reason.
        assert NAMED.sub("", tests).strip(", ") == "" if named else re.fullmatch(r"none: .{10,}", tests), cells
        for file, test in named:
            assert (PAGE.parent.parent / "tests" / file).exists(), f"{identity}: no tests/{file}"
            assert test in functions_of(file), f"{identity}: no {test} in {file}"


def test_no_identity_stands_twice() -> None:
    identities = [cells[0] for cells in rows()]
    repeated = {each for each in identities if identities.count(each) > 1} - {
        "a resumed run = one that was not stopped"
    }
    assert not repeated
