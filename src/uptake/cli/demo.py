"""`uptake demo`."""

from pathlib import Path
from typing import Annotated

import typer

from uptake.cli.options import SeedOption, app, out, say


@app.command()
def demo(
    folder: Annotated[Path, typer.Option("--out", help="Folder for everything that is made.")] = Path("runs/demo"),
    seed: SeedOption = 0,
    resume: Annotated[bool, typer.Option("--resume", help="Go on with a demonstration that was stopped.")] = False,
) -> None:
    """Watch it work: a tiny model learns a small town, is aligned from its users' reactions, and a report shows it."""
    from uptake.tasks.demo import DemoSettings
    from uptake.tasks.demo import demo as run_demo

    result = run_demo(folder, DemoSettings(seed=seed), resume=resume, say=out.print)
    wins, lengths = result.evaluation["win_rate"], result.evaluation["lengths"]
    out.print(
        f"\nThe aligned model wins [bold]{wins['rate']:.1%}[/bold] of {wins['n']} answers to "
        f"{result.evaluation['prompts']} held-out questions (95 % interval {wins['low']:.1%} to {wins['high']:.1%}, "
        f"ties half), at {lengths['ratio']:.2f} times the length."
    )
    say(f"Report: {result.report}")
