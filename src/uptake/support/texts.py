"""Texts of files and options as values: JSON and YAML, each read in one way, whose only error is a ValueError."""

import json
from collections import Counter
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import yaml

# Objects and lists within one another, and values in one text: more is damage, or an attack.
DEEPEST = 100
_MOST = 1_000_000
_TIMESTAMP = "tag:yaml.org,2002:timestamp"


def json_of(text: str) -> Any:
    """The value that a text spells in JSON.

    Raises ValueError for a text that spells none, a key written twice, a number of thousands of digits, half of a
    surrogate pair, and more than `DEEPEST` objects and lists within one another.
    """
    try:
        value = json.loads(text, object_pairs_hook=once)
        check(value)
    except RecursionError as error:
        raise ValueError("nested too deeply") from error
    return value


def yaml_of(text: str) -> Any:
    """The value that a text spells in YAML, with keys as texts, and dates as the texts that they are.

    Raises ValueError as `json_of` does, and for references to what is repeated a million times.
    """
    try:
        value = yaml.load(text, _Loader)
        check(value)
    except Exception as error:  # constructors of scalars raise whatever Python does: KeyError, AttributeError
        raise ValueError(str(error) or type(error).__name__) from error
    return value


def json_file(path: Path) -> Any:
    """The value that a file spells in JSON; raises OSError, and ValueError as `json_of` does."""
    return json_of(path.read_text(encoding="utf-8"))


def check(value: Any) -> None:
    """Raise ValueError for a value that is nested too deeply, holds too much, or holds half of a surrogate pair."""
    left = _MOST

    def look(part: Any, levels: int) -> None:
        nonlocal left
        left -= 1
        if not levels or not left:
            raise ValueError("nested too deeply" if left else f"more than {_MOST} values")
        if isinstance(part, str):
            whole(part)
        elif isinstance(part, Mapping):
            for name, each in part.items():
                look(name, levels - 1)
                look(each, levels - 1)
        elif isinstance(part, list | tuple | set):
            for each in part:
                look(each, levels - 1)

    look(value, DEEPEST)


def whole(text: str) -> str:
    """The text; raises ValueError for half of a surrogate pair, which is no character: nothing can write it."""
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise ValueError(f"half of a surrogate pair, U+{ord(text[error.start]):04X}") from error
    return text


def once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """An object of these keys and values; raises ValueError for a key written twice, which would hide the first."""
    found = dict(pairs)
    if len(found) < len(pairs):
        raise ValueError(f"keys written twice: {', '.join(twice(key for key, _ in pairs))}")
    return found


def twice(names: Iterable[str]) -> list[str]:
    """The names that come more than once."""
    return sorted(name for name, count in Counter(names).items() if count > 1)


def _texts(pairs: list[tuple[Any, Any]]) -> list[tuple[str, Any]]:
    return [(str(key), value) for key, value in pairs]


class _Loader(yaml.SafeLoader):
    """YAML that refuses a key written twice, where YAML itself would silently drop the first, and knows no dates."""


_Loader.add_constructor(
    "tag:yaml.org,2002:map", lambda loader, node: once(_texts(loader.construct_pairs(node, deep=True)))
)
_Loader.yaml_implicit_resolvers = {
    first: [(tag, pattern) for tag, pattern in resolvers if tag != _TIMESTAMP]
    for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
}
