"""`uptake datasets`."""

from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated

import typer
from rich.table import Table

from uptake.cli import options as cli
from uptake.errors import InputError

SetNames = Annotated[list[str] | None, typer.Argument(metavar="[SET]...", help="Data sets by name. Default: all.")]
RowKind = Annotated[
    str | None, typer.Option(help="comparisons, ratings, candidates, preferences, feedback, edits or conversations.")
]
RowsFile = Annotated[Path | None, typer.Option("--out", help="Output: .jsonl[.gz], .csv or .parquet.")]
HeldOut = Annotated[bool, typer.Option("--heldout", help="The held-out rows, to measure with.")]


@cli.app.command()
def datasets(
    names: SetNames = None,
    *,
    kind: RowKind = None,
    data: cli.DataFolder = None,
    target: RowsFile = None,
    heldout: HeldOut = False,
    overwrite: cli.Overwrite = False,
) -> None:
    """List the data sets, tell what is in some, or write their rows of one kind.

    Example: `uptake datasets halueval jfleg --kind edits --data ./data --out edits.jsonl`
    """
    from uptake.datasets import KINDS

    if kind is not None and kind not in KINDS:
        raise InputError(f"found {kind!r}", field="--kind", allowed=", ".join(KINDS))
    if target is not None:
        _write(names or [], kind, data, target, heldout, overwrite)
    elif heldout or overwrite:
        raise InputError("no output file", field="--heldout" if heldout else "--overwrite", allowed="with --out")
    elif names:
        for name in names:
            _tell(name, data)
    else:
        _list(kind, data)


def _list(kind: str | None, data: Path | None) -> None:
    from uptake.datasets import find, first_line, names, offers, origin

    for name in names(*filter(None, (kind,))):
        cli.say(f"{name}: {', '.join(offers(name))}. From: {origin(name, data)}. License: {find(name).LICENSE}.")
        cli.say(f"  {first_line(name)}")


def _tell(name: str, data: Path | None) -> None:
    from uptake.datasets import find, folder_of, offers, origin
    from uptake.tasks.datasets import sizes

    module = find(name)
    cli.say((module.__doc__ or "").strip() + "\n")
    cli.say(f"source: {module.SOURCE}")
    cli.say(f"license: {module.LICENSE}")
    cli.say(f"from: {origin(name, data)}")
    if data is None or folder_of(name, data) is None:
        cli.say(f"rows: {', '.join(offers(name))}\n")
        return
    table = Table("rows", "to train on", "held out", "left out")
    for kind, counts in sizes(name, data).items():
        left = {reason: count for reason, count in counts.items() if reason not in ("train", "heldout")}
        table.add_row(kind, str(counts["train"]), str(counts["heldout"]), _spelled(left))
    cli.out.print(table)


def _write(names: list[str], kind: str | None, data: Path | None, target: Path, heldout: bool, overwrite: bool) -> None:
    from uptake.tasks.datasets import write_rows

    if not names or kind is None:
        raise InputError("no kind of rows" if names else "no data set", field="--out", allowed="SET... --kind KIND")
    cli.check_output(target, overwrite=overwrite)
    summary = write_rows(names, kind, data, target, split="heldout" if heldout else "train", overwrite=overwrite)
    labels = ("positive", "negative", "unknown") if kind == "feedback" else (kind,)
    table = Table("set", *labels, "left out")
    for name, counts in summary.written.items():
        table.add_row(name, *(str(counts[each]) for each in labels), _spelled(summary.left_out[name]))
    cli.out.print(table)
    left_out = sum((Counter(counts) for counts in summary.left_out.values()), Counter[str]())
    rest = f"; left out: {_spelled(left_out)}" if left_out else ""
    cli.say(f"{sum(sum(counts.values()) for counts in summary.written.values())} rows -> {target}{rest}")


def _spelled(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{reason} {count}" for reason, count in counts.items())
