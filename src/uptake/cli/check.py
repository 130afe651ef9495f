"""`uptake check`."""

from pathlib import Path
from typing import Annotated, Any

import typer
from rich.table import Table

from uptake.cli import options as cli

BFLOAT16 = "computed in float32, as ever on a CPU; this one multiplies in bfloat16 too: faster with --dtype bfloat16"


@cli.app.command()
def check(
    method: cli.MethodArgument = None,
    *,
    policy: cli.Policy = None,
    data: cli.DataOption = None,
    reward: cli.RewardOption = None,
    reward_sets: cli.RewardSets = None,
    judge: cli.JudgeOption = None,
    judge_sets: cli.JudgeSets = None,
    models: cli.ModelsOption = None,
    config: cli.ConfigOption = None,
    sets: cli.Sets = None,
    lora: cli.Lora = None,
    columns: cli.ColumnsOption = None,
    limit: cli.LimitOption = None,
    device: cli.FlagDevice = None,
    dtype: cli.FlagDtype = None,
    measure: Annotated[
        bool, typer.Option("--measure", help="Take two real steps, to tell time and peak memory of the run.")
    ] = False,
    memory: Annotated[
        str | None, typer.Option(help="Memory that there is, as 4GB: settings that fit are named. Default: 8GB.")
    ] = None,
) -> None:
    """Look before you start: rendered samples with the trained part in color, the batch, the cost, the first loss.

    Example: `uptake check dpo --policy ./my-model --data pairs.jsonl`
    """
    from rich.text import Text

    from uptake.models.products import has_bfloat16_units
    from uptake.tasks.check import check as run_check
    from uptake.tasks.memory_need import memory_size
    from uptake.tasks.train import build_world

    size = None if memory is None else memory_size(memory)
    flags = {"policy": policy, "data": data, "columns": cli.columns_of(columns) or None, "lora": lora, "limit": limit}
    flags |= {"device": device, "dtype": dtype}
    options = {"reward": cli.choice(reward, reward_sets, "reward"), "judge": cli.choice(judge, judge_sets, "judge")}
    recipe, run = cli.prepared(method, config, models, sets, options, **flags)
    world = build_world(recipe, run, Path("."))
    found = run_check(recipe, world, measure=measure, memory=size)
    _print_samples(found.samples)
    table = Table(show_header=False)
    for name, value in found.facts:
        table.add_row(name, value)
    cli.out.print(table)
    if run.dtype == "auto" and world.policy.device.type == "cpu" and has_bfloat16_units():
        cli.say(BFLOAT16)
    for line in found.cautions:
        cli.out.print(Text("caution: ", style="bold yellow"), Text(line), sep="", soft_wrap=True)
    ready = "[bold yellow]ready, but read the cautions[/]" if found.cautions else "[bold green]ready[/]"
    cli.out.print(f"{ready}: green text is trained on, dim text is only read")


def _print_samples(samples: Any) -> None:
    from rich.text import Text

    for sample in samples:
        text = Text()
        for piece in sample:
            text.append(piece.text, style="bold green" if piece.trained else "dim")
            text.append("\n" if piece.trained else "")
        cli.out.print(text, "\n")
