"""Load any causal language model of Transformers, from a folder or a Hub name, ready to score trees."""

import json
import logging
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer, PreTrainedModel, PreTrainedTokenizerBase

from uptake.errors import InputError, ModelError
from uptake.models import attention
from uptake.models.backend import attend_for
from uptake.models.card import read_card
from uptake.models.check import TOLERANCE, Watched, check_trees, hidden_window
from uptake.models.language_model import LanguageModel
from uptake.models.rows import row_logps
from uptake.models.scorer import tree_logps

log = logging.getLogger(__name__)

_CLASSIFIERS = ("ForSequenceClassification", "ForTokenClassification")


def load(
    name: str | Path, *, dtype: str = "auto", device: str = "auto", adapter: str | Path | None = None
) -> LanguageModel:
    """Load a model and its tokenizer.

    `name` is a Transformers folder, a PEFT adapter folder (its base model is loaded under it) or a Hub name. `dtype`
    "auto" is bfloat16 on CUDA and float32 elsewhere; `device` "auto" is CUDA where there is one.

    Raises ModelError where the weights or the tokenizer are missing, incomplete or unreadable.
    """
    place = resolve_device(device)
    kind = resolve_dtype(dtype, place)
    base, adapter = _split_adapter(name, adapter)
    # An adapter saved with its own tokenizer may have been trained under another chat template than its base model.
    tokenizer = _tokenizer(str(adapter) if adapter is not None and _has_tokenizer(adapter) else base)
    model: Any = _weights(base, kind)
    model.to(place)
    lm = prepare(model if adapter is None else _adapted(model, adapter), tokenizer, str(name))
    return replace(lm, card=read_card(base) | (read_card(adapter) if adapter is not None else {}))


def prepare(model: Any, tokenizer: PreTrainedTokenizerBase, name: str = "model") -> LanguageModel:
    """Make a model in memory ready to score: evaluation mode, tree attention, self-check.

    A model that cannot attend over trees keeps its own attention and is scored in padded rows, which a warning says.
    """
    attention.register()
    model.eval()
    lm = LanguageModel(name, model, tokenizer)
    own = lm.base.config._attn_implementation
    note = _why_not_trees(lm)
    if not note:
        return lm
    lm.base.set_attn_implementation(own)
    log.warning("%s: scoring in padded rows, which is slower and gives the same numbers: %s", name, note)
    return replace(lm, attention="rows", note=note)


def _why_not_trees(lm: LanguageModel) -> str:
    """Switch the model to tree attention; return why it must not stay there, or nothing."""
    packed = check_trees(lm.vocabulary)
    with torch.no_grad():
        expected = row_logps(lm, packed)
        if not bool(expected.isfinite().all()):
            raise ModelError(f"{lm.name}: the model gives not-a-number or infinite log-probabilities on random tokens")
        try:
            lm.base.set_attn_implementation(attention.NAME)
            attend = Watched(attend_for(packed.segments, lm.device))
            found = tree_logps(lm, packed, attend)
        except (ModelError, TypeError, ValueError, RuntimeError, AttributeError, LookupError) as error:
            # Architectures without a registered attention interface fail here in ways of their own.
            return f"tree attention raises {type(error).__name__}: {error}"
    difference = float((found - expected).abs().nan_to_num(torch.inf).max())
    allowed = TOLERANCE[lm.dtype]
    if difference > allowed:
        return f"self-check differs by {difference:.2g} (allowed: {allowed:.0e})"
    return hidden_window(lm.config, attend.windows)


def add_lora(
    lm: LanguageModel, rank: int = 16, alpha: int = 32, targets: str | Sequence[str] = "all-linear"
) -> LanguageModel:
    """The model with a fresh trainable LoRA adapter (PEFT) on all linear layers or those named; no dropout."""
    from peft import LoraConfig, get_peft_model  # noqa: PLC0415  # seconds that models without adapters need not pay

    modules = targets if isinstance(targets, str) else list(targets)
    config = LoraConfig(r=rank, lora_alpha=alpha, target_modules=modules, lora_dropout=0.0, task_type="CAUSAL_LM")
    model = get_peft_model(lm.base, config)
    model.eval()
    return replace(lm, model=model)


