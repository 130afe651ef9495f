"""`uptake bench`."""

from pathlib import Path
from typing import Annotated, Any

import typer
from rich.table import Table

from uptake.cli.options import Device, Dtype, Followups, Seed, app, out, say, say_plain
from uptake.errors import InputError

Names = Annotated[
    list[str] | None,
    typer.Argument(metavar="[BENCHMARK]...", help="Benchmarks by name. Default: all that are at hand."),
]
Data = Annotated[Path | None, typer.Option(help="Folder with a folder for each data set. Others come from the Hub.")]
Model = Annotated[str | None, typer.Option(help="The model that contestants use: folder or Hub name.")]
Contestants = Annotated[
    list[str] | None,
    typer.Option("--contestant", help="Who takes part, once for each. Default: follow_up, direct, length."),
]
Target = Annotated[Path | None, typer.Option("--out", help="Folder for the figures, the page and the scores.")]
Scores = Annotated[Path | None, typer.Option(help="File of scores. Default: scores.sqlite in the folder.")]
Limit = Annotated[int | None, typer.Option(help="Items of each benchmark, drawn by the seed. Default: all.")]
Listing = Annotated[bool, typer.Option("--list", help="List benchmarks and contestants.")]

DEFAULT = ("follow_up", "direct", "length")


@app.command()
def bench(
    names: Names = None,
    *,
    data: Data = None,
    model: Model = None,
    contestants: Contestants = None,
    folder: Target = None,
    followups: Followups = None,
    cache: Scores = None,
    limit: Limit = None,
    seed: Seed = 0,
    device: Device = "auto",
    dtype: Dtype = "auto",
    listing: Listing = False,
) -> None:
    """Compare rewards and annotators with human judgements.

    Example: `uptake bench llmbar fed --data ./data --model ./my-model --out bench`
    """
    from uptake import benchmarks
    from uptake.data import ChatFormat
    from uptake.data.write import may_write
    from uptake.feedback.contestants import check_contestant, contestant
    from uptake.models import load
    from uptake.tasks.bench import bench as compare
    from uptake.tasks.bench import check_limit

    if listing:
        _print_lists(data)
        return
    if folder is None:
        raise InputError("no folder for the figures", field="--out", allowed="a folder, or --list")
    check_limit(limit)
    may_write(folder / "results.json", overwrite=True)
    specs = list(dict.fromkeys(contestants or DEFAULT))
    for spec in specs:
        check_contestant(spec)
    chosen = [benchmarks.open_benchmark(name, data) for name in dict.fromkeys(names or benchmarks.names())]
    lm = None if model is None else load(model, device=device, dtype=dtype)
    options: dict[str, Any] = {"model": lm, "followups": followups, "device": device, "dtype": dtype}
    people = {spec: contestant(spec, **options) for spec in specs}
    if model is not None and lm is not None:
        say_plain(ChatFormat.of(lm).plain, model)
    _print_board(*compare(people, chosen, folder, cache=cache, limit=limit, seed=seed), folder)


def _print_lists(data: Path | None) -> None:
    from uptake import benchmarks
    from uptake.feedback.contestants import CONTESTANTS

    table = Table("benchmark", "from", "what it holds")
    for name in benchmarks.names():
        module = benchmarks.find(name)
        here = data is not None and module.FOLDER is not None and (data / module.FOLDER).is_dir()
        source = "here" if here else "Hub" if module.hub is not None else f"folder {module.FOLDER}"
        table.add_row(name, source, (module.__doc__ or "").split("\n")[0])
    out.print(table)
    table = Table("contestant", "what it is")
    for name, about in CONTESTANTS.items():
        table.add_row(name, about)
    out.print(table)


def _print_board(board: Any, timing: Any, folder: Path) -> None:
    from uptake.report.bench import notes
    from uptake.report.bench_tables import spelled, tables

    # With more of them, intervals have no room here.
    show = spelled if len(board.contestants) <= 3 else lambda entry: entry.text if entry else ""
    for each in tables(board):
        table = Table(each.title.lower(), *each.columns)
        for row in each.rows:
            table.add_row(row.label, *map(show, row.entries))
        out.print(table)
    for note in notes(board):
        say(note)
    say(f"{timing.seconds:.1f} s, {timing.share:.0%} of it in scoring; figures and page.html -> {folder}")
