"""`uptake mine-logs`."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.table import Table

from uptake.cli import options as cli
from uptake.errors import InputError

if TYPE_CHECKING:
    from uptake.follow_up.reward import FollowUpReward

RatedBy = Annotated[
    str,
    typer.Option(
        help="actual_follow_up: how the user's next words read; follow_up: what users would say; "
        "rating_regression: how the like was rated."
    ),
]


@cli.app.command("mine-logs")
def mine_logs(
    source: cli.LogArgument,
    *,
    target: Annotated[Path, typer.Option("--out", help="Output: .jsonl[.gz], .csv or .parquet.")],
    model: Annotated[
        str | None,
        typer.Option(help="The model that reads what users said; needless by rating_regression. Folder or Hub name."),
    ] = None,
    followups: cli.FollowupsOption = None,
    format: cli.FormatOption = None,
    keep: Annotated[
        str, typer.Option(help="rated: good and bad responses; scored: all of them; pairs: best against worst answers.")
    ] = "rated",
    by: RatedBy = "actual_follow_up",
    low: Annotated[float, typer.Option(help="From here down a response is bad.")] = 0.25,
    high: Annotated[float, typer.Option(help="From here up a response is good.")] = 0.75,
    threshold_unit: Annotated[str, typer.Option(help="quantile or score: what --low and --high are.")] = "quantile",
    reduction: Annotated[str, typer.Option(help="mean or sum over the tokens of what was said.")] = "mean",
    length_residual: Annotated[
        bool, typer.Option("--length-residual", help="Go by what length does not explain of a reward.")
    ] = False,
    ratings: cli.Ratings = None,
    redact: cli.Remove = False,
    any_language: cli.AnyLanguage = False,
    columns: cli.ColumnsOption = None,
    limit: cli.LimitOption = None,
    device: cli.Device = "auto",
    dtype: cli.Dtype = "auto",
    drop_bad: cli.DropBad = False,
    overwrite: cli.Overwrite = False,
) -> None:
    """Mine real conversations: preference data from what users said next.

    Example: `uptake mine-logs chats.jsonl --model ./my-model --out rated.jsonl`
    """
    from uptake.data.chat_log import read_log
    from uptake.data.redact import Redact
    from uptake.data.resumable import journal_path
    from uptake.signal import BestWorst
    from uptake.signal.thresholds import Thresholds
    from uptake.tasks.mine_logs import MineLogs
    from uptake.tasks.mine_logs import mine_logs as run

    cli.check_format(format)
    thresholds = Thresholds(low, high, threshold_unit, length_residual=length_residual)  # type: ignore[arg-type]
    how = MineLogs(keep, by, thresholds, BestWorst(length_residual=length_residual))  # type: ignore[arg-type]
    remove = Redact.ready() if redact else None
    model = None if model is None else cli.only_model(model, "follow_up")
    cli.check_output(target, overwrite=overwrite, resumes=journal_path(target))
    log = read_log(
        source, ratings=ratings, redact=remove, limit=limit, columns=cli.columns_of(columns), drop_bad=drop_bad
    )
    reward = _reward(model, followups, reduction=reduction, format=format, device=device, dtype=dtype)
    summary = run(log, reward, target, how=how, any_language=any_language, overwrite=overwrite)
    _print_counts(summary)
    _print_correlations(summary)
    for line in (*_unread(summary)[:3], *(cli.one_sided(reward.followups) if reward else ())):
        cli.say(line)
    good = f", {summary.good} of them good" if keep == "rated" else ""
    cli.say(f"{summary.written} rows{good} -> {target}")


def _reward(model: str | None, followups: Path | None, **options: Any) -> "FollowUpReward | None":
    if model is None and followups is not None:
        raise InputError("not used without a model", field="--followups", allowed="with --model")
    if model is None:
        return None
    from uptake.follow_up.reward import FollowUpReward

    reward = FollowUpReward.from_pretrained(model, followups, prior="prompt_only", **options)
    cli.say_plain(reward.chat.plain, model)
    return reward


def _unread(summary: Any) -> list[str]:
    counts = summary.reasons.items()
    return [f"{count} could not be read: {reason}; the first: {summary.details[reason]}" for reason, count in counts]


def _print_counts(summary: Any) -> None:
    table = Table("log", "count")
    table.add_row("conversations", str(summary.conversations))
    table.add_row("responses that the user answers", str(summary.exchanges))
    table.add_row("said before after the same response: merged", str(summary.repeated))
    for reason, count in summary.dropped.items():
        table.add_row(f"dropped: {reason}", str(count))
    for kind, count in summary.redacted.items():
        table.add_row(f"redacted: {kind}", str(count))
    cli.out.print(table)


def _print_correlations(summary: Any) -> None:
    table = Table("rank correlation", "rho", "95 % interval", "n")
    for name, each in summary.correlations.items():
        table.add_row(name, _value(each), _interval(each), str(each.n))
    cli.out.print(table)


def _value(of: Any) -> str:
    return f"undefined: {of.reason}" if of.value is None else f"{of.value:+.3f}"


def _interval(of: Any) -> str:
    return "" if of.low is None else f"{of.low:+.3f} to {of.high:+.3f}"
