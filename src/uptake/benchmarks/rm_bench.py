"""RM-Bench: a right and a wrong response, each in three styles, from plain and short to long and formatted.

Every right response is compared with every wrong one. The groups are the authors': "hard" where the wrong one has the
fancier style, "normal" where both have the same, "easy" where the right one has the fancier. Source: THU-KEG/RM-Bench;
Liu et al. (arXiv 2410.16184), who average over domains where we pool them. License: ODC-By on the Hub, none stated in
the repository.
"""

from collections.abc import Iterator
from itertools import product
from pathlib import Path

from pydantic import BaseModel

from uptake.benchmarks import parse
from uptake.benchmarks.items import Row

FOLDER = "rm-bench"

Styles = tuple[str, str, str]


class _Matrix(BaseModel):
    """Responses in the styles concise, detailed in plain text, detailed in Markdown."""

    prompt: str
    chosen: Styles
    rejected: Styles


def local(folder: Path) -> Iterator[Row]:
    """Nine comparisons a row, of the domains that are in the folder."""
    for domain in ("chat", "safety-refuse", "safety-response", "code"):
        yield from items(parse.table(folder, domain))


def hub() -> Iterator[Row]:
    """Nine comparisons a row, math included."""
    return items(parse.hub("THU-KEG/RM-Bench", "train"))


def items(found: parse.Records) -> Iterator[Row]:
    """The items of the records of any domain."""
    for where, row in parse.rows(found, _Matrix):
        asked = parse.prompt(row.prompt, where)
        for (mine, chosen), (other, rejected) in product(enumerate(row.chosen), enumerate(row.rejected)):
            group = "easy" if mine > other else "normal" if mine == other else "hard"
            yield parse.comparison(asked, (chosen, rejected), 1.0, where, group)
