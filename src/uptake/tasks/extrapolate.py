"""Extrapolate: models beyond an aligned one, as seen from where it began, for one alpha or several, in one pass."""

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetensors import SafetensorError

from uptake.data.lock import check_unlocked, locked
from uptake.errors import InputError, UptakeError
from uptake.models.card import read_card, write_card
from uptake.support.folders import replacing_folder
from uptake.weights import Movements, check_alpha
from uptake.weights.adapters import (
    StoredAdapter,
    extrapolate_over_adapter,
    extrapolate_over_base,
    stored_adapter,
)
from uptake.weights.alike import local_folder
from uptake.weights.whole import extrapolate_whole

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Extrapolation:
    """Extrapolation of a model: the folder of every alpha, and how far the two models were apart."""

    folders: tuple[Path, ...]
    movements: Movements


def extrapolate(
    start: str | Path, aligned: str | Path, folder: str | Path, alphas: Sequence[float] = (0.3,), dtype: str = "auto"
) -> Extrapolation:
    """Write `aligned + alpha (aligned - start)` as a model, or an adapter where `aligned` is one, in a new folder.

    Several alphas are subfolders of it, `alpha-0.3`; all appear at once or not at all. Raises InputError for a folder
    that exists, an alpha or dtype that means nothing, and two models that are no two states of one; ModelError where
    one cannot be read; UptakeError where nothing can be written or another process is at it.
    """
    out, first, second = Path(folder), str(start), str(aligned)
    names = [f"alpha-{alpha:g}" for alpha in alphas] if len(alphas) > 1 else [""]
    if not alphas or len({*names}) < len(names):
        raise InputError(f"{list(alphas)}", field="alpha", allowed="one alpha or more, all different")
    for alpha in alphas:
        check_alpha(alpha)
    check_unlocked(out)
    if out.exists():
        raise InputError("the folder exists", path=out, allowed="a new path")
    with locked(out):
        try:
            with replacing_folder(out) as partial:
                inside = [partial / name for name in names]
                movements = _written(first, second, alphas, inside, dtype)
                for index, each in enumerate(inside):
                    write_card({**read_card(second), "extrapolation": _entry(first, second, movements, index)}, each)
        except (OSError, SafetensorError) as error:
            raise UptakeError(f"{out}: the model could not be written ({error})") from error
    if not movements.total.changed:
        log.warning("%s and %s hold the same weights: nothing lies beyond", start, aligned)
    return Extrapolation(tuple(out / name for name in names), movements)


def _written(start: str, aligned: str, alphas: Sequence[float], folders: Sequence[Path], dtype: str) -> Movements:
    first, second = stored_adapter(start), stored_adapter(aligned)
    if second is None:
        if first is not None:
            problem = f"{start} is an adapter, and {aligned} a whole model"
            raise InputError(problem, field="start", allowed="the model with this adapter merged into its base")
        homes = [local_folder(name, "*.safetensors") for name in (start, aligned)]
        return extrapolate_whole(homes[0], homes[1], alphas, folders, dtype)
    if dtype != "auto":
        raise InputError(f"{dtype!r} for an adapter", field="dtype", allowed="auto: as its weights are saved")
    if isinstance(first, StoredAdapter):
        return extrapolate_over_adapter(first, second, alphas, folders)
    return extrapolate_over_base(start, second, alphas, folders)


def _entry(start: str, aligned: str, movements: Movements, index: int) -> dict[str, Any]:
    """What the card of an extrapolated model says of it."""
    total = movements.total
    facts = {"start": start, "aligned": aligned, "alpha": movements.alphas[index]}
    return {**facts, "norm": total.norm, "no_op": total.no_op(index)}
