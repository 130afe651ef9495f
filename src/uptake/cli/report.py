"""`uptake report`."""

from pathlib import Path
from typing import Annotated

import typer

from uptake.cli import options as cli


@cli.app.command()
def report(
    folder: Annotated[Path, typer.Argument(metavar="RUN", help="Folder of a run.")],
    target: Annotated[
        Path | None,
        typer.Option("--out", help="The page, .html; one that exists is replaced. Default: report.html in the folder."),
    ] = None,
) -> None:
    """Write the story of a run as one self-contained page."""
    from uptake.report import write_report

    cli.say(f"report: {write_report(folder, target)}")
