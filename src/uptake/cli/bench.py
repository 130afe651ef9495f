"""`uptake bench`."""

from pathlib import Path
from typing import Annotated, Any

import typer
from rich.table import Table

from uptake.cli import options as cli
from uptake.errors import InputError

Names = Annotated[
    list[str] | None,
    typer.Argument(metavar="[BENCHMARK]...", help="Benchmarks by name. Default: all that are at hand."),
]
RewardNames = Annotated[
    list[str] | None,
    typer.Option("--reward", help="A reward that takes part, once for each. Default: follow_up, direct, length."),
]
JudgeNames = Annotated[
    list[str] | None, typer.Option("--judge", help="A judge that takes part in comparisons, once for each: model, ...")
]
BenchFolder = Annotated[Path | None, typer.Option("--out", help="Folder for the figures, the page and the scores.")]
ScoreFile = Annotated[Path | None, typer.Option(help="File of scores. Default: scores.sqlite in the folder.")]
Items = Annotated[int | None, typer.Option("--limit", help="Items of each benchmark, drawn by the seed. Default: all.")]
Listing = Annotated[bool, typer.Option("--list", help="List benchmarks, rewards and judges.")]

DEFAULT = ("follow_up", "direct", "length")


@cli.app.command()
def bench(
    names: Names = None,
    *,
    data: cli.DataFolder = None,
    rewards: RewardNames = None,
    judges: JudgeNames = None,
    models: cli.ModelsOption = None,
    folder: BenchFolder = None,
    followups: cli.FollowupsOption = None,
    cache: ScoreFile = None,
    limit: Items = None,
    seed: cli.SeedOption = 0,
    device: cli.Device = "auto",
    dtype: cli.Dtype = "auto",
    listing: Listing = False,
) -> None:
    """Compare rewards and annotators with human judgements.

    Example: `uptake bench llmbar fed --data ./data --model ./my-model --out bench`
    """
    if listing:
        _print_lists(data)
        return
    from uptake.data.lock import check_unlocked
    from uptake.data.write import may_write
    from uptake.datasets import EVALUATED, open_benchmarks
    from uptake.datasets import names as datasets
    from uptake.tasks.bench import bench as compare
    from uptake.tasks.bench import check_limit

    if folder is None:
        raise InputError("no folder for the figures", field="--out", allowed="a folder, or --list")
    check_limit(limit)
    may_write(folder / "results.json", overwrite=True)
    check_unlocked(folder, inside=True)
    specs = _specs(rewards or ([] if judges else list(DEFAULT)), judges or [], followups)
    wanted = dict.fromkeys(names or datasets(*EVALUATED))
    chosen = [each for name in wanted for each in open_benchmarks(name, data)]
    resources = cli.resources_of(specs.values(), models, folder, device=device, dtype=dtype)
    scorers = {name: spec.build(resources) for name, spec in specs.items()}
    _print_results(*compare(scorers, chosen, folder, cache=cache, limit=limit, seed=seed), folder)


def _specs(rewards: list[str], judges: list[str], followups: Path | None) -> dict[str, Any]:
    """The specs of rewards and judges by what was written; a follow-up set is for all rewards that ask follow-ups."""
    from uptake.judge.registry import annotator_spec, reward_spec

    asking = [name for name in rewards if "logps" in reward_spec(cli.choice(name, None, "reward")).offers]
    if followups is not None and not asking:
        raise InputError("not used by these rewards", field="--followups", allowed="with a reward by follow-ups")
    specs: dict[str, Any] = {}
    for name in rewards:
        specs[name] = reward_spec(
            cli.with_followups(cli.choice(name, None, "reward"), followups if name in asking else None)
        )
    for name in judges:
        specs[f"judge {name}" if name in specs else name] = annotator_spec(cli.choice(name, None, "judge"))
    return specs


def _print_lists(data: Path | None) -> None:
    from uptake.datasets import EVALUATED, first_line, names, origin
    from uptake.judge.registry import ANNOTATORS, REWARDS

    table = Table("benchmark", "from", "what it holds")
    for name in names(*EVALUATED):
        table.add_row(name, origin(name, data), first_line(name))
    cli.out.print(table)
    for title, kinds in (("reward", REWARDS), ("judge", ANNOTATORS)):
        table = Table(title, "what it is")
        for name, kind in kinds.items():
            table.add_row(name, kind.about)
        cli.out.print(table)


def _print_results(results: Any, timing: Any, folder: Path) -> None:
    from uptake.report.bench import notes
    from uptake.report.bench_tables import spelled, tables

    # With more of them, intervals have no room here.
    show = spelled if len(results.scorers) <= 3 else lambda entry: entry.text if entry else ""
    for each in tables(results):
        table = Table(each.title.lower(), *each.columns)
        for row in each.rows:
            table.add_row(row.label, *map(show, row.entries))
        cli.out.print(table)
    for note in notes(results):
        cli.say(note)
    cli.say(f"{timing.seconds:.1f} s, {timing.share:.0%} of it in scoring; figures and page.html -> {folder}")
