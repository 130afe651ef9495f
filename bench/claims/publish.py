"""The table of claims as files: every figure in JSON, by machine, and the table for people on pages."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from _harness import RESULTS, environment

from claims.rule import ERROR
from claims.store import version
from claims.table import Verdict, record, rows

PAGE = Path(__file__).parents[2] / "docs" / "claims.md"


def spelled(verdicts: Sequence[Verdict]) -> str:
    """The table as Markdown."""
    table = rows(verdicts)
    cells = [list(table[0]), ["---"] * len(table[0]), *(list(row.values()) for row in table)]
    return "\n".join(f"| {' | '.join(row)} |" for row in cells)


def publish(name: str, verdicts: Sequence[Verdict]) -> None:
    """Write `results/<name>.json` and `.md`, and the page; what other machines found stays, and is shown below."""
    path = RESULTS / f"{name}.json"
    found: dict[str, Any] = json.loads(path.read_text()) if path.exists() else {}
    where = environment()
    here = {
        "environment": {**where, **version()},
        "error": ERROR,
        "table": spelled(verdicts),
        "claims": [record(each) for each in verdicts],
    }
    found[f"{where['cpu']}, {where['cores']} cores"] = here
    path.write_text(json.dumps(found, indent=2) + "\n")
    text = _machines(found)
    path.with_suffix(".md").write_text(f"# Claims, {ERROR:.0%} of tables in error at most\n\n{text}")
    begin, end = marks(name)
    before, _, rest = PAGE.read_text().partition(begin)
    _, _, after = rest.partition(end)
    PAGE.write_text(f"{before}{begin}\n\n{text}\n{end}{after}")


def marks(name: str) -> tuple[str, str]:
    """What stands on the page before and after a table."""
    return f"<!-- {name}: begin -->", f"<!-- {name}: end -->"


def _machines(found: Mapping[str, Any]) -> str:
    parts = []
    for machine, each in found.items():
        facts = ", ".join(f"{key} {value}" for key, value in each["environment"].items())
        parts.append(f"On {machine}:\n\n{each['table']}\n\n{facts}\n")
    return "\n".join(parts)
