"""RM-Bench: a right and a wrong response, each in three styles, from plain and short to long and formatted.

Every right response is compared with every wrong one. The groups are the authors': "hard" where the wrong one has the
fancier style, "normal" where both have the same, "easy" where the right one has the fancier. They average over domains
where `uptake bench` pools them.
"""

from collections.abc import Iterator
from itertools import product
from pathlib import Path

from pydantic import BaseModel

from uptake.datasets.items import Comparison, to_comparison
from uptake.datasets.parse import Records, hub, prompt, rows, table

FOLDER = "rm-bench"
SOURCE = "THU-KEG/RM-Bench; Liu et al. (arXiv 2410.16184)"
LICENSE = "ODC-By on the Hub, none stated in the repository"

Styles = tuple[str, str, str]


class _Matrix(BaseModel):
    """Responses in the styles concise, detailed in plain text, detailed in Markdown."""

    prompt: str
    chosen: Styles
    rejected: Styles


def comparisons(folder: Path) -> Iterator[Comparison | str]:
    """Nine comparisons a row, of the domains that are in the folder."""
    for domain in ("chat", "safety-refuse", "safety-response", "code"):
        yield from from_records(table(folder, domain))


def hub_comparisons() -> Iterator[Comparison | str]:
    """Nine comparisons a row, math included."""
    return from_records(hub("THU-KEG/RM-Bench", "train"))


def from_records(found: Records) -> Iterator[Comparison | str]:
    """The items of the records of any domain."""
    for where, row in rows(found, _Matrix):
        question = prompt(row.prompt, where)
        for (mine, chosen), (other, rejected) in product(enumerate(row.chosen), enumerate(row.rejected)):
            group = "easy" if mine > other else "normal" if mine == other else "hard"
            yield to_comparison(question, (chosen, rejected), 1.0, where, group)
