"""`uptake feedback`."""

from pathlib import Path
from typing import Annotated

import typer
from rich.table import Table

from uptake.cli.options import Overwrite, app, out, say


@app.command()
def feedback(
    names: Annotated[list[str], typer.Argument(metavar="SET...", help="shepherd, cut, feedbackqa, prometheus.")],
    *,
    data: Annotated[Path, typer.Option(help="Folder of data sets, one folder each.")],
    target: Annotated[Path, typer.Option("--out", help="Output: .jsonl[.gz], .csv or .parquet.")],
    heldout: Annotated[bool, typer.Option("--heldout", help="The held-out rows, to measure with.")] = False,
    overwrite: Overwrite = False,
) -> None:
    """Write what readers said about answers as rows for feedback tuning.

    Example: `uptake feedback shepherd cut --data ./data --out feedback.jsonl`
    """
    from uptake.data.write import may_write
    from uptake.tasks.feedback import write_feedback

    may_write(target, overwrite=overwrite)
    summary = write_feedback(names, data, target, split="heldout" if heldout else "train", overwrite=overwrite)
    table = Table("set", "positive", "negative", "unknown", "left out")
    for name, counts in summary.written.items():
        reasons = ", ".join(f"{reason} {count}" for reason, count in summary.left_out[name].items())
        table.add_row(name, *(str(counts[each]) for each in ("positive", "negative", "unknown")), reasons)
    out.print(table)
    say(f"{sum(sum(counts.values()) for counts in summary.written.values())} rows -> {target}")
