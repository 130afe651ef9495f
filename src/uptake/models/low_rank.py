"""Products `B A` of adapters (LoRA): their sum is a longer product, and never that of a sum of A with a sum of B."""

from collections.abc import Mapping, Sequence
from typing import Any, Final, Literal

import torch
from torch import Tensor

from uptake.errors import ModelError
from uptake.models.language_model import LanguageModel

# What makes of an adapter more than products added to its layers, each with what is plain.
_PLAIN: Final[Mapping[str, tuple[Any, ...]]] = {
    "use_dora": (False,),
    "lora_bias": (False,),
    "bias": ("none",),
    "layer_replication": (None,),
    "trainable_token_indices": (None,),
    "target_parameters": (None, []),
    "init_lora_weights": (True, False, "gaussian", "orthogonal", "eva"),
}
# What gives its products scales that do not follow from one rank.
_SCALES: Final[Mapping[str, tuple[Any, ...]]] = {
    "use_rslora": (False,),
    "rank_pattern": ({},),
    "alpha_pattern": ({},),
}


def check_products(name: str, config: Mapping[str, Any], *, one_scale: bool = False) -> None:
    """Raise ModelError where an adapter is more than products added to layers or, with `one_scale`, has several."""
    if config.get("peft_type") != "LORA":
        raise ModelError(f"{name}: an adapter of kind {config.get('peft_type')} (allowed: LORA)")
    for setting, plain in {**_PLAIN, **(_SCALES if one_scale else {})}.items():
        if config.get(setting, plain[0]) not in plain:
            problem = f"{name}: an adapter with {setting} {config[setting]!r} is no plain LoRA"
            raise ModelError(f"{problem} (allowed: {setting} {plain[0]!r}; or the model with it merged into its base)")


def low_rank_part(name: str) -> Literal["A", "B"] | None:
    """Which matrix of a product `B A` a weight of this name is; None for any other weight."""
    if any(mark in name for mark in (".lora_A.", ".lora_embedding_A")):
        return "A"
    return "B" if any(mark in name for mark in (".lora_B.", ".lora_embedding_B")) else None


def name_of_a(name: str) -> str:
    """The name of the A that belongs to a B."""
    return name.replace(".lora_B.", ".lora_A.").replace(".lora_embedding_B", ".lora_embedding_A")


def is_fresh(lm: LanguageModel) -> bool:
    """Whether a model says what its base says: it has no adapter, or one of LoRA whose every product is 0 still."""
    configs = getattr(lm.model, "peft_config", {}).values()
    weights = dict(lm.model.named_parameters())
    products = [(weights[name_of_a(name)], weights[name]) for name in weights if low_rank_part(name) == "B"]
    plain = all(config.peft_type == "LORA" and not config.use_dora for config in configs)
    return plain and not any(first.any() and second.any() for first, second in products)


def begins_as_base(lm: LanguageModel) -> bool:
    """Whether a model has an adapter that can be switched off without a change, as it is fresh."""
    return hasattr(lm.model, "disable_adapter") and is_fresh(lm)


def summed_products(parts: Sequence[Mapping[str, Tensor]], weights: Sequence[float]) -> dict[str, Tensor]:
    """The weighted sum of adapters as one adapter, exact: `sum w_i B_i A_i = [w_1 B_1, w_2 B_2, ...] [A_1; A_2; ...]`.

    Its rank is the sum of theirs, and its products are to be scaled as theirs are. Adding up A and B each would give
    products of every B with every A. Raises ModelError where the parts are not adapters of the same layers.
    """
    found: dict[str, Tensor] = {}
    for name in parts[0]:
        part = low_rank_part(name)
        if part is None or any(name not in other for other in parts):
            problem = f"{name}: no part of a product that all adapters have"
            raise ModelError(f"{problem} (allowed: adapters of the same layers)")
        if part == "A":
            found[name] = torch.cat([each[name] for each in parts], 0)
        else:
            found[name] = torch.cat([each[name] * weight for each, weight in zip(parts, weights, strict=True)], 1)
    return found


def product_norm(first: Tensor, second: Tensor) -> float:
    """The Frobenius norm of `second @ first`, `B A`, without the product: from the Gram matrices of both.

    Kernels of convolutions are laid out flat.
    """
    a, b = (each.flatten(1).double() for each in (first, second))
    return float(((a @ a.T) * (b.T @ b)).sum().clamp_min(0).sqrt())
