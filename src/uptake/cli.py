"""The command line: every command is one call into the public API."""

import logging
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
import yaml
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from uptake.errors import InputError, UptakeError

if TYPE_CHECKING:
    from uptake.recipe import Recipe

app = typer.Typer(
    help="Align language models from the way their readers react.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="markdown",
)
methods_app = typer.Typer(help="The methods there are, and their recipes with every default.", no_args_is_help=False)
app.add_typer(methods_app, name="methods")
out = Console()

Model = Annotated[str, typer.Option(help="Transformers folder, PEFT folder or Hub name.")]
Device = Annotated[str, typer.Option(help="auto, cpu, cuda or cuda:N.")]
Dtype = Annotated[str, typer.Option(help="auto (bfloat16 on CUDA, else float32), float32, bfloat16, float16, float64.")]
Limit = Annotated[int | None, typer.Option(help="Take the first rows only.")]
Seed = Annotated[int, typer.Option(help="Equal seeds give equal results.")]
Overwrite = Annotated[bool, typer.Option("--overwrite", help="Replace the output file if it exists.")]
DropBad = Annotated[bool, typer.Option("--drop-bad", help="Leave out and count rows that cannot be used.")]
Followups = Annotated[
    Path | None, typer.Option(help="Follow-up set, YAML or JSON. Default: the English set of Uptake.")
]
Options = Annotated[Path | None, typer.Option("--config", help="YAML file with options of the method.")]
Sets = Annotated[list[str] | None, typer.Option("--set", help="One option of the method, e.g. --set beta=0.05.")]
Method = Annotated[str, typer.Argument(help="A method's name or alias; see `uptake methods`.")]
Policy = Annotated[str, typer.Option(help="The model that learns: Transformers folder or Hub name.")]
Data = Annotated[str, typer.Option(help="Rows to learn from: .jsonl[.gz], .json, .csv, .parquet or a Hub name.")]
FollowUpModel = Annotated[str | None, typer.Option(help="The model that rates by follow-ups. Default: the policy.")]


@app.command()
def demo(
    folder: Annotated[Path, typer.Option("--out", help="Folder for everything that is made.")] = Path("runs/demo"),
    seed: Seed = 0,
    resume: Annotated[bool, typer.Option("--resume", help="Go on with a demonstration that was stopped.")] = False,
) -> None:
    """Watch it work: a tiny model learns a small town, is aligned from its users' reactions, and a report shows it."""
    from uptake.tasks.demo import DemoSettings
    from uptake.tasks.demo import demo as run_demo

    result = run_demo(folder, DemoSettings(seed=seed), resume=resume, say=out.print)
    wins, lengths = result.evaluation["win_rate"], result.evaluation["lengths"]
    out.print(
        f"\nThe aligned model wins [bold]{wins['rate']:.1%}[/bold] of {wins['n']} held-out questions "
        f"(95 % interval {wins['low']:.1%} to {wins['high']:.1%}, ties half), "
        f"at {lengths['ratio']:.2f} times the length."
    )
    out.print(f"Report: {result.report}")


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
    _say_plain(reward.chat.plain, model)
    summary = score_file(source, reward, target, overwrite=overwrite, limit=limit, logps=logps, drop_bad=drop_bad)
    table = Table("reward", "mean")
    for name, value in {"all": summary.mean_reward, **summary.by_category}.items():
        table.add_row(name, f"{value:+.4f}")
    out.print(table)
    out.print(f"{summary.responses} responses in {summary.rows} rows -> {target}")
    if summary.dropped:
        out.print(f"{summary.dropped} rows were left out: broken, or longer than the model's window")
    if summary.shortened:
        out.print(f"{summary.shortened} conversations lost their oldest turns to the model's window")
    if summary.accuracy is not None:
        _print_accuracy(summary.accuracy)


@app.command()
def mine(
    source: Annotated[
        str, typer.Argument(metavar="PROMPTS", help="Prompts: conversations that wait for the assistant.")
    ],
    *,
    policy: Policy,
    target: Annotated[Path, typer.Option("--out", help="Output: preference pairs, .jsonl[.gz], .csv or .parquet.")],
    judge: Annotated[str, typer.Option(help="Who rates the samples: followup.")] = "followup",
    follow_up_model: FollowUpModel = None,
    config: Options = None,
    sets: Sets = None,
    limit: Limit = None,
    seed: Seed = 0,
    device: Device = "auto",
    dtype: Dtype = "auto",
    overwrite: Overwrite = False,
) -> None:
    """Sample a policy and keep its best answer against its worst, as a preference data set.

    Example: `uptake mine prompts.jsonl --policy ./my-model --judge followup --out pairs.jsonl --set n=8`
    """
    from uptake.tasks.mine import mine as run_mine
    from uptake.tasks.train import Given, build_world

    if judge != "followup":
        raise InputError(f"no judge {judge!r}", field="judge", allowed="followup")
    recipe = _recipe("follow_up_likelihood", config, sets)
    given = Given(policy, source, follow_up_model, seed=seed, limit=limit, device=device, dtype=dtype)
    world = build_world(given, target.with_name(f"{target.name}.work"))
    _say_plain(world.chat.plain, policy)
    summary = run_mine(recipe, world, target, overwrite=overwrite)
    _print_dropped(summary.figures)
    out.print(f"{summary.pairs} pairs -> {summary.path}")


