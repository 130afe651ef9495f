"""Texts that are too many for the memory, in a temporary file."""

import os
from array import array
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryFile, gettempdir
from typing import Protocol, final
from weakref import finalize

import numpy as np
from numpy.typing import NDArray

from uptake.data.write import disk_errors


class Texts(Protocol):
    """Texts by number: those of a list, or of a `TextFile`."""

    def __len__(self) -> int: ...

    def __getitem__(self, index: int, /) -> str: ...


@final
class TextFile(Texts):
    """Texts in a file without a name, which is gone with the process: `texts.append("Thanks!")`, `texts[0]`.

    Eight bytes a text are held. The file is where temporary ones are (TMPDIR). Raises UptakeError where the disk
    refuses.
    """

    def __init__(self) -> None:
        with disk_errors(Path(gettempdir())):
            self._file = TemporaryFile()  # noqa: SIM115 - open as long as its texts are read
        self._ends = array("q", [0])
        finalize(self, self._file.close)

    def __len__(self) -> int:
        return len(self._ends) - 1

    def __getitem__(self, index: int, /) -> str:
        start, stop = self._ends[index : index + 2]
        with disk_errors(Path(gettempdir())):
            self._file.flush()
            return os.pread(self._file.fileno(), stop - start, start).decode("utf-8", "surrogatepass")

    def __iter__(self) -> Iterator[str]:
        return map(self.__getitem__, range(len(self)))

    def append(self, text: str) -> None:
        """Adds a text at the end."""
        spelled = text.encode("utf-8", "surrogatepass")
        with disk_errors(Path(gettempdir())):
            self._file.write(spelled)
        self._ends.append(self._ends[-1] + len(spelled))

    def at(self, numbers: NDArray[np.int64]) -> Texts:
        """The texts of these numbers, in their order."""
        return _Chosen(self, numbers)


@dataclass(frozen=True)
class _Chosen(Texts):
    texts: TextFile
    numbers: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.numbers)

    def __getitem__(self, index: int, /) -> str:
        return self.texts[int(self.numbers[index])]
