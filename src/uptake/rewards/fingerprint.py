"""What a score by a model depends on, as a short text."""

from hashlib import sha256
from typing import Any

import torch

from uptake.data.chat import ChatFormat

_BITS = {1: torch.int8, 2: torch.int16, 4: torch.int32, 8: torch.int64}


def fingerprint(kind: str, model: Any, chat: ChatFormat, *settings: object) -> str:
    """A text that differs between kinds of reward, models, chat formats and settings: the key of a cache of scores."""
    return f"{kind}({model_fingerprint(model)}, {chat.fingerprint}, {', '.join(map(str, settings))})"


def model_fingerprint(model: Any) -> str:
    """A content hash of a Transformers or PEFT model: its configuration and weights, wherever it was loaded from.

    Reads every weight once. Of each it takes name, shape, precision and the sum of the bits, which is exact on any
    device and in any order.
    """
    seen = sha256(model.config.to_json_string().encode())
    for name, weight in model.state_dict().items():
        bits = weight.detach().reshape(-1).view(_BITS[weight.element_size()]).sum(dtype=torch.int64)
        seen.update(f"{name} {tuple(weight.shape)} {weight.dtype} {int(bits)}\n".encode())
    return seen.hexdigest()[:16]
