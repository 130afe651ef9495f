"""Whole models, extrapolated tensor by tensor into folders: of neither is more in memory than one tensor."""

import json
import shutil
from collections import defaultdict
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

import torch
from torch import Tensor

from uptake.errors import InputError, ModelError
from uptake.support.progress import progress_bar
from uptake.weights.alike import BESIDE, TensorPair, tensor_pairs
from uptake.weights.extrapolation import Movements, extrapolated
from uptake.weights.stored import FLOATS, INDEX, StoredTensor, TensorFile, size_of, written_index

# Numbers of a tensor that are worked on at a time: what is made of them stays in the processor's cache.
_PIECE: Final = 1 << 20

_KINDS: Final = {str(kind).removeprefix("torch."): name for name, kind in FLOATS.items()}


def extrapolate_whole(
    start: Path, aligned: Path, alphas: Sequence[float], folders: Sequence[Path], dtype: str = "auto"
) -> Movements:
    """Write a model for every alpha into its folder, in one pass over both, and say how far the two are apart.

    A folder is like that of the aligned model: its shards, configuration, tokenizer, chat template and generation
    configuration. With `dtype` "auto" numbers are rounded, once, to the kind that they have there; else all that move
    are to that kind. Raises as `tensor_pairs` does, and ModelError for a result that is not finite.
    """
    pairs = tensor_pairs(start, aligned)
    layout = {name: _written(pair, dtype) for name, pair in pairs.items()}
    for folder in folders:
        copy_beside(aligned, folder)
        if dtype != "auto":
            _name_dtype(folder / "config.json", dtype)
        if (index := written_index(aligned, {name: size_of(each) for name, each in layout.items()})) is not None:
            (folder / INDEX).write_text(index, encoding="utf-8")
    shards: dict[str, list[str]] = defaultdict(list)
    for name, pair in pairs.items():
        shards[pair.aligned.path.name].append(name)
    movements = Movements(alphas)
    with progress_bar("tensors", len(pairs)) as bar:
        for file, names in sorted(shards.items()):
            with ExitStack() as stack:
                part = {name: layout[name] for name in names}
                files = [stack.enter_context(TensorFile(folder / file, part)) for folder in folders]
                for name in files[0].names:
                    _extrapolate_one(name, pairs[name], part[name], files, movements)
                    bar.advance()
    return movements


def copy_beside(model: Path, folder: Path) -> None:
    """Copy what a model's folder holds beside its weights and its card."""
    folder.mkdir(parents=True, exist_ok=True)
    for path in (path for pattern in BESIDE for path in model.glob(pattern) if path.is_file()):
        target = folder / path.relative_to(model)
        target.parent.mkdir(exist_ok=True)
        shutil.copyfile(path, target)


def _extrapolate_one(
    name: str, pair: TensorPair, layout: StoredTensor, files: Sequence[TensorFile], movements: Movements
) -> None:
    aligned = pair.aligned.read(name)
    if not pair.moves:
        for file in files:
            file.write(aligned)
        return
    start, kind = pair.start.read(pair.start_name), FLOATS[layout.kind]
    movement = movements.of(name)
    pieces = (tensor.reshape(-1).split(_PIECE) for tensor in (start, aligned))
    for before, after in zip(*pieces, strict=True):
        rounded = [extrapolated(before, after, alpha).to(kind) for alpha in movements.alphas]
        for alpha, result, file in zip(movements.alphas, rounded, files, strict=True):
            _check_finite(name, alpha, result, kind)
            file.write(result)
        movement.take(before, after, rounded)


def _check_finite(name: str, alpha: float, result: Tensor, kind: torch.dtype) -> None:
    if not result.isfinite().all():
        problem = f"{name} is not finite {alpha:g} beyond the aligned model, in {str(kind).removeprefix('torch.')}"
        raise ModelError(f"{problem} (allowed: finite weights; a smaller alpha, or --dtype float32)")


def _written(pair: TensorPair, dtype: str) -> StoredTensor:
    """How a tensor is laid out in what is written."""
    if dtype == "auto" or not pair.moves:
        return pair.aligned
    if dtype not in _KINDS:
        raise InputError(f"{dtype!r}", field="dtype", allowed=f"auto, {', '.join(_KINDS)}")
    return replace(pair.aligned, kind=_KINDS[dtype])


def _name_dtype(path: Path, dtype: str) -> None:
    config: Mapping[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    named = {name: value for name, value in config.items() if name not in ("dtype", "torch_dtype")}
    path.write_text(json.dumps({**named, "dtype": dtype}, indent=2) + "\n", encoding="utf-8")
