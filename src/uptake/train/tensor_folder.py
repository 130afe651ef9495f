"""Folders of tensors with a manifest, by which one that a disk or a power cut has damaged is known when it is read."""

import json
from collections.abc import Mapping
from pathlib import Path
from zlib import crc32

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from uptake.errors import UptakeError
from uptake.support.folders import replacing_folder

# What stands in a folder beside its tensors: the size and the CRC-32 of each file. A CRC finds every burst of up to 32
# wrong bits and all but one in 4e9 other damages, at half the cost of the quickest hash of the standard library.
MANIFEST = "manifest.json"

_BLOCK = 1 << 20


class DamagedFolder(UptakeError):
    """A folder of tensors is not what was written."""


def write_tensors(folder: Path, groups: Mapping[str, Mapping[str, Tensor]]) -> None:
    """Write groups of tensors, a file each, to a folder that appears whole and replaces one that is there.

    Raises UptakeError where the disk refuses.
    """
    try:
        with replacing_folder(folder) as partial:
            for name, tensors in groups.items():
                plain = {key: tensor.detach().contiguous() for key, tensor in tensors.items()}
                save_file(plain, partial / f"{name}.safetensors")
            contents = {path.name: _content(path) for path in sorted(partial.iterdir())}
            (partial / MANIFEST).write_text(json.dumps(contents, indent=1) + "\n", encoding="utf-8")
    except (OSError, SafetensorError) as error:
        raise UptakeError(f"{folder}: cannot be written ({error})") from error


def read_tensors(folder: Path, name: str) -> dict[str, Tensor]:
    """The tensors of one group; raises DamagedFolder where they are not what the manifest says."""
    path = folder / f"{name}.safetensors"
    try:
        expected = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))[path.name]
        if (found := _content(path)) != expected:
            what = "bytes" if found["bytes"] != expected["bytes"] else "crc32"
            raise DamagedFolder(f"{path} is damaged: {what} {found[what]} instead of {expected[what]}")
        return load_file(path)
    except (OSError, ValueError, TypeError, LookupError, SafetensorError) as error:
        raise DamagedFolder(f"{path} is damaged: {error}") from error


def exact(numbers: Mapping[str, float]) -> dict[str, Tensor]:
    """Numbers as tensors that lose no bit of them."""
    return {name: torch.tensor(number, dtype=torch.float64) for name, number in numbers.items()}


def _content(path: Path) -> dict[str, int]:
    found, size = 0, 0
    with path.open("rb") as file:
        while block := file.read(_BLOCK):
            found, size = crc32(block, found), size + len(block)
    return {"bytes": size, "crc32": found}
