"""`uptake check`."""

from pathlib import Path
from typing import Annotated

import typer
from rich.table import Table

from uptake.cli.options import (
    Data,
    Device,
    Dtype,
    FollowUpModel,
    JudgeModel,
    Limit,
    Method,
    Options,
    Policy,
    Sets,
    app,
    out,
    recipe_of,
)


@app.command()
def check(
    method: Method,
    *,
    policy: Policy,
    data: Data,
    follow_up_model: FollowUpModel = None,
    judge_model: JudgeModel = None,
    reference: Annotated[
        str | None, typer.Option(help="Another frozen reference. Default: the policy's start.")
    ] = None,
    config: Options = None,
    sets: Sets = None,
    limit: Limit = None,
    device: Device = "auto",
    dtype: Dtype = "auto",
) -> None:
    """Look before you start: rendered samples with the trained part in color, the batch, the cost, the first loss.

    Example: `uptake check dpo --policy ./my-model --data pairs.jsonl`
    """
    from rich.text import Text

    from uptake.tasks.check import check as run_check
    from uptake.tasks.train import Given, build_world

    recipe = recipe_of(method, config, sets, reference)
    given = Given(
        policy, data, follow_up_model, reference, limit=limit, device=device, dtype=dtype, judge_model=judge_model
    )
    found = run_check(recipe, build_world(given, Path(".")))
    for sample in found.samples:
        text = Text()
        for piece in sample:
            text.append(piece.text, style="bold green" if piece.trained else "dim")
            text.append("\n" if piece.trained else "")
        out.print(text, "\n")
    table = Table(show_header=False)
    for name, value in found.facts:
        table.add_row(name, value)
    out.print(table)
    out.print("[bold green]ready[/bold green]: green text is trained on, dim text is only read")
