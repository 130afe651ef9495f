"""Ensembles of adapters: members that learn each by itself over one base, and speak together.

What they say together is the exact mean of what each adds to the base: all of them at once, each at its share of the
scale. A mean of their A and of their B, which libraries offer, is another model: it has products of one member's B with
another's A, and five equal members would add five times what one does.
"""

import copy
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import nn

from uptake.errors import InputError, ModelError
from uptake.models.language_model import LanguageModel
from uptake.models.low_rank import check_products, is_fresh, low_rank_part, summed_products


@dataclass(frozen=True)
class Ensemble:
    """The `modules` of a stage whose policy is an ensemble: adapters beside the one it has, like it, over one base.

    All begin as the base, each with an A of its own, which the seed draws. Nothing stands beside the policy. A call
    raises InputError for a policy without an adapter, or with one that was trained before, as the others would then
    begin as other models, and ModelError for an adapter that is more than products added to its layers.
    """

    members: int = 5

    def __call__(self, policy: LanguageModel) -> Mapping[str, nn.Module]:
        names = members(policy)
        if len(names) != self.members:
            _check_first(policy)
            # The first A was drawn from the seed that the draws begin with now: the others must not be the same.
            torch.manual_seed(int(torch.randint(1 << 62, ())))
            model: Any = policy.model
            for number in range(1, self.members):
                model.add_adapter(f"member_{number}", copy.deepcopy(model.peft_config[names[0]]))
        _activate(policy, members(policy))
        return {}


def members(lm: LanguageModel) -> tuple[str, ...]:
    """The names of a model's adapters: one of a plain adapter, none of a whole model."""
    return tuple(getattr(lm.model, "peft_config", {}))


@contextmanager
def speaking(lm: LanguageModel, member: str) -> Iterator[None]:
    """The block in which a member of an ensemble speaks alone."""
    _activate(lm, (member,))
    try:
        yield
    finally:
        _activate(lm, members(lm))


def by_member(lm: LanguageModel, weights: Mapping[str, nn.Parameter]) -> list[list[nn.Parameter]]:
    """The weights of each member of an ensemble; all together of any other model."""
    names = members(lm)
    if len(names) < 2:
        return [list(weights.values())]
    return [[weight for name, weight in weights.items() if f".{member}." in f"{name}."] for member in names]


def save_mean(lm: LanguageModel, folder: Path) -> None:
    """Write an ensemble as one adapter that says what it says: its products side by side, at the scale of their mean.

    Its rank is that of all members together, and its scale, alpha over rank, falls by as much.
    """
    from peft.utils import get_peft_model_state_dict  # noqa: PLC0415

    model: Any = lm.model
    names = members(lm)
    parts = [get_peft_model_state_dict(model, adapter_name=name, save_embedding_layers=False) for name in names]
    config = copy.deepcopy(model.peft_config[names[0]])
    config.r, config.inference_mode = len(names) * config.r, True
    config.save_pretrained(folder)
    weights = {name: each.contiguous().cpu() for name, each in summed_products(parts, [1] * len(parts)).items()}
    save_file(weights, folder / "adapter_model.safetensors", {"format": "pt"})


def _check_first(policy: LanguageModel) -> None:
    """Raise where the adapter of a policy cannot be the first of several."""
    from peft.tuners.tuners_utils import BaseTunerLayer  # noqa: PLC0415

    names = members(policy)
    if len(names) != 1:
        found = f"{len(names)} adapters" if names else "no adapter"
        allowed = "a policy with one fresh adapter, as --lora gives it; or an ensemble of 1"
        raise InputError(f"{policy.name} has {found}", field="ensemble", allowed=allowed)
    if not is_fresh(policy):
        problem = f"{policy.name}: its adapter was trained before, and the other members would begin without that"
        raise InputError(problem, field="ensemble", allowed="--lora, which merges it into the base first; or 1")
    model: Any = policy.model
    config = model.peft_config[names[0]]
    check_products(policy.name, config.to_dict(), one_scale=True)
    if config.modules_to_save:
        raise ModelError(f"{policy.name}: an adapter with whole weights has no mean (allowed: no modules_to_save)")
    if isinstance(policy.head, BaseTunerLayer):  # projections are computed again in the backward pass, by then by all
        raise ModelError(f"{policy.name}: an adapter of the vocabulary projection (allowed: one of other layers)")


def _activate(lm: LanguageModel, names: tuple[str, ...]) -> None:
    """Have some adapters speak together, each at its share of the scale; all go on learning."""
    from peft.tuners.tuners_utils import BaseTunerLayer  # noqa: PLC0415

    layers: list[Any] = [module for module in lm.model.modules() if isinstance(module, BaseTunerLayer)]
    for layer in layers:
        layer.set_adapter(list(names))
        for name in names:
            layer.set_scale(name, 1 / len(names))
    for name, weight in lm.model.named_parameters():
        if low_rank_part(name):
            weight.requires_grad_(True)
