"""Load any causal language model of Transformers, from a folder or a Hub name, ready to score trees."""

import logging
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

import torch
from transformers import (
    AutoModelForCausalLM,
    AutoModelForSequenceClassification,
    AutoModelForTokenClassification,
    AutoTokenizer,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)

from uptake.errors import InputError, ModelError
from uptake.models import attention
from uptake.models.adapters import (
    Task,
    base_of,
    has_file,
    put_adapter,
    refuse_no_folder,
    saved_modules,
    split_adapter,
)
from uptake.models.card import read_card
from uptake.models.check import TOLERANCE, check_causal, check_trees, rope_tables
from uptake.models.language_model import LanguageModel
from uptake.models.memory import fitting_limits
from uptake.models.rope import declared_tables, forget_lengths
from uptake.models.upcast import HALVES

log = logging.getLogger(__name__)

_KINDS: Final[Mapping[Task, tuple[Any, str]]] = {
    "CausalLM": (AutoModelForCausalLM, "causal language model"),
    "SequenceClassification": (AutoModelForSequenceClassification, "sequence classifier"),
    "TokenClassification": (AutoModelForTokenClassification, "token classifier"),
}
_CONFIGS = ("config.json", "adapter_config.json")
_CLASSIFIERS = ("ForSequenceClassification", "ForTokenClassification")


def load(
    name: str | Path,
    *,
    dtype: str = "auto",
    device: str = "auto",
    adapter: str | Path | None = None,
    fp32_weights: bool = False,
) -> LanguageModel:
    """Load a model and its tokenizer.

    `name` is a Transformers folder, a PEFT adapter folder (its base model is loaded under it) or a Hub name. `dtype`
    "auto" is bfloat16 on CUDA and float32 elsewhere; `device` "auto" is CUDA where there is one. `fp32_weights` are for
    a model that is trained, and for its reference: a dtype of half precision is then bfloat16 under autocast, since at
    the usual rates most steps are lost in the rounding of a weight. An adapter's own weights are in fp32 anyway.

    Raises ModelError where the weights or the tokenizer are missing, incomplete or unreadable, and where an adapter
    and its base do not fit each other.
    """
    target = resolve_device(device)
    kind = resolve_dtype(dtype, target)
    refuse_no_model(name)
    wide = fp32_weights and kind in HALVES
    base, over = split_adapter(name, adapter)
    # An adapter saved with its own tokenizer may have been trained under another chat template than its base model.
    overriding = load_tokenizer(over) if over is not None and has_file(over, "tokenizer_config.json") else None
    with base_of(over, base):
        tokenizer = overriding or load_tokenizer(base)
        model: Any = _weights(base, torch.float32 if wide else kind)
    model.to(target)
    lm = prepare(model if over is None else put_adapter(model, over), tokenizer, str(name))
    lm = replace(lm, autocast=torch.bfloat16 if wide else None)
    return replace(lm, card=read_card(base) | (read_card(over) if over is not None else {}))


def load_classifier(
    name: str | Path, task: Task, *, device: torch.device, dtype: torch.dtype
) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    """A classifier of a folder or Hub name with its tokenizer; an adapter over one is merged into it.

    Raises ModelError where weights are missing or unreadable, were saved for another task, or an adapter does not fit.
    """
    refuse_no_model(name)
    base, over = split_adapter(name, task=task)
    brought = saved_modules(over) if over is not None else frozenset[str]()
    with base_of(over, base):
        model: Any = _weights(base, dtype, task, brought)
        tokenizer = load_tokenizer(over if over is not None and has_file(over, "tokenizer_config.json") else base)
    model.to(device)
    forget_lengths(model)
    if over is not None:
        model = put_adapter(model, over).merge_and_unload()
    refuse_unknown_tokens(str(name), model, tokenizer)
    return model.eval(), tokenizer


def prepare(model: Any, tokenizer: PreTrainedTokenizerBase, name: str = "model") -> LanguageModel:
    """Make a model in memory ready to score: evaluation mode, tree attention, self-check, limits of its calls.

    A model that cannot attend over trees keeps its own attention and is scored in padded rows, which a warning says.
    Raises ModelError for the tokenizer of a larger model.
    """
    attention.register()
    model.eval()
    forget_lengths(model)
    lm = LanguageModel(name, model, tokenizer)
    refuse_unknown_tokens(name, lm.base, tokenizer)
    check_causal(lm)
    lm = replace(lm, rope=rope_tables(lm))
    if lm.rope != declared_tables(lm.config):
        problem = "its numbers depend on the longest row of a call in a way that its configuration does not tell"
        log.warning("%s: %s, so that rows of unlike length are computed apart, which is slower", name, problem)
    implementation = lm.base.config._attn_implementation
    checked = check_trees(lm)
    if checked.attention == "rows":
        lm.base.set_attn_implementation(implementation)
        log.warning("%s: scoring in padded rows, which is slower and gives the same numbers: %s", name, checked.note)
    return replace(checked, limits=fitting_limits(checked.base))


