"""Figures of the pages: what was measured stands in the result file that its paragraph names.

A paragraph, list or table that names `bench/results/NAME` must have every figure from there: each is a number of the
file's rows, rounded as it is written, percentages as shares too. Figures are numbers with a decimal point and whole
ones before "times" or "%"; what else has a decimal point is named in the same block with what it is:
`<!-- not in the file: 0.9 a nucleus; 0.885 an earlier run -->`. A bold figure in no such block is an error, since what
is bold was measured.
"""

import json
import math
import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parent.parent
PAGES = [ROOT / "README.md", *sorted(ROOT.glob("docs/**/*.md"))]
NUMBER = re.compile(r"-?\d+(?:\.\d+)?(?:e-?\d+)?")
FIGURE = re.compile(r"(?<![\w.^-])(\d+\.\d+(?:e-?\d+)?|\de-\d+|\d+(?=\s*%| times))(?!\w|\.\d)")
BOLD = re.compile(r"\*\*[^*\n]*\d[^*\n]*(?:times|%)[^*\n]*\*\*|\*\*0\.\d+\*\*")
NAMED = re.compile(r"bench/results/(\w+(?:\.\w+)?)\.(?:md|json)")
OTHERS = re.compile(r"<!-- not in the file: ([^>]*) -->")
# What is no figure: code, addresses, comments, versions, the numbers of papers and the level of an interval.
ELSE = re.compile(
    r"`[^`]*`|\]\([^)]*\)|<!--.*?-->|\b(?:trl|Python|PyTorch) \d[\d.]*|\d{4}\.\d{5}|95 %\s+interval|intervals? of 95 %",
    re.DOTALL,
)
# The results that the README's picture is drawn from.
PICTURED = ("growth", "sampling", "dpo", "demo")
FENCE = re.compile(r"^```.*?^```$", re.MULTILINE | re.DOTALL)


def blocks(text: str) -> Iterator[str]:
    """Paragraphs and tables of a page; a table belongs to the paragraph before it, and fenced blocks are left out."""
    found = ""
    for block in re.split(r"\n\s*\n", FENCE.sub("", text)):
        if block.lstrip().startswith("|"):
            found += "\n" + block
            continue
        if found:
            yield found
        found = block
    yield found


def figures(block: str) -> set[str]:
    """The figures of a block but for those that it names as something else."""
    named = [each.split(maxsplit=1) for found in OTHERS.findall(block) for each in found.split(";")]
    return set(FIGURE.findall(ELSE.sub(" ", block))) - {number for number, _ in named}


def numbers(value: Any) -> Iterator[float]:
    """All numbers of a result's rows, those of its texts among them."""
    if isinstance(value, dict):
        yield from (each for inner in value.values() for each in numbers(inner))
    elif isinstance(value, list):
        yield from (each for inner in value for each in numbers(inner))
    elif isinstance(value, str):
        yield from map(float, NUMBER.findall(value))
    elif isinstance(value, int | float):
        yield float(value)


def is_among(figure: str, found: Iterable[float]) -> bool:
    """Whether one of the numbers, or a hundred times it, is this one when rounded as it is written."""
    mantissa, _, exponent = figure.partition("e")
    unit = 10.0 ** (int(exponent or 0) - len(mantissa.partition(".")[2]))
    return any(abs(scale * each - float(figure)) <= unit / 2 * (1 + 1e-9) for each in found for scale in (1, 100))


def results(name: str) -> list[float]:
    path = ROOT / "bench" / "results" / f"{name}.json"
    assert path.exists(), f"no bench/results/{name}.json"
    content: Any = json.loads(path.read_text())
    return [each for each in numbers(content.get("rows", content)) if math.isfinite(each)]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_figures_are_those_of_their_files(page: Path) -> None:
    wrong = []
    for block in blocks(page.read_text()):
        names = NAMED.findall(block)
        if names and (shown := figures(block)):
            found = [each for name in names for each in results(name)]
            wrong += [f"{each}: not in {', '.join(names)}" for each in shown if not is_among(each, found)]
        elif not names:
            wrong += [f"{each}: no result file" for each in BOLD.findall(ELSE.sub(" ", block))]
    assert not wrong, "\n".join(wrong)


def test_the_picture_shows_what_the_files_say() -> None:
    text = (ROOT / "docs" / "images" / "first-screen.svg").read_text()
    shown = [" ".join(each.split()) for each in re.findall(r"<text[^>]*>([^<]*)</text>", text)]
    rows = {name: json.loads((ROOT / f"bench/results/{name}.json").read_text()) for name in PICTURED}
    (dense,) = (row["dense row / trees"] for row in rows["growth"]["rows"] if row["model"].startswith("SmolLM2"))
    generate = rows["sampling"]["rows"][0]["generate / uptake"]
    medians = [json.dumps(each) for each in (dense, generate, rows["dpo"]["rows"][0]["ratio"])]
    assert [each for each in shown if each.endswith("x")] == [f"{_first(each):.3g}x" for each in medians]
    rates = [row["win rate, interval over questions"] for row in rows["demo"]["rows"]] + [rows["demo"]["claim"]]
    told = [each for each in shown if " to 0." in each and each.startswith("0.")]
    assert [re.findall(r"0\.\d+", each) for each in told] == [re.findall(r"0\.\d+", each) for each in rates]
    for row in rows["demo"]["rows"]:
        assert f"seed {row['seed']}, mean quality {row['quality before']} to {row['quality after']}" in shown


def _first(text: str) -> float:
    found = NUMBER.search(text)
    assert found is not None
    return float(found[0])


def test_figures_by_hand() -> None:
    text = "By `x 0.5`, trl 1.16 and [this](a/0.7.md) **63 times**, 25.5 s, 2e-6, 95 % intervals, 20 %; 12 rows. "
    assert figures(f"{text}<!-- not in the file: 25.5 an aim -->") == {"63", "2e-6", "20"}
    found = [*numbers({"a": {"median": 63.349, "low": "61"}, "b": ["0.1951 (0.19 to 0.21)", 1.9e-06]})]
    assert found == [63.349, 61, 0.1951, 0.19, 0.21, 1.9e-06]
    assert all(is_among(each, found) for each in ("63", "63.3", "63.35", "20", "0.195", "19.5", "2e-6", "1.9e-06"))
    assert not any(is_among(each, found) for each in ("64", "63.4", "22", "0.196", "3e-6", "2.0e-6"))
    assert [*blocks("a\n\n|b|\n\nc\n```text\n0.5\n```")] == ["a\n|b|", "c\n"]
    assert BOLD.findall("**63 times**, **0.57**, **two**") == ["**63 times**", "**0.57**"]
