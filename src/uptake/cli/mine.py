"""`uptake mine`."""

from pathlib import Path
from typing import Annotated, Any

import typer
from rich.table import Table

from uptake.cli.options import (
    ConfigOption,
    FlagDevice,
    FlagDtype,
    FlagSeed,
    LimitOption,
    ModelsOption,
    Overwrite,
    Policy,
    RewardOption,
    RewardSets,
    Sets,
    app,
    check_output,
    choice,
    out,
    prepared,
    say,
    say_plain,
)


@app.command()
def mine(
    source: Annotated[
        str, typer.Argument(metavar="PROMPTS", help="Prompts: conversations that wait for the assistant.")
    ],
    *,
    policy: Policy = None,
    target: Annotated[Path, typer.Option("--out", help="Output: preference pairs, .jsonl[.gz], .csv or .parquet.")],
    reward: RewardOption = None,
    reward_sets: RewardSets = None,
    models: ModelsOption = None,
    config: ConfigOption = None,
    sets: Sets = None,
    limit: LimitOption = None,
    seed: FlagSeed = None,
    device: FlagDevice = None,
    dtype: FlagDtype = None,
    overwrite: Overwrite = False,
) -> None:
    """Sample a policy and keep its best answer against its worst, as a preference data set.

    Example: `uptake mine prompts.jsonl --policy ./my-model --out pairs.jsonl --set n=8`
    """
    from uptake.tasks.mine import mine as run_mine
    from uptake.tasks.train import build_world

    flags = {"policy": policy, "data": source, "limit": limit, "seed": seed, "device": device, "dtype": dtype}
    options = {"reward": choice(reward, reward_sets, "reward")}
    recipe, run = prepared("follow_up_likelihood", config, models, sets, options, **flags)
    work = target.with_name(f"{target.name}.work")
    check_output(target, overwrite=overwrite, resumes=work)
    world = build_world(recipe, run, work, learns=False)
    say_plain(world.chat.plain, run.policy)
    summary = run_mine(recipe, world, target, overwrite=overwrite)
    _print_dropped(summary.figures)
    say(f"{summary.pairs} pairs -> {summary.path}")


def _print_dropped(figures: Any) -> None:
    table = Table("mined", "count")
    for name in ("prompts", "samples", "pairs"):
        table.add_row(name, str(figures[name]))
    for reason, count in figures["dropped"].items():
        table.add_row(f"dropped: {reason}", str(count))
    out.print(table)
