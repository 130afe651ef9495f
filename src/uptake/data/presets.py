"""Texts that come with Uptake under a name, and that anyone can replace by a file of their own."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from uptake.errors import InputError

T = TypeVar("T")


@dataclass(frozen=True)
class Presets:
    """The text files of a folder, each of them `kind`: `Presets(Path("instructions"), "instructions")`."""

    folder: Path
    kind: str

    def names(self) -> list[str]:
        """The names there are."""
        return sorted(path.stem for path in self.folder.glob("*.txt"))

    def load(self, source: str | Path, parse: Callable[[str], T]) -> T:
        """What `parse` makes of the text of a preset's name or of a file, without line breaks at its end.

        Raises InputError, naming the file, where it cannot be read or `parse` refuses it.
        """
        path = self.folder / f"{source}.txt" if str(source) in self.names() else Path(source)
        try:
            return parse(path.read_text(encoding="utf-8").rstrip("\n"))
        except OSError as error:
            allowed = f"{', '.join(self.names())}, or the path of a text file"
            raise InputError(f"no such {self.kind}: {error.strerror}", path=path, allowed=allowed) from error
        except UnicodeDecodeError as error:
            raise InputError(f"not UTF-8 text: {error.reason}", path=path) from error
        except InputError as error:
            raise InputError(error.problem, path=path, field=error.field, allowed=error.allowed) from None
