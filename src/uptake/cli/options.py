"""Options of the command line that several commands take, with the application and the console."""

import os
from collections.abc import Iterable, Mapping
from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer
from rich.console import Console

from uptake import __version__
from uptake.errors import InputError
from uptake.support.texts import yaml_of

if TYPE_CHECKING:
    from uptake.follow_up.set import FollowUpSet
    from uptake.recipe import Recipe
    from uptake.rewards.base import Resources
    from uptake.tasks.run_config import RunConfig

app = typer.Typer(
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="markdown",
    # Hyphens and underscores are alike, in commands, options and names.
    context_settings={
        "help_option_names": ["-h", "--help"],
        "token_normalize_func": lambda token: token.replace("_", "-"),
    },
)
out = Console()


def _version(wanted: bool) -> None:
    if wanted:
        say(f"uptake {__version__}")
        raise typer.Exit


@app.callback()
def main(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version, and no more.")
    ] = False,
    spelled_tokens: Annotated[
        Literal["text", "tokens"],
        typer.Option(help="What a row says that spells out a special token: these letters, or that token."),
    ] = "text",
    chat_template: Annotated[
        str | None, typer.Option(metavar="NAME", help="The chat template to use of a tokenizer that has several.")
    ] = None,
) -> None:
    """Align language models from the way their readers react."""
    if spelled_tokens != "text":
        os.environ["UPTAKE_SPELLED_TOKENS"] = spelled_tokens
    if chat_template is not None:
        os.environ["UPTAKE_CHAT_TEMPLATE"] = chat_template


def say(line: str) -> None:
    """Print a line as it is and in one piece, however long: a program may read it, and a path may hold brackets."""
    out.print(line, markup=False, soft_wrap=True)


ModelsOption = Annotated[
    list[str] | None,
    typer.Option(
        "--model", metavar="[NAME=]PATH", help="A model by the name it is asked for; without NAME, all others."
    ),
]
Device = Annotated[str, typer.Option(help="auto, cpu, cuda or cuda:N.")]
Dtype = Annotated[str, typer.Option(help="auto (bfloat16 on CUDA, else float32), float32, bfloat16, float16, float64.")]
DataFolder = Annotated[
    Path | None, typer.Option("--data", help="Folder with a folder for each data set. Others come from the Hub.")
]
ColumnsOption = Annotated[
    list[str] | None,
    typer.Option("--columns", metavar="OURS=THEIRS", help="A column by its name in the data: messages=dialog."),
]
LimitOption = Annotated[int | None, typer.Option(help="Take the first rows only.")]
# What Torch, NumPy and scikit-learn all take.
_SEEDS: dict[str, Any] = {"min": 0, "max": 2**32 - 1}
SeedOption = Annotated[int, typer.Option(**_SEEDS, help="Equal seeds give equal results.")]
Overwrite = Annotated[bool, typer.Option("--overwrite", help="Replace the output file if it exists.")]
FlagDropBad = Annotated[
    bool | None, typer.Option("--drop-bad", help="Leave out and count rows that cannot be read.", show_default=False)
]
DropBad = Annotated[bool, typer.Option("--drop-bad", help="Leave out and count rows that cannot be used.")]
FormatOption = Annotated[
    str | None,
    typer.Option(
        "--format",
        help="user_role: a follow-up is the user's turn (default); role_swap: the model plays the user.",
    ),
]
FollowupsOption = Annotated[
    Path | None,
    typer.Option(
        "--followups",
        "--follow-ups",
        help="Follow-up set: YAML, JSON or short-en. Default: the English set of Uptake.",
    ),
]
LogArgument = Annotated[
    str, typer.Argument(metavar="LOG", help="Real conversations: a file of any format, a folder, or a Hub name.")
]
Ratings = Annotated[str | None, typer.Option(help="Column with the users' ratings: one number, or one a message.")]
Remove = Annotated[bool, typer.Option("--redact", help="Replace addresses, numbers and links by their kind first.")]
AnyLanguage = Annotated[
    bool, typer.Option("--any-language", help="Read users by a set in another language than theirs.")
]
ConfigOption = Annotated[
    Path | None, typer.Option("--config", help="YAML file of a run; a run's recipe.yaml is one. Flags override it.")
]
Sets = Annotated[list[str] | None, typer.Option("--set", help="One option of the method, e.g. --set beta=0.05.")]
MethodArgument = Annotated[str | None, typer.Argument(help="A method's name, alias or file; see `uptake methods`.")]
Policy = Annotated[str | None, typer.Option(help="The model that learns: Transformers folder or Hub name.")]
DataOption = Annotated[
    str | None, typer.Option("--data", help="Rows to learn from: a file of any format, a folder, or a Hub name.")
]
RewardOption = Annotated[
    str | None,
    typer.Option("--reward", help="Who rates, by name: follow_up, classifier:PATH, ...; see `bench --list`."),
]
RewardSets = Annotated[list[str] | None, typer.Option("--reward-set", help="One setting of the reward: reduction=sum.")]
JudgeOption = Annotated[
    str | None, typer.Option("--judge", help="Who compares, by name: model, server, person, or any reward.")
]
JudgeSets = Annotated[
    list[str] | None, typer.Option("--judge-set", help="One setting of the judge: instructions=harmlessness.")
]


