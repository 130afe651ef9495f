"""Adapters (LoRA), extrapolated as what they add to their base, `B A`, and never as A and B.

`(B + a dB) (A + a dA)` is not `B A + a d(B A)`: it has products of the one adapter's B with the other's A. So an
adapter over the start itself grows by a factor on B alone, and what lies beyond another adapter is a longer product.
"""

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from uptake.errors import InputError, ModelError
from uptake.models.adapters import has_file, split_adapter
from uptake.models.low_rank import check_products, low_rank_part, name_of_a, product_norm, summed_products
from uptake.weights.alike import check_tokenizers, local_folder
from uptake.weights.extrapolation import Movements, extrapolated
from uptake.weights.stored import stored_in, stored_tensors
from uptake.weights.whole import copy_beside

CONFIG: Final = "adapter_config.json"
WEIGHTS: Final = "adapter_model.safetensors"

_WHY: Final = "the way between two adapters is that of the products B A, so that A and B cannot be extrapolated each"
_MERGED: Final = "two whole models, with each adapter merged into its base"

Tensors = Mapping[str, Tensor]


@dataclass(frozen=True)
class StoredAdapter:
    """An adapter's folder with its settings, its weights, which are few, and the base model that it names."""

    folder: Path
    config: Mapping[str, Any]
    tensors: Tensors
    base: str


def stored_adapter(name: str) -> StoredAdapter | None:
    """The adapter in a folder or under a Hub name; None for a whole model. ModelError where it cannot be read."""
    base, over = split_adapter(name)
    if over is None:
        return None
    folder = local_folder(over, WEIGHTS)
    stored_in(folder / WEIGHTS)  # which says what is wrong with it
    return StoredAdapter(
        folder, json.loads((folder / CONFIG).read_text(encoding="utf-8")), load_file(folder / WEIGHTS), base
    )


def extrapolate_over_base(
    start: str, aligned: StoredAdapter, alphas: Sequence[float], folders: Sequence[Path]
) -> Movements:
    """Write for every alpha the adapter that lies beyond `aligned` as seen from its base: B grows by `1 + alpha`.

    Whole weights that it brings are extrapolated from those of the base. Raises InputError where `start` is not its
    base, or has other tokens.
    """
    check_products(str(aligned.folder), aligned.config)
    if not _same_model(start, aligned.base):
        problem = f"{aligned.folder} is an adapter over {aligned.base}, which is not {start}"
        raise InputError(problem, field="start", allowed=f"its base, {aligned.base}")
    if has_file(aligned.folder, "tokenizer_config.json"):
        check_tokenizers(local_folder(start), aligned.folder)
    movements = Movements(alphas)
    made: list[dict[str, Tensor]] = [{} for _ in alphas]
    for name, tensor in aligned.tensors.items():
        part = low_rank_part(name)
        before = torch.zeros_like(tensor) if part == "B" else tensor
        if part is None:
            before = _of_base(local_folder(start, "*.safetensors"), name, tensor)
        results = [tensor if part == "A" else extrapolated(before, tensor, alpha).to(tensor.dtype) for alpha in alphas]
        for each, result in zip(made, results, strict=True):
            each[name] = result
        if part != "A":
            size = None if part is None else product_norm(aligned.tensors[name_of_a(name)], tensor)
            scale = 1.0 if size is None else _scale(aligned.config, name)
            movements.of(_layer(name)).take(before, tensor, results, norm=None if size is None else scale * size)
    for each, folder in zip(made, folders, strict=True):
        _write(folder, aligned, each, aligned.config)
    return movements


def extrapolate_over_adapter(
    start: StoredAdapter, aligned: StoredAdapter, alphas: Sequence[float], folders: Sequence[Path]
) -> Movements:
    """Write for every alpha the adapter `(1 + alpha) B1 A1 - alpha B0 A0`, exactly, by a product of twice the rank.

    Raises InputError for adapters that are no two states of one: over other bases, of other layers, ranks or tokens.
    """
    for each in (start, aligned):
        check_products(str(each.folder), each.config, one_scale=True)
    _check_begun(start, aligned)
    movements = Movements(alphas)
    difference = summed_products([aligned.tensors, start.tensors], [1, -1])
    for name, tensor in aligned.tensors.items():
        if low_rank_part(name) == "B":
            norm = _scale(aligned.config, name) * product_norm(difference[name_of_a(name)], difference[name])
            wide = [extrapolated(start.tensors[name], tensor, alpha) for alpha in alphas]
            movements.of(_layer(name)).take(start.tensors[name], tensor, wide, norm=norm)
    longer = {name: 2 * aligned.config[name] for name in ("r", "lora_alpha")}
    for alpha, folder in zip(alphas, folders, strict=True):
        if alpha in (0, -1):
            _write(folder, aligned, start.tensors if alpha else aligned.tensors, aligned.config)
        else:
            tensors = summed_products([aligned.tensors, start.tensors], [1 + alpha, -alpha])
            _write(folder, aligned, tensors, {**aligned.config, **longer})
    return movements


