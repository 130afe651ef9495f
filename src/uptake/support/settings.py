"""A part of a recipe as options spell it: by name, or by name with settings."""

import difflib
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import MISSING, fields
from functools import partial
from typing import Any, TypeVar, get_type_hints

from pydantic import ConfigDict, TypeAdapter, ValidationError

from uptake.errors import InputError

T = TypeVar("T")

Choice = str | Mapping[str, Any]

# Nothing is converted: what is printed in a recipe is what was written.
_STRICT = ConfigDict(strict=True, arbitrary_types_allowed=True)


def named(
    kind: str, choice: Choice, parts: Mapping[str, Callable[..., T]], elsewhere: Collection[str] = ()
) -> Callable[..., T]:
    """The part of a name, or of a name with settings, `{"oracle": {"noise": 0.1}}`, ready to be made.

    `elsewhere` are fields that are no settings, as are those left out of the `repr`. Raises InputError for an unknown
    name or setting, for one missing, and for one of another type.
    """
    wanted: Mapping[str, Any] = {choice: {}} if isinstance(choice, str) else choice
    if len(wanted) != 1 or not wanted.keys() <= parts.keys():
        raise unknown(kind, ", ".join(map(str, wanted)), parts)
    ((name, settings),) = wanted.items()
    return configured(kind, name, parts[name], settings, elsewhere)


def configured(
    kind: str, name: str, part: Callable[..., T], settings: Any, elsewhere: Collection[str] = ()
) -> Callable[..., T]:
    """A part with its settings, ready to be made; raises as `named` does."""
    if not isinstance(settings, Mapping):
        raise InputError(f"{settings!r} as settings of {name}", field=kind, allowed=f"{{{name}: {{setting: value}}}}")
    every: Any = part
    known = {field.name: field for field in fields(every) if field.repr and field.name not in elsewhere}
    for setting in settings:
        if setting not in known:
            allowed = ", ".join(known) or "none"
            raise InputError(f"{name} has no setting {setting!r}{near(setting, known)}", field=kind, allowed=allowed)
    for setting, field in known.items():
        if setting not in settings and field.default is MISSING and field.default_factory is MISSING:
            allowed = f"{{{name}: {{{setting}: ...}}}}"
            raise InputError(f"{name} needs a setting {setting!r}", field=kind, allowed=allowed)
    for setting, value in settings.items():
        try:
            TypeAdapter(get_type_hints(every)[setting], config=_STRICT).validate_python(value)
        except ValidationError as error:
            allowed = " or ".join(each["msg"].removeprefix("Input should be ") for each in error.errors())
            raise InputError(f"{value!r} as {setting!r} of {name}", field=kind, allowed=allowed) from error
    return partial(part, **settings)


def unknown(kind: str, name: str, known: Iterable[str]) -> InputError:
    """The error for a name that nothing of this kind has, with the nearest that something has."""
    names = list(known)
    return InputError(f"no {kind} {name!r}{near(name, names)}", field=kind, allowed=", ".join(names))


def near(name: object, known: Iterable[str]) -> str:
    """The words that name the nearest of known names, for an error; none where no name is near."""
    found = difflib.get_close_matches(str(name), list(known), n=1)
    return f"; did you mean {found[0]}?" if found else ""