def resolve_device(device: str) -> torch.device:
    """The device that a name means; "auto" is CUDA where there is one."""
    if device == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    allowed = "auto, cpu, cuda, cuda:N"
    try:
        found = torch.device(device)
    except RuntimeError as error:
        raise InputError(f"unknown device {device!r}", field="device", allowed=allowed) from error
    if found.type not in ("cpu", "cuda") or (found.type == "cpu" and found.index):
        raise InputError(f"unknown device {device!r}", field="device", allowed=allowed)
    if found.type == "cuda" and (found.index or 0) >= torch.cuda.device_count():
        count = torch.cuda.device_count()
        raise InputError(f"no device {device!r}: CUDA devices found: {count}", field="device", allowed=allowed)
    return found


def resolve_dtype(dtype: str, device: torch.device) -> torch.dtype:
    """The torch dtype that a name means on a device."""
    if dtype == "auto":
        return torch.bfloat16 if device.type == "cuda" else torch.float32
    names = {str(kind).removeprefix("torch."): kind for kind in TOLERANCE}
    if dtype not in names:
        raise InputError(f"unknown dtype {dtype!r}", field="dtype", allowed="auto, " + ", ".join(names))
    return names[dtype]


def refuse_unknown_tokens(name: str, model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> None:
    """Raise ModelError where a text may be cut into tokens for which the model has no row of its embedding.

    A special token without a row may stand in the vocabulary (padding, or a mark for images) where no text begins or
    ends with it and the chat template does not write it.
    """
    embedding: Any = model.get_input_embeddings()
    rows, names = int(embedding.weight.shape[0]), tokenizer.get_vocab()
    special = {index for index, token in tokenizer.added_tokens_decoder.items() if token.special}
    used = {tokenizer.bos_token_id, tokenizer.eos_token_id, tokenizer.unk_token_id}
    template = str(tokenizer.chat_template or "")
    beyond = sorted((index, token) for token, index in names.items() if index >= rows)
    unknown = [token for index, token in beyond if index not in special or index in used or token in template]
    if unknown:
        some = ", ".join(map(repr, unknown[:3])) + (" ..." if len(unknown) > 3 else "")
        problem = f"its tokenizer has {len(names)} tokens and its embedding {rows} rows: none for {some}"
        raise ModelError(f"{name}: {problem} (allowed: the model's own tokenizer, or a model resized for this one)")


def refuse_no_model(*names: str | Path) -> None:
    """Raise ModelError for what can be seen to be no model before anything is read: a path that is not there, say."""
    for name in names:
        refuse_no_folder(str(name))
        if str(name).lower().endswith(".gguf"):
            allowed = "a Transformers folder; examples/smollm2.py makes one of a GGUF file"
            problem = "a GGUF file holds quantized weights, which cannot be trained"
            raise ModelError(f"{name}: {problem} (allowed: {allowed})")
        if Path(name).is_dir() and not any((Path(name) / file).exists() for file in _CONFIGS):
            raise ModelError(f"{name}: no model in this folder (allowed: a folder with {' or '.join(_CONFIGS)})")


# The libraries below pass on whatever theirs raise, down to bare Exception; every case gets the same message.


def load_tokenizer(name: str) -> PreTrainedTokenizerBase:
    """The tokenizer of a folder or Hub name; ModelError where it cannot be loaded, or cannot read a letter."""
    try:
        tokenizer: PreTrainedTokenizerBase = AutoTokenizer.from_pretrained(name, trust_remote_code=False)
        tokenizer("a")
    except Exception as error:
        raise ModelError(f"{name}: no tokenizer could be loaded: {_first_line(error)}") from error
    return tokenizer


def _weights(
    name: str, dtype: torch.dtype, task: Task = "CausalLM", brought: frozenset[str] = frozenset()
) -> PreTrainedModel:
    """The model with every weight read from disk: Transformers only warns when some are made up.

    Those that an adapter has `brought` come later.
    """
    auto, kind = _KINDS[task]
    try:
        loaded: Any = auto.from_pretrained(name, dtype=dtype, output_loading_info=True, trust_remote_code=False)
    except Exception as error:
        raise ModelError(f"{name}: no {kind} could be loaded: {_first_line(error)}") from error
    model: PreTrainedModel = loaded[0]
    refuse_other_task(name, model, task)
    missing = sorted(set(loaded[1]["missing_keys"]) - brought)
    if missing:
        some = ", ".join(missing[:5]) + (" ..." if len(missing) > 5 else "")
        raise ModelError(f"{name}: no {kind}: weights are missing for {some}")
    return model


def refuse_other_task(name: str, model: Any, task: str) -> None:
    """Raise ModelError where a folder was saved as a classifier of another task than `task`, "TokenClassification" say.

    Heads of different tasks may have the same names, and those of a language model may be tied, so that no weight is
    missing.
    """
    saved = [each for each in model.config.architectures or () if each.endswith(_CLASSIFIERS)]
    if saved and not saved[0].endswith(task):
        raise ModelError(f"{name}: saved as {saved[0]}, which is no model for {task}")


def _first_line(error: BaseException) -> str:
    """The first line of a message, with the next one where it announces it."""
    first, *others = str(error).strip().split("\n")
    return f"{first.strip()} {others[0].strip()}" if first.rstrip().endswith(":") and others else first
