"""Adapters (PEFT): found and put on the base model that they name, whole or not at all; LoRA for what has none yet.

PEFT and Transformers leave out in silence what does not fit, and a second adapter of the same name takes the place of
the first. Here every weight of an adapter finds its place, and every adapter stays in the numbers, or it is an error.
"""

import logging
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, Final, Literal

import torch
from huggingface_hub import try_to_load_from_cache
from huggingface_hub.errors import HFValidationError
from transformers import PreTrainedModel
from transformers.utils.hub import cached_file

from uptake.errors import InputError, ModelError
from uptake.models.check import TOLERANCE, random_trees
from uptake.models.language_model import LanguageModel
from uptake.models.rows import row_logps
from uptake.support.paths import is_local, near_words
from uptake.support.texts import json_file

log = logging.getLogger(__name__)

# What models are for, in the names of Transformers' classes, and in adapters.
Task = Literal["CausalLM", "SequenceClassification", "TokenClassification"]
_TASKS: Final[Mapping[Task, str]] = {
    "CausalLM": "CAUSAL_LM",
    "SequenceClassification": "SEQ_CLS",
    "TokenClassification": "TOKEN_CLS",
}
_CONFIG: Final = "adapter_config.json"
_FITTING: Final = "an adapter of layers, such as LoRA, over the base model that it was trained on"


def has_file(name: str | Path, file: str) -> bool:
    """Whether a folder or Hub name holds a file."""
    return _find(name, file) is not None


def refuse_no_folder(name: str) -> None:
    """Raise ModelError for a path of a model that is not there, which the Hub is then not asked for."""
    if not Path(name).exists() and is_local(name) and not _is_cached(name):
        raise ModelError(f"{name}: no such folder{near_words(name)} (allowed: a model's folder, or a name on the Hub)")


def _is_cached(name: str) -> bool:
    """Whether a model of the Hub with this name was fetched before: whatever path is like it, the Hub's is meant."""
    try:
        return any(isinstance(try_to_load_from_cache(name, file), str) for file in ("config.json", _CONFIG))
    except HFValidationError:
        return False


def split_adapter(
    name: str | Path, adapter: str | Path | None = None, task: Task = "CausalLM"
) -> tuple[str, str | None]:
    """The base model that an adapter's folder or Hub name names, and the adapter; anything else is a base itself.

    Raises ModelError for a path that is not there, where the adapter's configuration cannot be read or names no base,
    the adapter was trained for another task, or the base has an adapter of its own, whose place the other would take.
    """
    base = str(name)
    refuse_no_folder(base)
    if adapter is None and (config := _config(base)) is not None:
        adapter, named = base, config.get("base_model_name_or_path")
        if not isinstance(named, str) or not named:
            problem = f"{_find(base, _CONFIG)}: no base_model_name_or_path"
            raise ModelError(f"{problem}; pass the base model and adapter={base!r}")
        base = named
    if adapter is None:
        return base, None
    kind = (_config(str(adapter)) or {}).get("task_type")
    if kind not in (None, _TASKS[task]):
        raise ModelError(f"{adapter}: an adapter for {kind}, which is no model for {task}")
    if has_file(base, _CONFIG):
        problem = f"{adapter}: its base model {base} is an adapter itself"
        raise ModelError(f"{problem} (allowed: a base model that has that adapter merged into it)")
    return base, str(adapter)


@contextmanager
def base_of(adapter: str | None, base: str) -> Iterator[None]:
    """The block in which a base model is loaded: a ModelError says which adapter names it; it may have moved since."""
    try:
        yield
    except ModelError as error:
        if adapter is None:
            raise
        path = Path(base).is_absolute() or base.startswith((".", "~")) or base.count("/") > 1
        problem = (
            f"its base model {base} is not there" if path and not Path(base).exists() else f"its base model {error}"
        )
        allowed = f"where it is now as base_model_name_or_path in {adapter}/{_CONFIG}, or load(base, adapter=...)"
        raise ModelError(f"{adapter}: {problem} (allowed: {allowed})") from error


@contextmanager
def _of_libraries(*known: str) -> Iterator[None]:
    """Silence on what PEFT and Transformers have to settle between them, and on warnings that are `known`."""
    with warnings.catch_warnings():
        for message in ("`is_gradient_checkpointing` is deprecated", *known):
            warnings.filterwarnings("ignore", message)
        yield


def put_adapter(model: PreTrainedModel, adapter: str) -> Any:
    """The model under an adapter, trainable; ModelError where the two do not fit each other weight by weight."""
    from peft import PeftModel  # noqa: PLC0415  # seconds of import time that plain models need not pay

    base = model.name_or_path or ""
    try:
        with _of_libraries("Found missing adapter keys"):  # which is an error below
            adapted = PeftModel.from_pretrained(model, adapter, is_trainable=True)
        # Read again for what became of every weight, which the first call keeps to itself.
        renamed = getattr(model, "_checkpoint_conversion_mapping", {})
        found = adapted.load_adapter(adapter, "default", is_trainable=True, key_mapping=renamed)
    except Exception as error:
        problem = f"no adapter could be loaded over {base}: {_problem(error)}"
        raise ModelError(f"{adapter}: {problem} (allowed: {_FITTING})") from error
    _check_fit(adapter, base, found.missing_keys, found.unexpected_keys)
    # What is saved of it names the base that it stands on now.
    adapted.peft_config["default"].base_model_name_or_path = base
    return adapted


