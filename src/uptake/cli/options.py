"""What commands share: the application, the console, and the options that several of them take."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
import yaml
from rich.console import Console

from uptake.errors import InputError

if TYPE_CHECKING:
    from uptake.follow_up.set import FollowUpSet
    from uptake.recipe import Recipe

app = typer.Typer(
    help="Align language models from the way their readers react.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="markdown",
)
out = Console()


def say(line: str) -> None:
    """Print a line as it is and in one piece, however long: a program may read it, and a path may hold brackets."""
    out.print(line, markup=False, soft_wrap=True)


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
Log = Annotated[str, typer.Argument(metavar="LOG", help="Real conversations: .jsonl[.gz], .json, .csv, .parquet, Hub.")]
Ratings = Annotated[str | None, typer.Option(help="Column with the users' ratings: one number, or one a message.")]
Remove = Annotated[bool, typer.Option("--redact", help="Replace addresses, numbers and links by their kind first.")]
AnyLanguage = Annotated[
    bool, typer.Option("--any-language", help="Read users by a set in another language than theirs.")
]
Options = Annotated[Path | None, typer.Option("--config", help="YAML file with options of the method.")]
Sets = Annotated[list[str] | None, typer.Option("--set", help="One option of the method, e.g. --set beta=0.05.")]
Method = Annotated[str, typer.Argument(help="A method's name or alias; see `uptake methods`.")]
Policy = Annotated[str, typer.Option(help="The model that learns: Transformers folder or Hub name.")]
Data = Annotated[str, typer.Option(help="Rows to learn from: .jsonl[.gz], .json, .csv, .parquet or a Hub name.")]
JudgeModel = Annotated[str | None, typer.Option(help="The model that an annotator of kind `model` asks.")]
FollowUpModel = Annotated[str | None, typer.Option(help="The model that rates by follow-ups. Default: the policy.")]


def recipe_of(
    method: str, config: Path | None, sets: list[str] | None, reference: str | None = None, lora: int = 0
) -> "Recipe":
    """A method's recipe with the options of a file, then those of `--set`; the reference follows what was named."""
    from uptake import methods

    read = methods.read_options(config) if config is not None else {}
    options = read | options_of(sets)
    # A method without a reference has none to switch to when the policy gets an adapter.
    if reference is not None or (lora and "reference" in methods.find(method).Config.model_fields):
        options.setdefault("reference", "adapter_off" if reference is None else "given")
    if reference is not None and options["reference"] != "given":
        raise InputError(f"{reference} is not used by reference={options['reference']}", field="--reference")
    files = {name: config for name in read if config is not None and name not in options_of(sets)}
    return methods.build(method, options, files)


def check_output(
    target: Path, *, formats: tuple[str, ...] | None = None, overwrite: bool = False, resumes: Path | None = None
) -> None:
    """Refuse an output that cannot be written, before a model is loaded for it.

    `formats` are the endings of the output: those of data sets where none are given. `resumes` is what a killed call
    leaves behind: a journal or a folder, beside which the output may be there.
    """
    from uptake.data.files import suffix
    from uptake.data.lock import check_unlocked
    from uptake.data.write import FORMATS, may_write

    suffix(target, formats or FORMATS)
    may_write(target, overwrite=overwrite or (resumes is not None and resumes.exists()))
    check_unlocked(target)


def options_of(sets: list[str] | None) -> dict[str, Any]:
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


def say_plain(plain: bool, model: str) -> None:
    if plain:
        say(f"{model} brings no chat template; the plain one is used: 'User: ...' and 'Assistant: ...' lines")


def one_sided(followups: "FollowUpSet") -> list[str]:
    """A line for every category that can only approve or only complain, which is allowed."""
    sides = (("positives", "complain"), ("negatives", "approve"))
    empty = [
        (each.name, sides[bool(each.positive)])
        for each in followups.categories
        if not (each.positive and each.negative)
    ]
    return [f"category {name!r} has no {side}: it can only {act}, which is allowed" for name, (side, act) in empty]
