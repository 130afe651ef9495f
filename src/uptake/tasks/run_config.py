"""Run config: one YAML file, or the flags of a command, that say everything a run is made of."""

from pathlib import Path
from typing import Any, Self

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from uptake import methods
from uptake.errors import InputError
from uptake.recipe import Recipe
from uptake.support.settings import near
from uptake.support.texts import yaml_of
from uptake.tasks.models_used import assigned, models_used

# Models that a run has where none is given: the policy as its own follow-up model, as it is, and as the run began.
DEFAULT_MODELS = ("follow_up", "policy", "start")


class RunConfig(BaseModel):
    """Run config: the method with its options, the policy, the data, and other models by the name a recipe calls them.

    `RunConfig(method="dpo", policy="./model", data="pairs.jsonl", options={"beta": 0.05})`. Models and data are paths
    or names on the Hub; `columns` gives the names that our columns have in the data, and `drop_bad` leaves out rows
    that cannot be read. `lora` is the rank of an adapter, 0 for none.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    method: str
    policy: str
    data: str
    models: dict[str, str] = {}
    options: dict[str, Any] = {}
    columns: dict[str, str] = {}
    limit: int | None = None
    drop_bad: bool = False
    lora: int = Field(0, ge=0)
    seed: int = Field(0, ge=0, lt=2**32)
    device: str = "auto"
    dtype: str = "auto"

    @classmethod
    def of(cls, file: Path | None = None, **flags: Any) -> Self:
        """The config of a file, under `flags` that are not None, `models`, `columns` and `options` name by name.

        Raises InputError, naming file and key, for what cannot be read, a key that is not there, and a wrong value.
        """
        read = read_config(file) if file is not None else {}
        given = {name: value for name, value in flags.items() if value is not None}
        both = {
            name: {**read[name], **given[name]}
            for name in ("models", "columns", "options")
            if isinstance(read.get(name), dict) and name in given
        }
        try:
            return cls.model_validate({**read, **given, **both})
        except ValidationError as error:
            first = error.errors()[0]
            name = ".".join(map(str, first["loc"]))
            path = file if first["loc"][0] in read and first["loc"][0] not in given else None
            if first["type"] == "missing":
                raise InputError(
                    f"no {name}", path=file, field=name, allowed=f"--{name}, or {name} in --config"
                ) from None
            raise InputError(f"{first['msg']}, not {first['input']!r}", path=path, field=name) from None

    def __str__(self) -> str:
        """The config as YAML, with every default: the beginning of a run's recipe.yaml."""
        return yaml.safe_dump(self.model_dump(), sort_keys=False, allow_unicode=True)


def read_config(path: Path) -> dict[str, Any]:
    """What a run config in a YAML file says; raises InputError, naming file and key, as `RunConfig.of` does.

    The recipe that a run has written below its config is left out: see `written_recipe`.
    """
    read = _mapping(path)
    read.pop("Recipe", None)
    for key in read:
        if key not in RunConfig.model_fields:
            allowed = ", ".join(RunConfig.model_fields)
            raise InputError(
                f"no such key{near(key, RunConfig.model_fields)}", path=path, field=str(key), allowed=allowed
            )
    return read


def written_recipe(path: Path) -> Any:
    """The recipe that stands in the file of a run; None in a file that somebody wrote."""
    return _mapping(path).get("Recipe")


def _mapping(path: Path) -> dict[str, Any]:
    try:
        read = yaml_of(path.read_text(encoding="utf-8")) or {}
    except (OSError, ValueError) as error:
        raise InputError(f"cannot be read as YAML: {error}", path=path) from error
    if not isinstance(read, dict):
        raise InputError("holds no run", path=path, allowed="a mapping such as `method: dpo`")
    return read


def recipe_of(config: RunConfig, file: Path | None = None) -> Recipe:
    """The recipe of a config; the reference follows what was named. `file` is where its options come from.

    Raises InputError that names the option, and the file where it stands there.
    """
    options = dict(config.options)
    # A method without a reference has none to switch to when the policy gets an adapter, nor has one that moves.
    if (reference := methods.fields_of(config.method, options).get("reference")) is not None:
        if "reference" in config.models:
            options.setdefault("reference", "given")
        elif config.lora and reference.default == "initial":
            options.setdefault("reference", "adapter_off")
    read = read_config(file).get("options", {}) if file is not None else {}
    files = {name: file for name, value in read.items() if file is not None and options.get(name) == value}
    return methods.build(config.method, options, files)


def with_models(config: RunConfig, recipe: Recipe, rest: str | None = None, file: Path | None = None) -> RunConfig:
    """The config with a model for every name that its recipe asks for; `rest` is that of all which have none.

    Those that a run has by itself may be without. Raises InputError as `assigned` does, and names the
    `file` where a model stands there.
    """
    names = models_used(recipe)
    for name in read_config(file).get("models", {}) if file is not None else ():
        if name not in names:
            problem = f"nothing here uses a model called {name!r}{near(name, names)}"
            raise InputError(problem, path=file, field="models", allowed=", ".join(names) or "none")
    found = assigned(names, config.models, rest, optional=DEFAULT_MODELS)
    return config.model_copy(update={"models": found})
