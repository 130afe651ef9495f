"""Models that a recipe or its parts ask for by name, and the path that each is given."""

from collections.abc import Collection, Iterator, Mapping
from dataclasses import fields, is_dataclass
from typing import Any

from uptake.errors import InputError
from uptake.support.settings import near


def models_used(part: Any) -> tuple[str, ...]:
    """The names of the models that a recipe, or a part of one, asks for."""
    return tuple(dict.fromkeys(_used(part)))


def _used(part: Any) -> Iterator[str]:
    if isinstance(part, list | tuple):
        for each in part:
            yield from _used(each)
    elif is_dataclass(part) and not isinstance(part, type):
        yield from getattr(part, "uses", ())
        for each in fields(part):
            yield from _used(getattr(part, each.name))


def assigned(
    names: Collection[str], models: Mapping[str, str], rest: str | None = None, optional: Collection[str] = ()
) -> dict[str, str]:
    """The path of every model that is asked for: the one given under its name, or else `rest`.

    Names that are `optional` may be without. Raises InputError for a name that has none, and for a model that nothing
    asks for.
    """
    for name in models:
        if name not in names:
            allowed = ", ".join(names) or "no --model: nothing here needs one"
            raise InputError(
                f"nothing here uses a model called {name!r}{near(name, names)}", field="--model", allowed=allowed
            )
    if rest is not None and not set(names) - models.keys():
        raise InputError(f"nothing here uses {rest}", field="--model", allowed=", ".join(names) or "no --model")
    found = {name: path for name in names if (path := models.get(name, rest)) is not None}
    for name in names:
        if name not in found and name not in optional:
            problem, allowed = f"this needs a model called {name!r}", f"--model {name}=PATH, or --model PATH for all"
            raise InputError(problem, field="--model", allowed=allowed)
    return found
