"""`uptake calibrate`."""

from pathlib import Path
from typing import Annotated, Any

import typer
from rich.table import Table

from uptake.cli import options as cli

TrustedPairs = Annotated[
    str, typer.Argument(metavar="PAIRS", help="Preferences you trust: chosen and rejected responses.")
]
SetFile = Annotated[Path, typer.Option("--out", help="The calibrated set: .yaml, .yml or .json.")]
WeightedBy = Annotated[str, typer.Option(help="followup or category: what gets a weight of its own.")]
Folds = Annotated[int, typer.Option(help="Parts of the prompts, each held out once.")]
AccuracyShare = Annotated[float, typer.Option(help="Share of the accuracy that pruning has to keep.")]
Size = Annotated[int | None, typer.Option(help="Or how many follow-ups to leave.")]
LabelPrecision = Annotated[float, typer.Option(help="Share of labels by threshold that has to be right.")]


@cli.app.command()
def calibrate(
    source: TrustedPairs,
    *,
    model: Annotated[str, typer.Option(help="The follow-up model: Transformers folder, PEFT folder or Hub name.")],
    target: SetFile,
    followups: cli.FollowupsOption = None,
    format: cli.FormatOption = None,
    weighting: WeightedBy = "followup",
    folds: Folds = 5,
    keep: AccuracyShare = 0.99,
    size: Size = None,
    precision: LabelPrecision = 0.9,
    columns: cli.ColumnsOption = None,
    limit: cli.LimitOption = None,
    seed: cli.SeedOption = 0,
    device: cli.Device = "auto",
    dtype: cli.Dtype = "auto",
    drop_bad: cli.DropBad = False,
    overwrite: cli.Overwrite = False,
) -> None:
    """Fit a follow-up set to preferences: weights, fewer follow-ups, probabilities, thresholds.

    Example: `uptake calibrate pairs.jsonl --model ./my-model --out calibrated.yaml`
    """
    from uptake.data import ChatFormat
    from uptake.data.convert import preference
    from uptake.data.read import read_each
    from uptake.follow_up.calibration import Calibrate
    from uptake.follow_up.set import FORMATS, FollowUpSet
    from uptake.models import load
    from uptake.tasks.calibrate import calibrate_file

    cli.check_format(format)
    how = Calibrate(weighting, folds, keep, size, precision, seed)  # type: ignore[arg-type]
    model = cli.only_model(model, "follow_up")
    cli.check_output(target, formats=FORMATS, overwrite=overwrite)
    pairs = read_each(preference, source, limit=limit, columns=cli.columns_of(columns), drop_bad=drop_bad)
    chosen = FollowUpSet.load(followups)
    lm = load(model, device=device, dtype=dtype)
    cli.say_plain(ChatFormat.of(lm).plain, model)
    report = calibrate_file(pairs, lm, chosen, target, calibrate=how, format=format, overwrite=overwrite)  # type: ignore[arg-type]
    _print_items(report.items)
    _print_accuracy(report)
    _print_cost(*report.cost)
    _print_reliability(report)
    _print_thresholds(report)
    cli.say(f"{report.cost[1].count} follow-ups -> {target}")


def _print_items(items: Any) -> None:
    from uptake.evaluate.item_analysis import by_effect

    table = Table("follow-up", "category", "", "right", "95 % interval", "effect", "category", "all", "even", "")
    for item in by_effect(items):
        side = "+" if item.positive else "-"
        flag = "dead" if item.dead else "backwards" if item.accuracy.rate < 0.5 else ""
        numbers = (_signed(each) for each in (item.effect, item.with_category, item.with_total))
        table.add_row(item.text, item.category, side, *_share(item.accuracy), *numbers, f"{item.even:.0%}", flag)
    cli.out.print(table)


def _signed(number: float | None) -> str:
    return "" if number is None else f"{number:+.2f}"


def _share(share: Any) -> tuple[str, str]:
    return f"{share.rate:.1%}", f"{share.low:.1%} to {share.high:.1%}"


def _print_accuracy(report: Any) -> None:
    table = Table("held-out pairs in order", "follow-ups", "share", "95 % interval", "n")
    before, after = report.cost
    sizes = {"as given": before.count, "weighted": max(report.by_size), "pruned": after.count}
    rows = {name: (str(sizes[name]), each.plain) for name, each in report.accuracy.items()}
    rows["by length alone"] = "", report.accuracy["as given"].longer_wins
    for name, (size, share) in rows.items():
        table.add_row(name, size, *_share(share), str(share.n))
    cli.out.print(table)
    if report.accuracy["pruned"].plain.rate < report.accuracy["as given"].plain.rate:
        cli.out.print("the set as given does better on these pairs; more of them, or --weighting category, may help")


def _print_cost(before: Any, after: Any) -> None:
    cli.say(f"tokens a response: {before.tokens:.0f} before, {after.tokens:.0f} after")
    cli.say(f"seconds a response: {before.seconds:.4f} before, {after.seconds:.4f} after")


def _print_reliability(report: Any) -> None:
    table = Table("p of the preferred", "right", "95 % interval", "n")
    for each in report.after.bins:
        right = each.right
        table.add_row(f"{each.p:.2f}", f"{right.rate:.2f}", f"{right.low:.2f} to {right.high:.2f}", str(right.n))
    cli.out.print(table)
    errors = f"calibration error {report.before.error:.3f} before, {report.after.error:.3f} after"
    cli.say(f"temperature {report.calibration.temperature:.4g}; {errors}")


def _print_thresholds(report: Any) -> None:
    calibration = report.calibration
    for name, cut, labels in (
        ("good, from the threshold up", calibration.high, report.good),
        ("bad, from the threshold down", calibration.low, report.bad),
    ):
        if labels.right is None:
            cli.say(f"{name}: none at a precision of {calibration.precision:.0%}")
        else:
            cli.say(f"{name} {cut:+.4g}: {labels.labeled:.1%} of responses, {labels.right.rate:.1%} of them rightly")
