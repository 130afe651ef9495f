"""`uptake discover`."""

from pathlib import Path
from typing import Annotated, Any

import typer
from rich.table import Table

from uptake.cli import options as cli


@cli.app.command()
def discover(
    source: cli.LogArgument,
    *,
    target: Annotated[Path, typer.Option("--out", help="The proposed set: .yaml or .yml.")],
    ratings: cli.Ratings = None,
    model: Annotated[
        str | None, typer.Option(help="Without ratings: the model that reads what users said. Folder or Hub name.")
    ] = None,
    followups: cli.FollowupsOption = None,
    format: cli.FormatOption = None,
    clusters: Annotated[int, typer.Option(help="Groups of like sentences, at most.")] = 100,
    support: Annotated[int, typer.Option(help="Conversations a group has to come up in.")] = 5,
    words: Annotated[int, typer.Option(help="Longest sentence, in words.")] = 10,
    each: Annotated[int, typer.Option(help="Sentences that are proposed of a group.")] = 1,
    most: Annotated[int, typer.Option(help="Sentences that are proposed a side.")] = 20,
    wrong: Annotated[float, typer.Option(help="Share of groups that may be on a side by chance.")] = 0.1,
    language: Annotated[str | None, typer.Option(help="Language code of the set. Default: found in the log.")] = None,
    redact: cli.Remove = False,
    columns: cli.ColumnsOption = None,
    limit: cli.LimitOption = None,
    seed: cli.SeedOption = 0,
    device: cli.Device = "auto",
    dtype: cli.Dtype = "auto",
    drop_bad: cli.DropBad = False,
    overwrite: cli.Overwrite = False,
) -> None:
    """Propose a follow-up set from what users really say to good and to bad answers.

    Example: `uptake discover chats.jsonl --ratings thumbs --out ours.yaml`
    """
    from uptake.data.chat_log import read_log
    from uptake.data.redact import Redact
    from uptake.data.resumable import journal_path
    from uptake.follow_up.discovery import Discover
    from uptake.tasks.discover import FORMATS
    from uptake.tasks.discover import discover as run

    cli.check_format(format)
    how = Discover(clusters, support, words, each, most, wrong, seed=seed)
    remove = Redact.ready() if redact else None
    cli.check_output(target, formats=FORMATS, overwrite=overwrite, resumes=journal_path(target))
    log = read_log(
        source, ratings=ratings, redact=remove, limit=limit, columns=cli.columns_of(columns), drop_bad=drop_bad
    )
    reward: Any = None
    if ratings is None and model is not None:
        from uptake.follow_up.reward import FollowUpReward

        options: Any = {"format": format, "device": device, "dtype": dtype}
        reward = FollowUpReward.from_pretrained(cli.only_model(model, "follow_up"), followups, **options)
        cli.say_plain(reward.chat.plain, reward.lm.name)
    summary = run(log, target, reward=reward, how=how, language=language, overwrite=overwrite)
    _print_found(summary.found)
    _print_left_out(summary)
    for line in cli.one_sided(summary.followups):
        cli.say(line)
    found = summary.found
    cli.say(f"{len(found.positive)} positive and {len(found.negative)} negative follow-ups -> {target}")


def _print_found(found: Any) -> None:
    table = Table("follow-up", "", "turns", "conversations", "above others", "p")
    for sign, proposals in (("+", found.positive), ("-", found.negative)):
        for each in proposals:
            table.add_row(each.text, sign, *_evidence(each))
    cli.out.print(table)


def _evidence(each: Any) -> tuple[str, ...]:
    return str(each.turns), str(each.conversations), f"{each.above:+.3f}", f"{each.p:.1g}"


def _print_left_out(summary: Any) -> None:
    table = Table(f"of {summary.turns} turns, by {summary.signal}", "count")
    for reason, count in summary.dropped.items():
        table.add_row(f"left out: {reason}", str(count))
    cli.out.print(table)
