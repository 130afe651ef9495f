"""A part of a recipe as options spell it: by name, or by name with settings."""

from collections.abc import Callable, Collection, Mapping
from dataclasses import MISSING, fields
from functools import partial
from typing import Any, TypeVar, get_type_hints

from pydantic import ConfigDict, TypeAdapter, ValidationError

from uptake.errors import InputError

T = TypeVar("T")

Choice = str | Mapping[str, Mapping[str, Any]]

# Nothing is converted: what is printed in a recipe is what was written.
_STRICT = ConfigDict(strict=True, arbitrary_types_allowed=True)


def named(
    kind: str, choice: Choice, parts: Mapping[str, Callable[..., T]], elsewhere: Collection[str] = ()
) -> Callable[..., T]:
    """The part of a name, or of a name with settings, `{"oracle": {"noise": 0.1}}`, ready to be made.

    `elsewhere` are fields that are no settings. Raises InputError for an unknown name or setting, for one missing, and
    for one of another type.
    """
    wanted: Mapping[str, Mapping[str, Any]] = {choice: {}} if isinstance(choice, str) else choice
    if len(wanted) != 1 or not wanted.keys() <= parts.keys():
        raise InputError(f"no {kind} {', '.join(wanted)!r}", field=kind, allowed=", ".join(parts))
    ((name, settings),) = wanted.items()
    every: Any = parts[name]
    known = {field.name: field for field in fields(every) if field.name not in elsewhere}
    for setting in settings:
        if setting not in known:
            allowed = ", ".join(known) or "none"
            raise InputError(f"{name} has no setting {setting!r}", field=kind, allowed=allowed)
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
    return partial(parts[name], **settings)