def _check_fit(adapter: str, base: str, missing: Sequence[str], unexpected: Sequence[str]) -> None:
    """Raise ModelError where a layer has no weights in the adapter, or a weight of the adapter no layer."""
    for problem, names in (("no weights for", missing), ("weights without a place:", unexpected)):
        if names:
            some = ", ".join(sorted(names)[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")
            raise ModelError(f"{adapter}: over {base}, it has {problem} {some} (allowed: {_FITTING})")


def saved_modules(adapter: str) -> frozenset[str]:
    """The names of whole weights that an adapter brings, such as those of a classifier's last layer.

    Raises ModelError where it cannot be read.
    """
    from peft.utils import load_peft_weights  # noqa: PLC0415

    try:
        names = list(load_peft_weights(adapter, device="cpu"))
    except Exception as error:
        raise ModelError(f"{adapter}: no adapter could be loaded: {_problem(error)}") from error
    return frozenset(name.removeprefix("base_model.model.") for name in names)


def add_lora(
    lm: LanguageModel, rank: int = 16, alpha: int = 32, targets: str | Sequence[str] = "all-linear"
) -> LanguageModel:
    """The model with a fresh trainable LoRA adapter (PEFT) on all linear layers or those named; no dropout.

    An adapter that the model has is merged into its base before, which a warning says. No folder holds that base, so
    what is saved then is the whole model. Raises InputError for a rank that no weight has and ModelError for an adapter
    that cannot be merged.
    """
    from peft import LoraConfig, get_peft_model  # noqa: PLC0415

    full = max(min(weight.shape) for weight in lm.base.parameters() if weight.dim() == 2)
    if not 1 <= rank <= full:
        raise InputError(f"{rank}", field="rank", allowed=f"a rank from 1 to {full}, the full one of its weights")
    lm = _without_adapter(lm)
    modules = targets if isinstance(targets, str) else list(targets)
    config = LoraConfig(r=rank, lora_alpha=alpha, target_modules=modules, lora_dropout=0.0, task_type="CAUSAL_LM")
    with _of_libraries():
        model = get_peft_model(lm.base, config)
    model.eval()
    return replace(lm, model=model)


def _without_adapter(lm: LanguageModel) -> LanguageModel:
    """The model with its adapter merged into its base, in place; ModelError where that changes what it says."""
    from peft.tuners.tuners_utils import BaseTunerLayer  # noqa: PLC0415

    model: Any = lm.model
    if not any(isinstance(module, BaseTunerLayer) for module in model.modules()):
        if hasattr(model, "peft_config"):
            raise ModelError(f"{lm.name}: an adapter without layers cannot be merged (allowed: no second adapter)")
        return lm
    if not hasattr(model, "merge_and_unload"):
        problem = "there are adapters in its layers already, which a new one would take the place of"
        raise ModelError(f"{lm.name}: {problem} (allowed: the model that add_lora or uptake.load gave with them)")
    packed = random_trees(lm.vocabulary)
    with torch.no_grad():
        before = row_logps(lm, packed)
        merged = replace(lm, model=model.merge_and_unload())
        difference = float((row_logps(merged, packed) - before).abs().max())
    if not difference <= TOLERANCE[lm.dtype]:
        problem = f"merging its adapter changes log-probabilities by {difference:.2g}"
        raise ModelError(f"{lm.name}: {problem} (allowed: {TOLERANCE[lm.dtype]:g}; or no second adapter)")
    lm.base.name_or_path = ""
    log.warning(
        "%s: its adapter is merged into its base before a new one is added; the whole model will be saved", lm.name
    )
    return merged


def _config(name: str) -> dict[str, Any] | None:
    """The configuration of an adapter's folder or Hub name; None where it is no adapter."""
    path = _find(name, _CONFIG)
    if path is None:
        return None
    try:
        config = json_file(path)
    except (OSError, ValueError) as error:
        raise ModelError(f"{path}: not JSON: {error}") from error
    if not isinstance(config, dict):
        raise ModelError(f"{path}: no configuration of an adapter: {str(config)[:40]}")
    return config


def _find(name: str | Path, file: str) -> Path | None:
    if Path(name).is_dir():
        path = Path(name) / file
        return path if path.is_file() else None
    quiet: dict[str, Any] = {
        "_raise_exceptions_for_missing_entries": False,
        "_raise_exceptions_for_connection_errors": False,
        "_raise_exceptions_for_gated_repo": False,
    }
    try:
        found = cached_file(str(name), file, **quiet)
    except OSError:  # neither a folder nor a name of the Hub, which loading it says
        return None
    return None if found is None else Path(found)


def _problem(error: Exception) -> str:
    """What went wrong, in one line: Torch puts the first weight that does not fit after a headline."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    if len(lines) > 1 and lines[0].endswith(":"):
        return lines[1] + (f" ({len(lines) - 2} more like it)" if len(lines) > 2 else "")
    return lines[0] if lines else type(error).__name__
