"""Names of a package that are loaded when they are first used: what a command does not need costs it no time."""

from collections.abc import Callable, Mapping, Sequence
from importlib import import_module
from typing import Any


def lazy(package: str, homes: Mapping[str, Sequence[str]]) -> Callable[[str], Any]:
    """The `__getattr__` of a package: its names by the file that holds them.

    `__getattr__ = lazy(__name__, {"chat": ("ChatFormat",)})`. No name is that of a file of the package: once that file
    is loaded, Python finds it by this name, and not what it holds.
    """
    home = {name: file for file, names in homes.items() for name in names}

    def get(name: str) -> Any:
        if name not in home:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        return getattr(import_module(f"{package}.{home[name]}"), name)

    return get
