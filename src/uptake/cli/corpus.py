"""`uptake corpus`."""

from pathlib import Path
from typing import Annotated

import typer
from rich.table import Column, Table

from uptake.cli import options as cli


@cli.app.command()
def corpus(
    *,
    data: Annotated[Path, typer.Option(help="Folder of data sets, one folder each.")],
    target: Annotated[Path, typer.Option("--out", help="Output: .jsonl[.gz], .csv or .parquet.")],
    validation: Annotated[
        Path | None, typer.Option(help="File for one conversation in fifty, which then is not in the output.")
    ] = None,
    hold_out: Annotated[
        list[str] | None, typer.Option(help="Rows whose prompts are held out too; may be given again.")
    ] = None,
    columns: cli.ColumnsOption = None,
    overwrite: cli.Overwrite = False,
) -> None:
    """Gather conversations to learn from, without any that a benchmark evaluates.

    Example: `uptake corpus --data ./data --out corpus.jsonl`
    """
    from uptake.data.lock import was_killed
    from uptake.data.write import may_write
    from uptake.tasks.corpus import OUTCOMES, write_corpus

    may_write(target, overwrite=overwrite or was_killed(target))
    if validation is not None:
        may_write(validation, overwrite=overwrite or was_killed(target) or not target.exists())
    summary = write_corpus(
        data,
        target,
        validation=validation,
        hold_out=hold_out or (),
        columns=cli.columns_of(columns),
        overwrite=overwrite,
    )
    table = Table(Column("source", no_wrap=True), *OUTCOMES, "user turns")
    for name, outcomes in summary.outcomes.items():
        table.add_row(name, *(str(outcomes[outcome]) for outcome in OUTCOMES), str(summary.user_turns[name]))
    cli.out.print(table)
    items = ", ".join(f"{name} {count}" for name, count in summary.evaluated.items())
    cli.say(f"held out is what shares a prompt or its first exchange with: {items or 'nothing'}")
    written = sum(outcomes["kept"] for outcomes in summary.outcomes.values())
    cli.say(f"{written} conversations, {sum(summary.user_turns.values())} user turns -> {target}")
