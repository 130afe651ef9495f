"""Checkpoints: weights, optimizer, reference, random state and cursor, written so that a kill at any moment is safe."""

import logging
import re
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from uptake.errors import UptakeError
from uptake.train.tensor_folder import DamagedFolder, read_tensors, write_tensors

log = logging.getLogger(__name__)

MAX_SNAPSHOTS = 2

# A folder's name is the cursor of its snapshot; they sort from the oldest to the newest.
_NAME = re.compile(r"(\d{2,})-(\d{5,})-(\d{8,})-(\d{8,})")


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
    """Write a snapshot under `folder/checkpoints`; it counts once its last rename is done, and older ones go.

    So do later ones: whoever writes this one could not read them.
    """
    cursor, root = snapshot.cursor, _root(folder)
    target = root / f"{cursor.stage:02d}-{cursor.round_:05d}-{cursor.step:08d}-{cursor.done:08d}"
    groups = {"weights": snapshot.weights, "optimizer": snapshot.optimizer, "reference": snapshot.reference}
    try:
        write_tensors(target, {**groups, "rng": {"torch": snapshot.rng}})
    except UptakeError as error:
        raise UptakeError(f"{error}; the checkpoint before it is whole") from error
    recent = [path for path in _snapshots(folder) if path <= target][-MAX_SNAPSHOTS:]
    for path in root.iterdir():
        if path not in recent:
            shutil.rmtree(path, ignore_errors=True)


def load(folder: Path) -> Snapshot | None:
    """The newest whole snapshot; None where there is none.

    One that is damaged is passed over with a warning. Raises UptakeError where all are.
    """
    damages: list[str] = []
    for path in reversed(_snapshots(folder)):
        try:
            weights, optimizer, reference, rng = (
                read_tensors(path, name) for name in ("weights", "optimizer", "reference", "rng")
            )
            snapshot = Snapshot(_cursor(path), weights, optimizer, reference, rng["torch"])
        except DamagedFolder as error:
            damages.append(str(error))
            continue
        if damages:
            log.warning("%s; the run goes on from the checkpoint before, %s", "; ".join(damages), path)
        return snapshot
    if damages:
        anew = f"remove {_root(folder)} to take all steps again, from what was judged"
        raise UptakeError(f"{'; '.join(damages)}; no checkpoint is whole ({anew})")
    return None


def newest(folder: Path) -> Cursor | None:
    """The cursor of the newest snapshot, whole or not; None where there is none."""
    found = _snapshots(folder)
    return _cursor(found[-1]) if found else None


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


def _root(folder: Path) -> Path:
    return folder / "checkpoints"


def _snapshots(folder: Path) -> list[Path]:
    return sorted(path for path in _root(folder).glob("*") if _NAME.fullmatch(path.name))


def _cursor(path: Path) -> Cursor:
    stage, round_, step, done = map(int, path.name.split("-"))
    return Cursor(stage, round_, done, step)
