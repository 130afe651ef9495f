"""Methods: one file each, and the file name is the registry.

A method file holds a `Config` (frozen, unknown options refused) whose defaults are the paper's setting, and
`build(config) -> Recipe`. Its docstring is what `uptake methods show` prints, and `ALIASES` are its short names. Such
a file may stand anywhere: it is named by its path, or by an entry point of the group `uptake.methods`.
"""

import difflib
from collections.abc import Mapping
from functools import cache
from importlib import import_module
from importlib.metadata import entry_points
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any, cast

from pydantic import ValidationError
from pydantic.fields import FieldInfo

from uptake.errors import InputError
from uptake.support.method_files import Method, load_file, read_method, refuse_taken
from uptake.support.options import MethodConfig, built, fill, validation_error

if TYPE_CHECKING:
    from uptake.recipe import Recipe

__all__ = ["MethodConfig", "build", "catalog", "configure", "fields_of", "fill", "find", "names"]

# The group of entry points under which an installed package offers its methods.
GROUP = "uptake.methods"


@cache
def catalog() -> dict[str, Method]:
    """Methods by name: the files of this package, then those that installed packages offer.

    Raises InputError for a method from outside that cannot be read or takes a name that exists.
    """
    here = [path for path in sorted(Path(__file__).parent.glob("*.py")) if not path.stem.startswith("_")]
    found = {path.stem: read_method(path, f"{__name__}.{path.stem}") for path in here}
    for entry in entry_points(group=GROUP):
        spec = find_spec(entry.module)
        if spec is None or spec.origin is None:
            raise InputError(f"entry point {entry.name!r} names no file: {entry.module}", field=GROUP)
        method = read_method(Path(spec.origin), entry.module)
        refuse_taken(method, found.values())
        found[method.name] = method
    return found


def names() -> list[str]:
    """The names of the methods there are."""
    return sorted(catalog())


def find(name: str) -> ModuleType:
    """The module of a method by its name, alias or path; raises InputError with the nearest names for no method."""
    if name.endswith(".py"):
        method = read_method(Path(name))
        refuse_taken(method, catalog().values())
        return load_file(method)
    wanted = name.strip().lower().replace("-", "_")
    known = {alias: method for method in catalog().values() for alias in (method.name, *method.aliases)}
    if wanted not in known:
        near = difflib.get_close_matches(wanted, names(), n=1) or difflib.get_close_matches(wanted, known, n=1)
        hint = f"; did you mean {near[0]}?" if near else ""
        allowed = f"{', '.join(names())}, or the path of a method's file"
        raise InputError(f"there is no method {name!r}{hint}", allowed=allowed)
    return import_module(cast(str, known[wanted].module))


def configure(name: str, options: Mapping[str, Any]) -> MethodConfig:
    """A method's options, checked; raises InputError that names the option and what is allowed."""
    config = find(name).Config
    try:
        return cast(MethodConfig, config.model_validate(options))
    except ValidationError as error:
        raise validation_error(error, config) from error


def fields_of(name: str, options: Mapping[str, Any]) -> dict[str, FieldInfo]:
    """The options of a method, and those of the one that it hands all others on to, by its own option `method`."""
    found: dict[str, FieldInfo] = find(name).Config.model_fields
    inner = options.get("method", found["method"].default) if "method" in found else None
    return found | (fields_of(inner, {}) if isinstance(inner, str) else {})


def build(name: str, options: Mapping[str, Any] | None = None, files: Mapping[str, Path] | None = None) -> "Recipe":
    """The recipe of a method with the given options; everything else is the paper's setting.

    `files` holds the file that an option was read from. Raises InputError that names the option and its file, and for
    an option of the method that has no effect.
    """
    try:
        recipe: Recipe = built(find(name).build, configure(name, options or {}))
    except InputError as error:
        path = (files or {}).get((error.field or "").split(".")[0], error.path)
        raise InputError(error.problem, path=path, line=error.line, field=error.field, allowed=error.allowed) from error
    return recipe
