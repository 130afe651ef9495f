"""Two models that may be extrapolated: one architecture, one vocabulary, the same tensors of the same shapes."""

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import torch
import transformers
from huggingface_hub import snapshot_download
from transformers import AutoConfig, AutoTokenizer

from uptake.errors import InputError, ModelError
from uptake.models.adapters import refuse_no_folder
from uptake.weights.stored import StoredTensor, stored_tensors

log = logging.getLogger(__name__)

# What a folder of a model brings beside its weights; not what was said of how well it does.
BESIDE: Final = (
    *("config.json", "generation_config.json", "chat_template.*", "additional_chat_templates/*", "tokenizer*"),
    *("special_tokens_map.json", "added_tokens.json", "vocab*", "merges.txt", "*.model", "*.tiktoken", "LICENSE*"),
)
# Settings without which the same tensors mean another model, and those that say nothing of one.
_SHAPING: Final = (
    *("model_type", "architectures", "num_attention_heads", "num_key_value_heads", "head_dim", "hidden_act"),
    *("hidden_activation", "num_experts_per_tok", "tie_word_embeddings"),
)
_UNTOLD: Final = (
    *("_name_or_path", "transformers_version", "dtype", "torch_dtype", "use_cache", "quantization_config"),
    *("bos_token_id", "eos_token_id", "pad_token_id", "initializer_range", "_attn_implementation"),
)


@dataclass(frozen=True)
class TensorPair:
    """The tensor of a name in the aligned model, and the one that it began as, which may have the name it is tied to.

    `moves` is false for buffers and whatever is no fraction: these are the aligned model's.
    """

    start_name: str
    start: StoredTensor
    aligned: StoredTensor
    moves: bool


def local_folder(name: str, *weights: str) -> Path:
    """The folder of a model: the one that is named, or that of a name on the Hub with such `weights`, downloaded."""
    if Path(name).is_dir():
        return Path(name)
    refuse_no_folder(name)
    try:
        return Path(snapshot_download(name, allow_patterns=[*BESIDE, "*.json", *weights]))
    except Exception as error:
        line = str(error).strip().partition("\n")[0]
        raise ModelError(f"{name}: neither a folder nor a model that the Hub gives: {line}") from error


def tensor_pairs(start: Path, aligned: Path) -> dict[str, TensorPair]:
    """The tensors of the aligned model by name, each with the one that it began as.

    Raises InputError where the two are no two states of one model, and ModelError where a folder cannot be read, holds
    quantized weights or lacks a tensor. Settings in which they differ otherwise are the aligned model's, with a
    warning.
    """
    config = _check_settings(start, aligned)
    check_tokenizers(start, aligned)
    tied, buffers = _tied_and_buffers(config, aligned)
    before, after = stored_tensors(start), stored_tensors(aligned)
    found: dict[str, TensorPair] = {}
    for name, tensor in after.items():
        old = name if name in before else tied.get(name, name)
        if old not in before:
            raise _unpaired(name, aligned, start)
        moves = tensor.is_float and name not in buffers
        found[name] = TensorPair(old, before[old], tensor, moves)
        _check_tensors(name, found[name])
    lost = [name for name in before if name not in after and tied.get(name) not in after]
    if lost:
        raise _unpaired(lost[0], start, aligned)
    return found


def check_tokenizers(start: Path, aligned: Path) -> None:
    """Raise InputError where two folders do not spell the same tokens by the same ids."""
    ours, theirs = (_vocabulary(folder) for folder in (start, aligned))
    if ours != theirs:
        some = ", ".join(f"{token!r} -> {id_}" for token, id_ in sorted(set(ours.items()) ^ set(theirs.items()))[:3])
        problem = f"{start} and {aligned} have different tokenizers, for example {some}"
        raise InputError(problem, field="aligned", allowed="two models with one vocabulary")


def _vocabulary(folder: Path) -> dict[str, int]:
    try:
        vocabulary: dict[str, int] = AutoTokenizer.from_pretrained(folder, trust_remote_code=False).get_vocab()
    except Exception as error:
        line = str(error).strip().partition("\n")[0]
        raise ModelError(f"{folder}: no tokenizer could be loaded: {line}") from error
    return vocabulary


def _check_settings(start: Path, aligned: Path) -> Any:
    """Compare the configurations of two models; returns that of the aligned one."""
    first, second = (_config(folder) for folder in (start, aligned))
    before, after = first.to_dict(), second.to_dict()
    for name in _SHAPING:
        if before.get(name) != after.get(name):
            problem = f"another architecture: {name} is {before.get(name)!r} in {start}, {after.get(name)!r}"
            raise InputError(f"{problem} in {aligned}", field="aligned", allowed="a model that was trained from START")
    for name in sorted((before.keys() | after.keys()) - {*_UNTOLD, *_SHAPING}):
        if before.get(name) != after.get(name):
            was, now = (repr(each.get(name)) for each in (before, after))
            log.warning("%s is %s in %s and %s in %s, which is taken", name, was, start, now, aligned)
    return second


def _config(folder: Path) -> Any:
    try:
        config: Any = AutoConfig.from_pretrained(folder, trust_remote_code=False)
    except Exception as error:
        line = str(error).strip().partition("\n")[0]
        raise ModelError(f"{folder}: no configuration of a model could be loaded: {line}") from error
    if getattr(config, "quantization_config", None) is not None:
        problem = "its weights are quantized: what lies beyond them is none of their few values"
        raise ModelError(f"{folder}: {problem} (allowed: the model that it was made of, in fp32, bf16 or fp16)")
    return config


def _tied_and_buffers(config: Any, folder: Path) -> tuple[dict[str, str], set[str]]:
    """The other name of every tied weight, and the names of buffers, from the model without its weights."""
    name = (config.architectures or [None])[0]
    architecture: Any = getattr(transformers, name or "", None)
    if architecture is None:
        problem = f"its architecture is {name}, which this Transformers does not know"
        raise ModelError(f"{folder}: {problem} (allowed: a model with an architecture of Transformers in config.json)")
    with torch.device("meta"):
        model = architecture(config)
    ties: Mapping[str, str] = model.all_tied_weights_keys or {}
    return {**ties, **{source: target for target, source in ties.items()}}, {name for name, _ in model.named_buffers()}


def _check_tensors(name: str, pair: TensorPair) -> None:
    start, aligned = pair.start, pair.aligned
    if start.shape != aligned.shape:
        problem = f"{name} is {start.shape} in {start.path} and {aligned.shape} in {aligned.path}"
        raise InputError(problem, field="aligned", allowed="tensors of the same shapes")
    for each in (start, aligned):
        if each.kind.startswith(("F8", "F4", "F6")):
            problem = f"{each.path}: {name} is quantized: it holds {each.kind}"
            raise ModelError(f"{problem} (allowed: {', '.join(('fp32', 'bf16', 'fp16'))} weights)")
    if start.is_float != aligned.is_float:
        problem = f"{name} holds {start.kind} in {start.path} and {aligned.kind} in {aligned.path}"
        raise InputError(problem, field="aligned", allowed="numbers of one sort")


def _unpaired(name: str, here: Path, there: Path) -> InputError:
    allowed = "two folders with tensors of the same names; loaded and saved by Transformers they have today's"
    return InputError(f"{name} is in {here} and missing from {there}", field="aligned", allowed=allowed)
