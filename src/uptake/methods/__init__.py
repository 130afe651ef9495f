"""The methods: one file each, and the file name is the registry.

A method file holds a `Config` (pydantic, frozen, unknown options refused) whose defaults are the paper's setting,
and `build(config) -> Recipe`. Its docstring is what `uptake methods show` prints, and `ALIASES`
are its short names.
"""

import difflib
import inspect
import pkgutil
from collections.abc import Callable, Mapping
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Any, TypeVar, cast

from pydantic import BaseModel, ConfigDict, ValidationError

from uptake.errors import InputError
from uptake.recipe import Recipe

T = TypeVar("T")


class MethodConfig(BaseModel):
    """Base of every method's options: frozen, and an unknown option is an error."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


def names() -> list[str]:
    """The methods there are."""
    return sorted(module.name for module in pkgutil.iter_modules(__path__))


def find(name: str) -> ModuleType:
    """A method's module by name or alias; raises InputError with the nearest names for one that is not there."""
    wanted = name.strip().lower().replace("-", "_")
    if wanted in names():
        return import_module(f"{__name__}.{wanted}")
    modules = {each: import_module(f"{__name__}.{each}") for each in names()}
    known = {alias: module for each, module in modules.items() for alias in (each, *module.ALIASES)}
    if wanted not in known:
        near = difflib.get_close_matches(wanted, known, n=1)
        hint = f"; did you mean {near[0]}?" if near else ""
        raise InputError(f"there is no method {name!r}{hint}", allowed=", ".join(names()))
    return known[wanted]


def configure(name: str, options: Mapping[str, Any]) -> MethodConfig:
    """A method's options, checked; raises InputError that names the option and what is allowed."""
    config = find(name).Config
    try:
        return cast(MethodConfig, config.model_validate(options))
    except ValidationError as error:
        raise _as_input_error(error, config) from error


def build(name: str, options: Mapping[str, Any] | None = None, files: Mapping[str, Path] | None = None) -> Recipe:
    """The recipe of a method with the given options; everything else is the paper's setting.

    `files` holds the file that an option was read from. Raises InputError that names the option and its file.
    """
    try:
        recipe: Recipe = find(name).build(configure(name, options or {}))
    except InputError as error:
        path = (files or {}).get((error.field or "").split(".")[0], error.path)
        raise InputError(error.problem, path=path, field=error.field, allowed=error.allowed) from error
    return recipe


def fill(part: Callable[..., T], config: MethodConfig) -> T:
    """A part with every field that the options have a value for."""
    wanted = inspect.signature(part).parameters.keys() & type(config).model_fields.keys()
    return part(**{name: getattr(config, name) for name in wanted})


def _as_input_error(error: ValidationError, config: type[BaseModel]) -> InputError:
    first = error.errors()[0]
    if not first["loc"]:
        return InputError(str(first["ctx"]["error"]))
    field = ".".join(map(str, first["loc"]))
    if first["type"] != "extra_forbidden":
        return InputError(f"{first['msg']}, not {first['input']!r}", field=field)
    near = difflib.get_close_matches(field, config.model_fields, n=1)
    hint = f"; did you mean {near[0]}?" if near else ""
    allowed = ", ".join(config.model_fields)
    return InputError(f"this method has no such option{hint}", field=field, allowed=allowed)
