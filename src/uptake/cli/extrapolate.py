"""`uptake extrapolate`."""

from pathlib import Path
from typing import Annotated

import typer

from uptake.cli.options import app, out, say


@app.command()
def extrapolate(
    start: Annotated[str, typer.Argument(metavar="START", help="The model that ALIGNED was trained from.")],
    aligned: Annotated[str, typer.Argument(metavar="ALIGNED", help="The aligned model, or an adapter over START.")],
    *,
    folder: Annotated[Path, typer.Option("--out", help="Folder of the model; with several alphas one in it for each.")],
    alpha: Annotated[str, typer.Option("--alpha", "--alphas", help="How far beyond: 0.3, or 0.1,0.3,0.5.")] = "0.3",
    dtype: Annotated[
        str, typer.Option(help="auto (as ALIGNED is saved), float32, bfloat16, float16, float64.")
    ] = "auto",
) -> None:
    """Go on from a model past its aligned state, without training: ALIGNED + alpha (ALIGNED - START).

    Example: `uptake extrapolate ./start runs/dpo/model --alpha 0.1,0.3,0.5 --out ./beyond`
    """
    from rich.table import Column, Table

    from uptake.errors import InputError
    from uptake.tasks.extrapolate import extrapolate as run_extrapolate

    try:
        alphas = [float(each) for each in alpha.split(",")]
    except ValueError:
        raise InputError(repr(alpha), field="--alpha", allowed="a number, or several with commas between") from None
    found = run_extrapolate(start, aligned, folder, alphas, dtype)
    table = Table(Column("layers", overflow="fold"), "weights", "change", *(f"no-op at {each:g}" for each in alphas))
    movements = found.movements
    for name, each in (*movements.groups.items(), ("all", movements.total)):
        left = (f"{100 * each.no_op(index):.1f} %" for index in range(len(alphas)))
        table.add_row(name, f"{each.numbers:,}", f"{each.norm:.4g}", *left)
    out.print(table)
    for path in found.folders:
        say(f"model: {path}")