FlagSeed = Annotated[int | None, typer.Option("--seed", **_SEEDS, help="Equal seeds give equal results. Default: 0.")]
FlagDevice = Annotated[str | None, typer.Option("--device", help="auto, cpu, cuda or cuda:N. Default: auto.")]
FlagDtype = Annotated[
    str | None,
    typer.Option("--dtype", help="auto (bfloat16 on CUDA, else float32), float32, bfloat16, float16, float64."),
]
Lora = Annotated[int | None, typer.Option(help="Rank of a LoRA adapter; 0 trains all weights. Default: 0.")]


def prepared(
    method: str | None,
    config: Path | None,
    models: list[str] | None,
    sets: list[str] | None,
    options: Mapping[str, Any],
    **flags: Any,
) -> tuple["Recipe", "RunConfig"]:
    """The recipe of a file and of flags, which win, and the run with a model for every name that the recipe asks for.

    `--set` wins over the `options` that have a flag of their own. Raises InputError where the file is that of a run
    whose recipe these options, taken as they are, no longer give.
    """
    from uptake.tasks.run_config import RunConfig, recipe_of, with_models, written_recipe

    named, rest = models_of(models)
    given = {**{name: value for name, value in options.items() if value is not None}, **options_of(sets)}
    run = RunConfig.of(config, method=method, models=named or None, options=given or None, **flags)
    recipe = recipe_of(run, config)
    changed = any((method, named, given, flags.get("lora") is not None))
    written = None if config is None or changed else written_recipe(config)
    if written is not None and written != yaml_of(str(recipe))["Recipe"]:
        problem = "its options give another recipe now than the one that stands below them"
        raise InputError(problem, path=config, field="Recipe", allowed="the recipe of these options, or none")
    return recipe, with_models(run, recipe, rest, config)


def choice(name: str | None, sets: list[str] | None, field: str) -> Any:
    """A reward or judge as options spell it, by name, in short or in YAML, with settings beside it; None for none."""
    if name is None:
        if sets:
            raise InputError(f"not used without --{field}", field=f"--{field}-set", allowed=f"with --{field}")
        return None
    spelled: Any = _yaml(name, f"--{field}") if name.lstrip().startswith("{") else name
    if not sets:
        return spelled
    from uptake.judge.registry import ANNOTATORS, REWARDS, split

    found, settings = split(spelled, field, REWARDS if field == "reward" else {**REWARDS, **ANNOTATORS})
    if not isinstance(settings, Mapping):
        raise InputError(f"not used by {found!r}", field=f"--{field}-set", allowed=f"settings in --{field} itself")
    return {found: {**settings, **options_of(sets)}}


def with_followups(spelled: Any, followups: Path | None) -> Any:
    """A reward with a follow-up set, where one was named; raises InputError for one that asks no follow-ups."""
    from uptake.judge.registry import ANNOTATORS, REWARDS, split

    if followups is None:
        return spelled
    kinds = {**ANNOTATORS, **REWARDS}
    name, settings = split(spelled, "reward", kinds)
    if "followups" not in {each.name for each in fields(kinds[name].spec)}:
        raise InputError(f"not used by {name!r}", field="--followups", allowed="a reward by follow-ups")
    return {name: {**settings, "followups": str(followups)}}


