"""Fingerprint of what a score by a model depends on, as a short text."""

import json
from hashlib import sha256
from typing import Any

import torch

from uptake.data.chat import ChatFormat

# Settings of models and adapters that change no number: names, and who has written the file.
_UNTOLD = ("base_model_name_or_path", "inference_mode", "revision", "transformers_version", "peft_version")


def fingerprint(kind: str, model: Any, chat: ChatFormat, *settings: object) -> str:
    """A text that differs between kinds of reward, models, chat formats and settings: the key of a cache of scores."""
    return f"{kind}({model_fingerprint(model)}, {chat.fingerprint}, {', '.join(map(str, settings))})"


def model_fingerprint(model: Any) -> str:
    """A content hash of a Transformers or PEFT model: its configuration and weights, wherever it was loaded from.

    Reads every weight once; of each, name, shape, precision and bytes count.
    """
    adapters = {name: _settings(adapter) for name, adapter in getattr(model, "peft_config", {}).items()}
    config = {name: value for name, value in model.config.to_diff_dict().items() if name not in _UNTOLD}
    seen = sha256(f"{json.dumps(config, sort_keys=True, default=str)}{adapters or ''}".encode())
    for name, weight in model.state_dict().items():
        seen.update(f"{name} {tuple(weight.shape)} {weight.dtype}\n".encode())
        seen.update(weight.detach().contiguous().reshape(-1).view(torch.uint8).cpu().numpy())
    return seen.hexdigest()[:16]


def _settings(adapter: Any) -> dict[str, Any]:
    """What an adapter does beside its weights; not the name of its base, nor whether it is to learn."""
    told = {name: value for name, value in sorted(adapter.to_dict().items()) if name not in _UNTOLD}
    return {name: sorted(value) if isinstance(value, set) else value for name, value in told.items()}
