"""Registry of the files of a package: the names there are, and a file's module by its name."""

import difflib
import pkgutil
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import import_module
from types import ModuleType

from uptake.errors import InputError


@dataclass(frozen=True)
class Registry:
    """The files of a package, each of them `kind`, but for those that are `parts` of others.

    `Registry("uptake.datasets", "data set", frozenset({"items", "parse"}))`.
    """

    package: str
    kind: str
    parts: frozenset[str]

    def names(self) -> list[str]:
        """The names there are."""
        path: Sequence[str] = import_module(self.package).__path__
        return sorted(module.name for module in pkgutil.iter_modules(path) if module.name not in self.parts)

    def spelled(self, name: str) -> str:
        """A name as the file spells it; raises InputError with the nearest name for one that is not there."""
        known, wanted = self.names(), name.strip().lower().replace("-", "_")
        if wanted not in known:
            near = difflib.get_close_matches(wanted, known, n=1)
            hint = f"; did you mean {near[0]}?" if near else ""
            raise InputError(f"there is no {self.kind} {name!r}{hint}", allowed=", ".join(known))
        return wanted

    def find(self, name: str) -> ModuleType:
        """The module of a name; raises as `spelled` does."""
        return import_module(f"{self.package}.{self.spelled(name)}")
