"""`uptake score`."""

from pathlib import Path
from typing import Annotated, Any

import typer
from rich.table import Table

from uptake.cli.options import (
    Device,
    DropBad,
    Dtype,
    Followups,
    Limit,
    Overwrite,
    app,
    check_output,
    out,
    say,
    say_plain,
)
from uptake.errors import InputError

Model = Annotated[
    str | None, typer.Option(help="The model of the reward: Transformers folder, PEFT folder or Hub name.")
]

# How follow-ups make a reward; what a reward by name has of its own stays, unless something else is asked for.
USUAL = {"reduction": "mean", "polarity": "both", "standardize": "none", "mode": "log_likelihood"}


@app.command()
def score(
    source: Annotated[
        str, typer.Argument(metavar="IN", help="Conversations that end with a response, or preferences.")
    ],
    *,
    target: Annotated[Path, typer.Option("--out", help="Output: .jsonl[.gz], .csv or .parquet.")],
    reward: Annotated[
        str, typer.Option(help="Who rates: a reward of `uptake bench --list`, e.g. token_reward:./my-rewards.")
    ] = "follow_up",
    model: Model = None,
    followups: Followups = None,
    reduction: Annotated[str, typer.Option(help="mean or sum over a follow-up's tokens.")] = "mean",
    polarity: Annotated[str, typer.Option(help="both, negative_only or positive_only.")] = "both",
    standardize: Annotated[str, typer.Option(help="none or within_prompt.")] = "none",
    mode: Annotated[
        str, typer.Option(help="log_likelihood, or legacy_released: the authors' released code.")
    ] = "log_likelihood",
    logps: Annotated[bool, typer.Option("--logps", help="Write the log-probability of every follow-up too.")] = False,
    tokens: Annotated[
        bool, typer.Option("--tokens", help="Write the reward of every token too, as spans of the response.")
    ] = False,
    limit: Limit = None,
    device: Device = "auto",
    dtype: Dtype = "auto",
    drop_bad: DropBad = False,
    overwrite: Overwrite = False,
) -> None:
    """Rate responses by what the user would say next, or by another reward.

    Example: `uptake score chats.jsonl --model ./my-model --out scored.jsonl`
    """
    from uptake.data.resumable import journal_path
    from uptake.tasks.score import read_responses, score_file

    check_output(target, overwrite=overwrite, resumes=journal_path(target))
    rows = read_responses(source, target, limit=limit, drop_bad=drop_bad)
    given = {"reduction": reduction, "polarity": polarity, "standardize": standardize, "mode": mode}
    settings = {name: value for name, value in given.items() if value != USUAL[name]}
    by = _reward(reward, model=model, followups=followups, device=device, dtype=dtype, settings=settings)
    summary = score_file(rows, by, target, overwrite=overwrite, logps=logps, tokens=tokens, drop_bad=drop_bad)
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


def _reward(spec: str, model: str | None, **options: Any) -> Any:
    from uptake.judge.scorers import CONTESTANTS, contestant

    judges = [name for name in CONTESTANTS if name.startswith("judge")]
    if spec.partition(":")[0] in judges:
        rewards = ", ".join(name for name in CONTESTANTS if name not in judges)
        raise InputError(f"{spec!r} compares two responses", field="--reward", allowed=rewards)
    found: Any = contestant(spec, model=model, **options)
    if hasattr(found, "chat"):
        say_plain(found.chat.plain, model or spec)
    return found


def _print_accuracy(accuracy: Any) -> None:
    table = Table("pairs ranked as preferred", "share", "95 % interval", "n")
    rows = {"all": accuracy.plain, "of like length": accuracy.length_matched, "by length alone": accuracy.longer_wins}
    for name, share in rows.items():
        if share is not None:
            table.add_row(name, f"{share.rate:.1%}", f"{share.low:.1%} to {share.high:.1%}", str(share.n))
    out.print(table)
