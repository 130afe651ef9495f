"""`uptake judge`."""

from pathlib import Path
from typing import Annotated, Any

import typer
from rich.table import Table

from uptake.cli import options as cli


@cli.app.command()
def judge(
    source: Annotated[
        str, typer.Argument(metavar="PAIRS", help="Preferences, or prompts with two texts in the column responses.")
    ],
    *,
    target: Annotated[Path, typer.Option("--out", help="Output: .jsonl[.gz], .csv or .parquet.")],
    judge: cli.JudgeOption = "model",
    judge_sets: cli.JudgeSets = None,
    models: cli.ModelsOption = None,
    columns: cli.ColumnsOption = None,
    limit: cli.LimitOption = None,
    device: cli.Device = "auto",
    dtype: cli.Dtype = "auto",
    drop_bad: cli.DropBad = False,
    overwrite: cli.Overwrite = False,
) -> None:
    """Let a language model, or any other judge, say which of two responses is better.

    Example: `uptake judge pairs.jsonl --model ./my-model --out labelled.jsonl`
    """
    from uptake.data.resumable import journal_path
    from uptake.judge.registry import annotator_spec
    from uptake.tasks.judge import judge_file, read_pairs

    spec = annotator_spec(cli.choice(judge, judge_sets, "judge"))
    cli.check_output(target, overwrite=overwrite, resumes=journal_path(target))
    pairs = read_pairs(source, target, limit=limit, columns=cli.columns_of(columns), drop_bad=drop_bad)
    resources = cli.resources_of([spec], models, target.parent, f"{target.name}.", device=device, dtype=dtype)
    summary = judge_file(pairs, spec.build(resources), target, overwrite=overwrite, drop_bad=drop_bad)
    _print_stats(summary.stats, summary.accuracy)
    cli.say(f"{summary.rows} rows -> {target}; the second response is preferred in {summary.swapped}")


def _print_stats(stats: Any, accuracy: Any) -> None:
    from uptake.evaluate.annotator import position_bias_warning

    table = Table("verdicts", "share", "95 % interval", "n")
    shares = {
        "invalid": stats.invalid,
        "both orders agree": stats.agreement,
        "unsure: p within 0.05 of 1/2": stats.unsure,
        "longer response preferred": stats.longer_wins,
        "as chosen in the file": accuracy and accuracy.plain,
        "the longer is as chosen": accuracy and accuracy.longer_wins,
    }
    for name, share in shares.items():
        if share is not None:
            table.add_row(name, f"{share.rate:.1%}", f"{share.low:.1%} to {share.high:.1%}", str(share.n))
    cli.out.print(table)
    for reason, count in stats.reasons.items():
        cli.say(f"invalid: {reason} ({count})")
    if warning := position_bias_warning(stats):
        cli.say(warning)
    if stats.position_bias is not None:
        cli.say(f"position bias {stats.position_bias:+.3f}, mean gap between orders {stats.order_gap:.3f}")
    cli.say(f"{stats.tokens} tokens" + (f", cost {stats.cost:.4f}" if stats.cost else ""))
