"""`uptake mine`."""

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.table import Table

from uptake.cli.options import (
    Device,
    Dtype,
    FollowUpModel,
    Limit,
    Options,
    Overwrite,
    Policy,
    Seed,
    Sets,
    app,
    check_output,
    options_of,
    out,
    recipe_of,
    say,
    say_plain,
)
from uptake.errors import InputError

if TYPE_CHECKING:
    from uptake.recipe import Recipe


@app.command()
def mine(
    source: Annotated[
        str, typer.Argument(metavar="PROMPTS", help="Prompts: conversations that wait for the assistant.")
    ],
    *,
    policy: Policy,
    target: Annotated[Path, typer.Option("--out", help="Output: preference pairs, .jsonl[.gz], .csv or .parquet.")],
    judge: Annotated[
        str, typer.Option(help="Who rates the samples: followup, or a reward such as token_reward.")
    ] = "followup",
    judge_sets: Annotated[
        list[str] | None, typer.Option("--judge-set", help="One setting of another judge: model=./token-rewards.")
    ] = None,
    follow_up_model: FollowUpModel = None,
    config: Options = None,
    sets: Sets = None,
    limit: Limit = None,
    seed: Seed = 0,
    device: Device = "auto",
    dtype: Dtype = "auto",
    overwrite: Overwrite = False,
) -> None:
    """Sample a policy and keep its best answer against its worst, as a preference data set.

    Example: `uptake mine prompts.jsonl --policy ./my-model --judge followup --out pairs.jsonl --set n=8`
    """
    from uptake.tasks.mine import mine as run_mine
    from uptake.tasks.train import Given, build_world

    recipe = _judged(recipe_of("follow_up_likelihood", config, sets), judge, judge_sets)
    work = target.with_name(f"{target.name}.work")
    check_output(target, overwrite=overwrite, resumes=work)
    given = Given(policy, source, follow_up_model, seed=seed, limit=limit, device=device, dtype=dtype)
    world = build_world(given, work)
    say_plain(world.chat.plain, policy)
    summary = run_mine(recipe, world, target, overwrite=overwrite)
    _print_dropped(summary.figures)
    say(f"{summary.pairs} pairs -> {summary.path}")


def _judged(recipe: "Recipe", judge: str, sets: list[str] | None) -> "Recipe":
    """The recipe with another judge where one was named."""
    from uptake.judge.pointwise import reward

    if judge != "followup":
        stage, *more = recipe.stages
        return replace(recipe, stages=(replace(stage, judge=reward({judge: options_of(sets)})), *more))
    if sets:
        raise InputError("not used by judge followup", field="--judge-set", allowed="--set, for options of the method")
    return recipe


def _print_dropped(figures: Any) -> None:
    table = Table("mined", "count")
    for name in ("prompts", "samples", "pairs"):
        table.add_row(name, str(figures[name]))
    for reason, count in figures["dropped"].items():
        table.add_row(f"dropped: {reason}", str(count))
    out.print(table)
