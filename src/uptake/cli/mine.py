"""`uptake mine`."""

from pathlib import Path
from typing import Annotated, Any

import typer
from rich.table import Table

from uptake.cli import options as cli


@cli.app.command()
def mine(
    source: Annotated[
        str, typer.Argument(metavar="PROMPTS", help="Prompts: conversations that wait for the assistant.")
    ],
    *,
    policy: cli.Policy = None,
    target: Annotated[Path, typer.Option("--out", help="Output: preference pairs, .jsonl[.gz], .csv or .parquet.")],
    reward: cli.RewardOption = None,
    reward_sets: cli.RewardSets = None,
    models: cli.ModelsOption = None,
    config: cli.ConfigOption = None,
    sets: cli.Sets = None,
    columns: cli.ColumnsOption = None,
    limit: cli.LimitOption = None,
    drop_bad: cli.FlagDropBad = None,
    seed: cli.FlagSeed = None,
    device: cli.FlagDevice = None,
    dtype: cli.FlagDtype = None,
    overwrite: cli.Overwrite = False,
) -> None:
    """Sample a policy and keep its best answer against its worst, as a preference data set.

    Example: `uptake mine prompts.jsonl --policy ./my-model --out pairs.jsonl --set n=8`
    """
    from uptake.tasks.mine import mine as run_mine
    from uptake.tasks.train import build_world

    flags: dict[str, Any] = {"policy": policy, "data": source, "limit": limit, "drop_bad": drop_bad}
    flags |= {"columns": cli.columns_of(columns) or None, "seed": seed, "device": device, "dtype": dtype}
    options = {"reward": cli.choice(reward, reward_sets, "reward")}
    recipe, run = cli.prepared("follow_up_likelihood", config, models, sets, options, **flags)
    work = target.with_name(f"{target.name}.work")
    cli.check_output(target, overwrite=overwrite, resumes=work)
    world = build_world(recipe, run, work, learns=False)
    cli.say_plain(world.chat.plain, run.policy)
    summary = run_mine(recipe, world, target, overwrite=overwrite)
    _print_dropped(summary.figures)
    cli.say(f"{summary.pairs} pairs -> {summary.path}")


def _print_dropped(figures: Any) -> None:
    table = Table("mined", "count")
    for name in ("prompts", "samples", "pairs"):
        table.add_row(name, str(figures[name]))
    for reason, count in figures["dropped"].items():
        table.add_row(f"dropped: {reason}", str(count))
    cli.out.print(table)
