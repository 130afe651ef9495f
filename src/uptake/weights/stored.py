"""Stored tensors: those of a model's folder in safetensors, read one at a time, and a file that is written so."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self, final

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from uptake.errors import ModelError
from uptake.support.texts import json_file

INDEX: Final = "model.safetensors.index.json"
WHOLE: Final = "model.safetensors"

# The kinds of numbers that are computed with, as safetensors names them, from the widest.
FLOATS: Final[Mapping[str, torch.dtype]] = {
    "F64": torch.float64,
    "F32": torch.float32,
    "F16": torch.float16,
    "BF16": torch.bfloat16,
}


@dataclass(frozen=True)
class StoredTensor:
    """A tensor on disk: its file, its kind as safetensors names it ("BF16"), and its shape."""

    path: Path
    kind: str
    shape: tuple[int, ...]

    @property
    def is_float(self) -> bool:
        return self.kind in FLOATS

    def read(self, name: str) -> Tensor:
        """The tensor, mapped from its file; no page of it stays in memory once it is dropped."""
        with safe_open(self.path, "pt") as shard:
            tensor: Tensor = shard.get_tensor(name)
        return tensor


def stored_tensors(folder: Path) -> dict[str, StoredTensor]:
    """The tensors of a model's folder by name, in all its shards.

    Raises ModelError where there is no safetensors file, one is damaged, or a tensor that the index names is missing.
    """
    files = _weight_map(folder)
    found: dict[str, StoredTensor] = {}
    for file in sorted(set(files.values())) or [WHOLE]:
        found |= stored_in(folder / file)
    if missing := sorted(files.keys() - found.keys()):
        raise ModelError(f"{folder}: {missing[0]} is missing from {files[missing[0]]}, where {INDEX} looks for it")
    return found


def stored_in(path: Path) -> dict[str, StoredTensor]:
    """The tensors of one file by name; ModelError where it cannot be read."""
    if not path.is_file():
        problem = f"no {path.name}: its weights are read one by one from safetensors"
        raise ModelError(f"{path.parent}: {problem} (allowed: a folder that Transformers saves)")
    try:
        with safe_open(path, "pt") as shard:
            slices = {name: shard.get_slice(name) for name in shard.keys()}  # noqa: SIM118  # it is no mapping
            return {name: StoredTensor(path, each.get_dtype(), (*each.get_shape(),)) for name, each in slices.items()}
    except (OSError, SafetensorError) as error:
        raise ModelError(f"{path}: cannot be read: {error}") from error


def written_index(folder: Path, sizes: Mapping[str, int]) -> str | None:
    """The index of shards like those of a folder, for tensors of such sizes in bytes; None where it has none."""
    if not (files := _weight_map(folder)):
        return None
    return json.dumps({"metadata": {"total_size": sum(sizes.values())}, "weight_map": files}, indent=2) + "\n"


def _weight_map(folder: Path) -> dict[str, str]:
    """The shard of every tensor; empty where all are in one file."""
    path = folder / INDEX
    if not path.is_file():
        return {}
    try:
        files: Any = json_file(path)["weight_map"]
        return {str(name): Path(file).name for name, file in files.items()}
    except (OSError, ValueError, LookupError, TypeError, AttributeError) as error:
        raise ModelError(f"{path}: no index of shards: {error}") from error


@final
class TensorFile:
    """A safetensors file that is written piece by piece, so that none of its tensors is ever held whole.

    `names` is the order in which they are written: the widest numbers first, so that every one is aligned.
    """

    def __init__(self, path: Path, layout: Mapping[str, StoredTensor]) -> None:
        self.names: Sequence[str] = sorted(layout, key=lambda name: (-_width(layout[name].kind), name))
        header: dict[str, Any] = {"__metadata__": {"format": "pt"}}
        end = 0
        for name in self.names:
            each = layout[name]
            start, end = end, end + size_of(each)
            header[name] = {"dtype": each.kind, "shape": each.shape, "data_offsets": [start, end]}
        text = json.dumps(header, separators=(",", ":")).encode()
        text += b" " * (-len(text) % 8)
        self._file = path.open("wb")
        self._file.write(len(text).to_bytes(8, "little") + text)

    def write(self, piece: Tensor) -> None:
        """Append the next numbers, in the kind that the layout says."""
        self._file.write(piece.contiguous().reshape(-1).view(torch.uint8).numpy().data)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._file.close()


def size_of(tensor: StoredTensor) -> int:
    """Bytes of a tensor."""
    count = 1
    for length in tensor.shape:
        count *= length
    return count * _width(tensor.kind)


def _width(kind: str) -> int:
    """Bytes of a number of a kind: "BF16" 2, "BOOL" 1, "F8_E4M3" 1."""
    bits = "".join(digit for digit in kind.partition("_")[0] if digit.isdigit())
    return int(bits or "8") // 8