def _check_begun(start: StoredAdapter, aligned: StoredAdapter) -> None:
    """Raise InputError where one adapter cannot have begun as the other."""
    if not _same_model(start.base, aligned.base):
        problem = f"{start.folder} is an adapter over {start.base}, and {aligned.folder} over {aligned.base}"
        raise InputError(problem, field="aligned", allowed=f"adapters over one base; or {_MERGED}")
    for name in ("r", "lora_alpha"):
        first, second = (each.config.get(name) for each in (start, aligned))
        if first != second:
            problem = f"{name} is {first} in {start.folder} and {second} in {aligned.folder}, which began as another"
            raise InputError(f"{problem}; {_WHY}", field="aligned", allowed=f"adapters of one rank; or {_MERGED}")
    first, second = ({name: each.shape for name, each in one.tensors.items()} for one in (start, aligned))
    if first != second:
        name = sorted(set(first.items()) ^ set(second.items()))[0][0]
        problem = f"{name} is not the same in {start.folder} and {aligned.folder}"
        raise InputError(f"{problem}; {_WHY}", field="aligned", allowed=f"adapters of the same layers; or {_MERGED}")
    if whole := [name for name in second if low_rank_part(name) is None]:
        problem = f"{whole[0]} is a whole weight beside the products of two adapters"
        raise InputError(problem, field="aligned", allowed=f"adapters without modules_to_save; or {_MERGED}")
    if all(has_file(each.folder, "tokenizer_config.json") for each in (start, aligned)):
        check_tokenizers(start.folder, aligned.folder)


def _same_model(one: str, other: str) -> bool:
    """Whether two names are those of one model, by what they hold where they name two folders."""
    if one == other:
        return True
    if not (Path(one).is_dir() and Path(other).is_dir()):
        return False
    if Path(one).samefile(other):
        return True
    ours, theirs = (stored_tensors(Path(name)) for name in (one, other))
    return ours.keys() == theirs.keys() and all(
        torch.equal(tensor.read(name), theirs[name].read(name)) for name, tensor in ours.items()
    )


def _of_base(home: Path, name: str, tensor: Tensor) -> Tensor:
    """The weight of the base that a whole weight of an adapter stands for."""
    in_base = name.removeprefix("base_model.model.")
    found = stored_tensors(home).get(in_base)
    if found is None or found.shape != tuple(tensor.shape):
        problem = (
            f"{name} is {tuple(tensor.shape)}, and {'missing from' if found is None else f'{found.shape} in'} {home}"
        )
        raise InputError(
            problem, field="aligned", allowed="an adapter whose whole weights are those of its base, moved"
        )
    return found.read(in_base)


def _layer(name: str) -> str:
    return name.removeprefix("base_model.model.").partition(".lora_")[0]


def _scale(config: Mapping[str, Any], name: str) -> float:
    """What PEFT multiplies a product by; patterns name layers by the end of their names."""
    rank, alpha = (
        next((value for end, value in config.get(pattern, {}).items() if _layer(name).endswith(end)), config[plain])
        for pattern, plain in (("rank_pattern", "r"), ("alpha_pattern", "lora_alpha"))
    )
    return float(alpha) / (math.sqrt(rank) if config.get("use_rslora") else rank)


def _write(folder: Path, like: StoredAdapter, tensors: Tensors, config: Mapping[str, Any]) -> None:
    if any(not each.isfinite().all() for each in tensors.values()):
        raise ModelError(f"{folder}: weights that are not finite (allowed: finite weights; a smaller alpha)")
    copy_beside(like.folder, folder)
    save_file({name: each.contiguous() for name, each in tensors.items()}, folder / WEIGHTS, {"format": "pt"})
    (folder / CONFIG).write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")
