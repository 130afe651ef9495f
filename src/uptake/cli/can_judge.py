"""`uptake can-judge`."""

from pathlib import Path
from typing import Annotated, Any

import typer
from rich.table import Table

from uptake.cli import options as cli

JudgedRows = Annotated[
    str,
    typer.Argument(metavar="ROWS", help="Your pairs, rated responses or conversations."),
]


@cli.app.command("can-judge")
def can_judge(
    source: JudgedRows,
    *,
    model: Annotated[str, typer.Option(help="The model in question: Transformers folder, PEFT folder or Hub name.")],
    ratings: cli.Ratings = None,
    followups: Annotated[
        Path, typer.Option("--followups", "--follow-ups", help="Follow-up set: YAML, JSON, short-en or default-en.")
    ] = Path("short-en"),
    instructions: Annotated[
        str, typer.Option(help="Of the judge of pairs: a preset's name, or a text file.")
    ] = "helpfulness",
    columns: cli.ColumnsOption = None,
    limit: Annotated[int, typer.Option(min=3, help="Rows that are drawn.")] = 60,
    seed: cli.SeedOption = 0,
    device: cli.Device = "auto",
    dtype: cli.Dtype = "auto",
) -> None:
    """Can this model judge my data? Every way it has, beside length, in about two minutes.

    Example: `uptake can-judge pairs.jsonl --model ./my-model`
    """
    from uptake.annotators.question import Instructions
    from uptake.data import ChatFormat, read
    from uptake.follow_up.set import FollowUpSet
    from uptake.models import load
    from uptake.tasks.can_judge import can_judge as look

    rows = read(source, columns=cli.columns_of(columns), skipped=[])
    chosen = FollowUpSet.load(followups)
    Instructions.load(instructions)
    model = cli.only_model(model, "follow_up")
    lm = load(model, device=device, dtype=dtype)
    cli.say_plain(ChatFormat.of(lm).plain, model)
    found = look(rows, lm, ratings=ratings, followups=chosen, instructions=instructions, limit=limit, seed=seed)
    _print_ways(found)
    cli.say(found.sentence)


def _print_ways(found: Any) -> None:
    from uptake.evaluate.annotator import position_bias_warning

    figure = {"pairs": "pairs in people's order", "ratings": "rank correlation with ratings"}
    table = Table(
        f"{found.rows} rows", figure.get(found.truth, f"with {found.truth}"), "95 % interval", "judged", "orders agree"
    )
    for way in found.ways:
        agreed = way.verdicts and way.verdicts.agreement
        orders = f"{agreed.rate:.0%} of {agreed.n}" if agreed else ""
        table.add_row(way.name, *_figure(found.truth, way.estimate), f"{way.judged} of {found.rows}", orders)
    cli.out.print(table)
    for way in found.ways:
        for reason, count in way.reasons.items():
            cli.say(f"{way.name}: not judged: {reason} ({count})")
        if way.verdicts and (warning := position_bias_warning(way.verdicts)):
            cli.say(f"{way.name}: {warning}")


def _figure(truth: str, estimate: Any) -> tuple[str, str]:
    if estimate.value is None:
        return "undefined", estimate.reason
    show = "{:.1%}".format if truth == "pairs" else "{:+.2f}".format
    return show(estimate.value), f"{show(estimate.low)} to {show(estimate.high)}" if estimate.low is not None else ""
