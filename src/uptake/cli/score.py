"""`uptake score`."""

from pathlib import Path
from typing import Annotated, Any

import typer
from rich.table import Table

from uptake.cli import options as cli


@cli.app.command()
def score(
    source: Annotated[
        str, typer.Argument(metavar="IN", help="Conversations that end with a response, or preferences.")
    ],
    *,
    target: Annotated[Path, typer.Option("--out", help="Output: .jsonl[.gz], .csv or .parquet.")],
    reward: cli.RewardOption = "follow_up",
    reward_sets: cli.RewardSets = None,
    models: cli.ModelsOption = None,
    followups: cli.FollowupsOption = None,
    logps: Annotated[bool, typer.Option("--logps", help="Write the log-probability of every follow-up too.")] = False,
    tokens: Annotated[
        bool, typer.Option("--tokens", help="Write the reward of every token too, as spans of the response.")
    ] = False,
    columns: cli.ColumnsOption = None,
    limit: cli.LimitOption = None,
    device: cli.Device = "auto",
    dtype: cli.Dtype = "auto",
    drop_bad: cli.DropBad = False,
    overwrite: cli.Overwrite = False,
) -> None:
    """Rate responses by what the user would say next, or by another reward.

    Example: `uptake score chats.jsonl --model ./my-model --out scored.jsonl`
    """
    from uptake.data.resumable import journal_path
    from uptake.judge.registry import reward_spec
    from uptake.tasks.score import check_details, read_responses, score_file

    spec = reward_spec(cli.with_followups(cli.choice(reward, reward_sets, "reward"), followups))
    check_details(spec, logps, tokens)
    cli.check_output(target, overwrite=overwrite, resumes=journal_path(target))
    rows = read_responses(source, target, limit=limit, columns=cli.columns_of(columns), drop_bad=drop_bad)
    resources = cli.resources_of([spec], models, target.parent, f"{target.name}.", device=device, dtype=dtype)
    options: dict[str, Any] = {"overwrite": overwrite, "drop_bad": drop_bad}
    summary = score_file(rows, spec.build(resources), target, logps=logps, tokens=tokens, **options)
    table = Table("reward", "mean")
    for name, value in {"all": summary.mean_reward, **summary.by_part}.items():
        table.add_row(name, f"{value:+.4f}")
    cli.out.print(table)
    cli.say(f"{summary.responses} responses in {summary.rows} rows -> {target}")
    if summary.shortened:
        cli.say(f"{summary.shortened} conversations lost their oldest turns to the model's window")
    if summary.accuracy is not None:
        _print_accuracy(summary.accuracy)


def _print_accuracy(accuracy: Any) -> None:
    table = Table("pairs ranked as preferred", "share", "95 % interval", "n")
    rows = {"all": accuracy.plain, "of like length": accuracy.length_matched, "by length alone": accuracy.longer_wins}
    for name, share in rows.items():
        if share is not None:
            table.add_row(name, f"{share.rate:.1%}", f"{share.low:.1%} to {share.high:.1%}", str(share.n))
    cli.out.print(table)