@app.command()
def train(
    method: Method,
    *,
    policy: Policy,
    data: Data,
    folder: Annotated[Path, typer.Option("--out", help="Folder of the run; the trained model is under model/.")],
    follow_up_model: FollowUpModel = None,
    reference: Annotated[
        str | None, typer.Option(help="Another frozen reference. Default: the policy's start.")
    ] = None,
    config: Options = None,
    sets: Sets = None,
    lora: Annotated[int, typer.Option(help="Rank of a LoRA adapter; 0 trains all weights.")] = 0,
    limit: Limit = None,
    seed: Seed = 0,
    device: Device = "auto",
    dtype: Dtype = "auto",
    save_every: Annotated[int, typer.Option(help="Optimizer steps between two checkpoints.")] = 50,
    resume: Annotated[bool, typer.Option("--resume", help="Go on with the run in the folder.")] = False,
) -> None:
    """Align a model with a method, in a folder that can be resumed after any stop.

    Example: `uptake train dpo --policy ./my-model --data pairs.jsonl --out runs/dpo --set beta=0.1`
    """
    from uptake.loop import Options as RunOptions
    from uptake.report import write_report
    from uptake.tasks.train import Given
    from uptake.tasks.train import train as run_train

    recipe = _recipe(method, config, sets, reference, lora)
    given = Given(policy, data, follow_up_model, reference, lora, seed, limit, device, dtype)
    run_train(
        recipe, given, folder, RunOptions(resume=resume, save_every=save_every, title=f"{method} on {Path(data).name}")
    )
    out.print(f"model: {folder / 'model'}\nreport: {write_report(folder)}")


@app.command("eval")
def evaluate(
    source: Annotated[str, typer.Argument(metavar="PROMPTS", help="Held-out prompts.")],
    *,
    policy: Annotated[str, typer.Option(help="The model to judge.")],
    against: Annotated[str, typer.Option(help="The model to compare it with.")],
    follow_up_model: Annotated[str, typer.Option(help="The model that rates both by follow-ups.")],
    folder: Annotated[
        Path, typer.Option("--out", help="Folder for evaluation.json and samples.jsonl; a run's folder will do.")
    ],
    followups: Followups = None,
    temperature: Annotated[float, typer.Option(help="0 is greedy.")] = 0.7,
    top_p: Annotated[float, typer.Option(help="Nucleus of the sampling distribution.")] = 0.9,
    max_new_tokens: Annotated[int, typer.Option(help="Longest response, in tokens.")] = 256,
    limit: Limit = None,
    seed: Seed = 0,
    device: Device = "auto",
    dtype: Dtype = "auto",
) -> None:
    """Compare two models: win rate with its interval, follow-up scores, and lengths beside them.

    Example: `uptake eval heldout.jsonl --policy runs/dpo/model --against ./base --follow-up-model ./judge --out runs/1`
    """
    from uptake.rollout import PolicySamples
    from uptake.tasks.compare import compare_files

    models = {"before": against, "after": policy, "follow_up": follow_up_model}
    sampling = PolicySamples(n=1, temperature=temperature, top_p=top_p, max_new_tokens=max_new_tokens)
    options: dict[str, Any] = {"followups": followups, "limit": limit, "seed": seed, "device": device, "dtype": dtype}
    figures = compare_files(source, models, folder, sampling=sampling, **options)
    wins, lengths = figures["win_rate"], figures["lengths"]
    table = Table("", "against", "policy")
    table.add_row("follow-up reward", *(f"{figures['follow_up_reward'][side]:+.4f}" for side in ("before", "after")))
    table.add_row("mean tokens", *(f"{lengths[side]['mean']:.1f}" for side in ("before", "after")))
    out.print(table)
    out.print(
        f"win rate {wins['rate']:.1%} (95 % interval {wins['low']:.1%} to {wins['high']:.1%}, "
        f"{wins['ties']} ties, n {wins['n']})"
    )


@app.command()
def report(
    folder: Annotated[Path, typer.Argument(metavar="RUN", help="Folder of a run.")],
    target: Annotated[Path | None, typer.Option("--out", help="The page. Default: report.html in the folder.")] = None,
) -> None:
    """Write the story of a run as one self-contained page."""
    from uptake.report import write_report

    out.print(f"report: {write_report(folder, target)}")


