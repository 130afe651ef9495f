"""A room whose files are its registry: the names there are, and a file's module by its name."""

import difflib
import pkgutil
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Any

from uptake.errors import InputError


@dataclass(frozen=True)
class Registry:
    """The files of a package, each of them `kind`, but for those that are `parts` of others.

    `Registry("uptake.edit_sets", "edit set", frozenset({"items"}))`.
    """

    package: str
    kind: str
    parts: frozenset[str]

    def names(self) -> list[str]:
        """The names there are."""
        path: Sequence[str] = import_module(self.package).__path__
        return sorted(module.name for module in pkgutil.iter_modules(path) if module.name not in self.parts)

    def find(self, name: str) -> ModuleType:
        """The module of a name; raises InputError with the nearest name for one that is not there."""
        known, wanted = self.names(), name.strip().lower().replace("-", "_")
        if wanted not in known:
            near = difflib.get_close_matches(wanted, known, n=1)
            hint = f"; did you mean {near[0]}?" if near else ""
            raise InputError(f"there is no {self.kind} {name!r}{hint}", allowed=", ".join(known))
        return import_module(f"{self.package}.{wanted}")

    def rows(self, name: str, data: Path) -> Iterator[Any]:
        """What the `local` of a file reads in its `FOLDER` under the data folder.

        Raises InputError for an unknown name, a folder that is not there, and a row that cannot be read.
        """
        module = self.find(name)
        folder = data / module.FOLDER
        if not folder.is_dir():
            raise InputError(
                f"no folder {module.FOLDER!r}", path=data, allowed="a folder of data sets, one folder each"
            )
        rows: Iterator[Any] = module.local(folder)
        return rows
