"""`uptake annotate`."""

from pathlib import Path
from typing import Annotated

import typer

from uptake.cli import options as cli


@cli.app.command()
def annotate(
    source: Annotated[
        str, typer.Argument(metavar="PAIRS", help="Preferences, or prompts with two texts in the column responses.")
    ],
    *,
    target: Annotated[Path, typer.Option("--out", help="Output: .jsonl[.gz], .csv or .parquet.")],
    port: Annotated[int, typer.Option(help="Where the page is served, on this machine only; 0 takes a free port.")] = 0,
    seed: cli.SeedOption = 0,
    columns: cli.ColumnsOption = None,
    limit: cli.LimitOption = None,
    drop_bad: cli.DropBad = False,
    overwrite: cli.Overwrite = False,
) -> None:
    """Say yourself which of two responses is better, on a page in your browser.

    Example: `uptake annotate pairs.jsonl --out labelled.jsonl`
    """
    from uptake.annotators.person import PersonAnnotator
    from uptake.data.resumable import journal_path
    from uptake.tasks.judge import judge_file, read_pairs

    cli.check_output(target, overwrite=overwrite, resumes=journal_path(target))
    pairs = read_pairs(source, target, limit=limit, columns=cli.columns_of(columns), drop_bad=drop_bad)
    answers = target.with_name(f"{target.name}.person.sqlite")
    person = PersonAnnotator(str(answers), port, seed)
    # All pairs at once: one page, one count.
    together = 1 << 30
    summary = judge_file(pairs, person, target, overwrite=overwrite, drop_bad=drop_bad, chunk=together)
    cli.say(f"{summary.rows} rows -> {target}; the second response is preferred in {summary.swapped}")
    for reason, count in summary.stats.reasons.items():
        cli.say(f"{reason}: {count}")
