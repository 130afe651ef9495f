"""`uptake score`."""

from pathlib import Path
from typing import Annotated, Any

import typer
from rich.table import Table

from uptake.cli.options import Device, DropBad, Dtype, Followups, Limit, Model, Overwrite, app, out, say, say_plain


@app.command()
def score(
    source: Annotated[
        str, typer.Argument(metavar="IN", help="Conversations that end with a response, or preferences.")
    ],
    *,
    model: Model,
    target: Annotated[Path, typer.Option("--out", help="Output: .jsonl[.gz], .csv or .parquet.")],
    followups: Followups = None,
    reduction: Annotated[str, typer.Option(help="mean or sum over a follow-up's tokens.")] = "mean",
    polarity: Annotated[str, typer.Option(help="both, negative_only or positive_only.")] = "both",
    standardize: Annotated[str, typer.Option(help="none or within_prompt.")] = "none",
    mode: Annotated[
        str, typer.Option(help="log_likelihood, or legacy_released: the authors' released code.")
    ] = "log_likelihood",
    logps: Annotated[bool, typer.Option("--logps", help="Write the log-probability of every follow-up too.")] = False,
    limit: Limit = None,
    device: Device = "auto",
    dtype: Dtype = "auto",
    drop_bad: DropBad = False,
    overwrite: Overwrite = False,
) -> None:
    """Rate responses by what the user would say next.

    Example: `uptake score chats.jsonl --model ./my-model --out scored.jsonl`
    """
    from uptake.feedback import FollowUpReward
    from uptake.tasks.score import score_file

    reward = FollowUpReward.from_pretrained(
        model,
        followups,
        reduction=reduction,
        polarity=polarity,
        standardize=standardize,
        mode=mode,
        device=device,
        dtype=dtype,
    )
    say_plain(reward.chat.plain, model)
    summary = score_file(source, reward, target, overwrite=overwrite, limit=limit, logps=logps, drop_bad=drop_bad)
    table = Table("reward", "mean")
    for name, value in {"all": summary.mean_reward, **summary.by_category}.items():
        table.add_row(name, f"{value:+.4f}")
    out.print(table)
    say(f"{summary.responses} responses in {summary.rows} rows -> {target}")
    if summary.dropped:
        say(f"{summary.dropped} rows were left out: broken, or longer than the model's window")
    if summary.shortened:
        say(f"{summary.shortened} conversations lost their oldest turns to the model's window")
    if summary.accuracy is not None:
        _print_accuracy(summary.accuracy)


def _print_accuracy(accuracy: Any) -> None:
    table = Table("pairs ranked as preferred", "share", "95 % interval", "n")
    rows = {"all": accuracy.plain, "of like length": accuracy.length_matched, "by length alone": accuracy.longer_wins}
    for name, share in rows.items():
        if share is not None:
            table.add_row(name, f"{share.rate:.1%}", f"{share.low:.1%} to {share.high:.1%}", str(share.n))
    out.print(table)