def resources_of(
    specs: Iterable[Any],
    models: list[str] | None,
    folder: Path,
    prefix: str = "",
    names: Iterable[str] = (),
    **loading: Any,
) -> "Resources":
    """The models that some specs ask for, and those called `names`, loaded; what is paid for goes into the folder."""
    from uptake.rewards.base import Resources, RewardSpec
    from uptake.tasks.models_used import assigned, models_used

    specs = list(specs)
    paths = assigned((*models_used(specs), *names), *models_of(models))
    if not paths:  # then nothing needs Torch, which takes seconds to load
        return Resources({}, folder, prefix, **loading)
    from uptake.data import ChatFormat
    from uptake.tasks.train import load_each

    loaded = load_each(paths, **loading)
    told = {name: RewardSpec.plain for name in names} | {name: spec.plain for spec in specs for name in spec.uses}
    plain = {paths[name]: note for name, note in told.items() if ChatFormat.of(loaded[name]).plain}
    for path, note in plain.items():
        say(f"{path} brings no chat template; {note}")
    return Resources(loaded, folder, prefix, **loading)


def models_of(models: list[str] | None) -> tuple[dict[str, str], str | None]:
    """The paths of `--model NAME=PATH` by name, and that of `--model PATH`, which has none."""
    named: dict[str, str] = {}
    rest: str | None = None
    for item in models or ():
        name, found, path = item.partition("=")
        name = name.strip().replace("-", "_")
        if not (found and name.isidentifier()):
            name, path = "", item
        if not path or name in named or (not name and rest is not None):
            raise InputError(repr(item), field="--model", allowed="NAME=PATH, once a name; PATH alone, once")
        if name:
            named[name] = path
        else:
            rest = path
    return named, rest


def only_model(model: str, name: str) -> str:
    """The path of a command's one model, with its name before it or without."""
    named, rest = models_of([model])
    if named and named.keys() != {name}:
        raise InputError(f"nothing here uses a model called {next(iter(named))!r}", field="--model", allowed=name)
    return named.get(name) or rest or model


def columns_of(columns: list[str] | None) -> dict[str, str]:
    """The columns of `--columns ours=theirs`, which may be given again, or with commas between."""
    from uptake.data.read import check_columns

    found: dict[str, str] = {}
    for item in (each for given in columns or () for each in given.split(",")):
        ours, _, theirs = item.partition("=")
        if not (ours and theirs) or ours in found:
            raise InputError(repr(item), field="--columns", allowed="OURS=THEIRS, once a column")
        found[ours] = theirs
    check_columns(found)
    return found


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
    check_unlocked(target, *([] if resumes is None else [resumes]))
    may_write(target, overwrite=overwrite or (resumes is not None and resumes.exists()))


def options_of(sets: list[str] | None) -> dict[str, Any]:
    """The options of `--set name=value`; values are YAML."""
    options: dict[str, Any] = {}
    for item in sets or ():
        name, found, value = item.partition("=")
        if not found:
            raise InputError(f"{item!r}", field="--set", allowed="name=value")
        options[name.strip().replace("-", "_")] = _yaml(value, "--set", item)
    return options


def _yaml(text: str, field: str, shown: str | None = None) -> Any:
    try:
        return yaml_of(text)
    except ValueError as error:
        raise InputError(f"{(shown or text)!r} is not YAML: {error}", field=field) from error


def say_plain(plain: bool, model: str) -> None:
    from uptake.data.template import PLAIN_NOTE

    if plain:
        say(f"{model} {PLAIN_NOTE}")


def check_format(format: str | None) -> None:
    """Refuse an unknown format of follow-ups, before a model is loaded for it."""
    from uptake.data.role_swap import FollowUpFormat

    if format is not None:
        FollowUpFormat(format)  # type: ignore[arg-type]


def one_sided(followups: "FollowUpSet") -> list[str]:
    """A line for every category that can only approve or only complain, which is allowed."""
    sides = (("positives", "complain"), ("negatives", "approve"))
    empty = [
        (each.name, sides[bool(each.positive)])
        for each in followups.categories
        if not (each.positive and each.negative)
    ]
    return [f"category {name!r} has no {side}: it can only {act}, which is allowed" for name, (side, act) in empty]