@app.command()
def check(
    method: Method,
    *,
    policy: Policy,
    data: Data,
    follow_up_model: FollowUpModel = None,
    reference: Annotated[
        str | None, typer.Option(help="Another frozen reference. Default: the policy's start.")
    ] = None,
    config: Options = None,
    sets: Sets = None,
    limit: Limit = None,
    device: Device = "auto",
    dtype: Dtype = "auto",
) -> None:
    """Look before you start: rendered samples with the trained part in color, the batch, the cost, the first loss.

    Example: `uptake check dpo --policy ./my-model --data pairs.jsonl`
    """
    from rich.text import Text

    from uptake.tasks.check import check as run_check
    from uptake.tasks.train import Given, build_world

    recipe = _recipe(method, config, sets, reference)
    given = Given(policy, data, follow_up_model, reference, limit=limit, device=device, dtype=dtype)
    found = run_check(recipe, build_world(given, Path(".")))
    for sample in found.samples:
        text = Text()
        for piece in sample:
            text.append(piece.text, style="bold green" if piece.trained else "dim")
            text.append("\n" if piece.trained else "")
        out.print(text, "\n")
    table = Table(show_header=False)
    for name, value in found.facts:
        table.add_row(name, value)
    out.print(table)
    out.print("[bold green]ready[/bold green]: green text is trained on, dim text is only read")


@methods_app.callback(invoke_without_command=True)
def list_methods(context: typer.Context) -> None:
    """List the methods."""
    from uptake import methods

    if context.invoked_subcommand is None:
        table = Table("method", "also called", "what it does")
        for name in methods.names():
            module = methods.find(name)
            table.add_row(name, ", ".join(module.ALIASES), (module.__doc__ or "").split("\n")[0])
        out.print(table)


@methods_app.command()
def show(method: Method, config: Options = None, sets: Sets = None) -> None:
    """Print what a method is, and its recipe with every default."""
    from uptake import methods

    out.print((methods.find(method).__doc__ or "").strip(), "\n", markup=False)
    out.print(str(_recipe(method, config, sets)), markup=False)


def _recipe(
    method: str, config: Path | None, sets: list[str] | None, reference: str | None = None, lora: int = 0
) -> "Recipe":
    """A method's recipe with the options of a file, then those of `--set`; the reference follows what was named."""
    from uptake import methods

    read = methods.read_options(config) if config is not None else {}
    options = read | _sets(sets)
    if reference is not None or lora:
        options.setdefault("reference", "adapter_off" if reference is None else "given")
    if reference is not None and options["reference"] != "given":
        raise InputError(f"{reference} is not used by reference={options['reference']}", field="--reference")
    files = {name: config for name in read if config is not None and name not in _sets(sets)}
    return methods.build(method, options, files)


def _sets(sets: list[str] | None) -> dict[str, Any]:
    """The options of `--set name=value`; values are YAML."""
    options: dict[str, Any] = {}
    for item in sets or ():
        name, found, value = item.partition("=")
        try:
            options[name.strip()] = yaml.safe_load(value)
        except yaml.YAMLError as error:
            raise InputError(f"{item!r} is not YAML: {error}", field="--set") from error
        if not found:
            raise InputError(f"{item!r}", field="--set", allowed="name=value")
    return options


def _say_plain(plain: bool, model: str) -> None:
    if plain:
        out.print(f"{model} brings no chat template; the plain one is used: 'User: ...' and 'Assistant: ...' lines")


def _print_accuracy(accuracy: Any) -> None:
    table = Table("pairs ranked as preferred", "share", "95 % interval", "n")
    rows = {"all": accuracy.plain, "of like length": accuracy.length_matched, "by length alone": accuracy.longer_wins}
    for name, share in rows.items():
        if share is not None:
            table.add_row(name, f"{share.rate:.1%}", f"{share.low:.1%} to {share.high:.1%}", str(share.n))
    out.print(table)


def _print_dropped(figures: Any) -> None:
    table = Table("mined", "count")
    for name in ("prompts", "samples", "pairs"):
        table.add_row(name, str(figures[name]))
    for reason, count in figures["dropped"].items():
        table.add_row(f"dropped: {reason}", str(count))
    out.print(table)


def main() -> None:
    """Run the command line; an error that a person can act on is one message and exit code 2."""
    logging.basicConfig(level=logging.WARNING, format="%(message)s", stream=sys.stderr)
    _quiet_libraries()
    try:
        app()
    except UptakeError as error:
        Console(stderr=True).print(f"[bold red]error[/bold red]: {escape(str(error))}", highlight=False, soft_wrap=True)
        raise SystemExit(2) from None


def _quiet_libraries() -> None:
    """Transformers' own bars and notes say nothing about the work that was asked for."""
    import os

    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
    os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")


if __name__ == "__main__":
    main()