def resolve_device(device: str) -> torch.device:
    """The device that a name means; "auto" is CUDA where there is one."""
    if device == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    allowed = "auto, cpu, cuda, cuda:N"
    try:
        place = torch.device(device)
    except RuntimeError as error:
        raise InputError(f"unknown device {device!r}", field="device", allowed=allowed) from error
    if place.type == "cuda" and (place.index or 0) >= torch.cuda.device_count():
        count = torch.cuda.device_count()
        raise InputError(f"no device {device!r}: CUDA devices found: {count}", field="device", allowed=allowed)
    return place


def resolve_dtype(dtype: str, device: torch.device) -> torch.dtype:
    """The torch dtype that a name means on a device."""
    if dtype == "auto":
        return torch.bfloat16 if device.type == "cuda" else torch.float32
    names = {str(kind).removeprefix("torch."): kind for kind in TOLERANCE}
    if dtype not in names:
        raise InputError(f"unknown dtype {dtype!r}", field="dtype", allowed="auto, " + ", ".join(names))
    return names[dtype]


def _split_adapter(name: str | Path, adapter: str | Path | None) -> tuple[str, str | Path | None]:
    """A PEFT folder names its base model; anything else is the base model itself."""
    config = Path(name) / "adapter_config.json"
    if adapter is not None or not config.is_file():
        return str(name), adapter
    try:
        base = json.loads(config.read_text()).get("base_model_name_or_path")
    except ValueError as error:
        raise ModelError(f"{config}: not JSON: {error}") from error
    if not base:
        raise ModelError(f"{config}: no base_model_name_or_path; pass the base model and adapter={str(name)!r}")
    return str(base), name


def _has_tokenizer(folder: str | Path) -> bool:
    return (Path(folder) / "tokenizer_config.json").is_file()


# The libraries below pass on whatever theirs raise, down to bare Exception; every case gets the same message.


def _tokenizer(name: str) -> PreTrainedTokenizerBase:
    try:
        tokenizer: PreTrainedTokenizerBase = AutoTokenizer.from_pretrained(name)
    except Exception as error:
        raise ModelError(f"{name}: no tokenizer could be loaded: {_first_line(error)}") from error
    return tokenizer


def _weights(name: str, dtype: torch.dtype) -> PreTrainedModel:
    """The model with every weight read from disk: Transformers only warns when some are made up."""
    try:
        loaded: Any = AutoModelForCausalLM.from_pretrained(name, dtype=dtype, output_loading_info=True)
    except Exception as error:
        raise ModelError(f"{name}: no causal language model could be loaded: {_first_line(error)}") from error
    model: PreTrainedModel = loaded[0]
    refuse_other_task(name, model, "CausalLM")
    missing = sorted(loaded[1]["missing_keys"])
    if missing:
        raise ModelError(
            f"{name}: weights are missing for {', '.join(missing[:5])}{' ...' if len(missing) > 5 else ''}"
        )
    return model


def refuse_other_task(name: str, model: Any, task: str) -> None:
    """Raise ModelError where a folder was saved as a classifier of another task than `task`, "TokenClassification" say.

    Heads of different tasks may have the same names, and those of a language model may be tied, so that no weight is
    missing.
    """
    saved = [each for each in model.config.architectures or () if each.endswith(_CLASSIFIERS)]
    if saved and not saved[0].endswith(task):
        raise ModelError(f"{name}: saved as {saved[0]}, which is no model for {task}")


def _adapted(model: PreTrainedModel, adapter: str | Path) -> Any:
    from peft import PeftModel  # noqa: PLC0415  # seconds of import time that plain models need not pay

    try:
        return PeftModel.from_pretrained(model, str(adapter), is_trainable=True)
    except Exception as error:
        raise ModelError(f"{adapter}: no adapter could be loaded: {_first_line(error)}") from error


def _first_line(error: BaseException) -> str:
    return str(error).strip().split("\n")[0]
