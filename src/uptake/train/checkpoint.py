"""Checkpoints: weights, optimizer, reference, random state and cursor, written so that a kill at any moment is safe."""

import json
import os
import shutil
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from uptake.data import replacing
from uptake.errors import UptakeError

KEPT = 2


@dataclass(frozen=True)
class Cursor:
    """Cursor of a run: `step` optimizer steps taken in all, `done` of them in this round of this stage."""

    stage: int = 0
    round_: int = 0
    done: int = 0
    step: int = 0


@dataclass(frozen=True)
class Snapshot:
    """Snapshot of all that a run needs to go on as if it had never stopped."""

    cursor: Cursor
    weights: Mapping[str, Tensor]
    optimizer: Mapping[str, Tensor]
    reference: Mapping[str, Tensor]
    rng: Tensor


def save(folder: Path, snapshot: Snapshot) -> None:
    """Write a snapshot under `folder/checkpoints`; it counts once its last rename is done, and older ones go."""
    root = folder / "checkpoints"
    cursor = snapshot.cursor
    target = root / f"{cursor.stage:02d}-{cursor.round_:05d}-{cursor.step:08d}-{cursor.done:08d}"
    partial = root / f"{target.name}.partial"
    try:
        shutil.rmtree(partial, ignore_errors=True)
        partial.mkdir(parents=True)
        tensors = {"weights": snapshot.weights, "optimizer": snapshot.optimizer, "reference": snapshot.reference}
        for name, group in tensors.items():
            save_file(_plain(group), partial / f"{name}.safetensors")
        save_file({"torch": snapshot.rng}, partial / "rng.safetensors")
        (partial / "cursor.json").write_text(json.dumps(asdict(cursor)))
        _sync(partial)
        shutil.rmtree(target, ignore_errors=True)
        os.replace(partial, target)
    except (OSError, SafetensorError) as error:
        shutil.rmtree(partial, ignore_errors=True)
        raise UptakeError(
            f"{target}: the checkpoint could not be written ({error}); the one before it is whole"
        ) from error
    for old in _all(root)[:-KEPT]:
        shutil.rmtree(old)


def save_weights(path: Path, weights: Mapping[str, Tensor]) -> None:
    """Write weights alone to a file that appears whole; raises UptakeError where the disk refuses."""
    with replacing(path, overwrite=True) as temporary:
        try:
            save_file(_plain(weights), temporary)
        except SafetensorError as error:
            raise UptakeError(f"{path}: the weights could not be written ({error})") from error


def load(folder: Path) -> Snapshot | None:
    """The newest whole snapshot; None where there is none."""
    found = _all(folder / "checkpoints")
    if not found:
        return None
    newest = found[-1]
    cursor = Cursor(**json.loads((newest / "cursor.json").read_text()))
    weights, optimizer, reference = (
        load_file(newest / f"{name}.safetensors") for name in ("weights", "optimizer", "reference")
    )
    rng = load_file(newest / "rng.safetensors")["torch"]
    return Snapshot(cursor, weights, optimizer, reference, rng)


def optimizer_tensors(optimizer: torch.optim.Optimizer) -> dict[str, Tensor]:
    """An optimizer's state as flat named tensors; its settings come from the recipe."""
    state: dict[int, dict[str, Any]] = optimizer.state_dict()["state"]
    return {f"{index}.{key}": torch.as_tensor(value) for index, slot in state.items() for key, value in slot.items()}


def restore_optimizer(optimizer: torch.optim.Optimizer, tensors: Mapping[str, Tensor]) -> None:
    """Put flat named tensors back into a fresh optimizer over the same weights."""
    state: dict[int, dict[str, Tensor]] = {}
    for name, value in tensors.items():
        index, key = name.split(".", 1)
        state.setdefault(int(index), {})[key] = value
    optimizer.load_state_dict({**optimizer.state_dict(), "state": state})


def _plain(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {name: tensor.detach().contiguous() for name, tensor in tensors.items()}


def _all(root: Path) -> list[Path]:
    return sorted(path for path in root.glob("*-*-*-*") if path.suffix != ".partial")


def _sync(folder: Path) -> None:
    for path in folder.iterdir():
        with path.open("rb") as file:
            os.fsync(file.fileno())
