"""A frozen copy of the policy as it was at the start of the stage, or another model that was given."""

import copy
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any, ClassVar, TypeVar

import torch
from jaxtyping import Float
from torch import Tensor

from uptake.errors import InputError
from uptake.models import LanguageModel, Packed, token_logps
from uptake.reference.base import RunningReference
from uptake.world import World

T = TypeVar("T")


@dataclass(frozen=True)
class Frozen:
    """The policy at the start of the stage, copied and never changed (DPO's reference). Costs one model of memory."""

    is_start: ClassVar[bool] = True

    def start(self, world: World) -> RunningReference:
        return FrozenModel(frozen_copy(world.policy))


@dataclass(frozen=True)
class Given:
    """Another model of the world, frozen; it must share the policy's tokenizer, since it scores the same token ids."""

    model: str = "reference"

    is_start: ClassVar[bool] = False

    @property
    def uses(self) -> tuple[str, ...]:
        """The name of the model that it is."""
        return (self.model,)

    def start(self, world: World) -> RunningReference:
        reference = world.model(self.model)
        check_same_tokens(world.policy, reference)
        return FrozenModel(reference)


class FrozenModel(RunningReference):
    """A running reference that scores with one unchanging model."""

    def __init__(self, lm: LanguageModel) -> None:
        self.lm = lm
        lm.model.requires_grad_(False)

    def token_logps(self, packed: Packed, temperature: float = 1.0) -> Float[Tensor, " wanted"]:
        return self.under(lambda lm: token_logps(lm, packed, temperature))

    def under(self, read: Callable[[LanguageModel], T]) -> T:
        with torch.no_grad():
            return read(self.lm)


def frozen_copy(lm: LanguageModel, shared: Mapping[int, Any] | None = None) -> LanguageModel:
    """A copy of a model that never learns; weights in `shared`, by their `id`, are not copied."""
    return replace(lm, model=copy.deepcopy(lm.model, dict(shared or {})).requires_grad_(False))


def check_same_tokens(policy: LanguageModel, reference: LanguageModel) -> None:
    """Raise InputError where two models do not read the same token ids as the same text, or compute otherwise."""
    ours, theirs = policy.tokenizer.get_vocab(), reference.tokenizer.get_vocab()
    if ours != theirs:
        different = sorted(set(ours.items()) ^ set(theirs.items()))[:3]
        examples = ", ".join(f"{token!r} -> {index}" for token, index in different)
        raise InputError(
            f"{policy.name} and {reference.name} have different tokenizers, for example {examples}",
            field="reference",
            allowed="a reference with the policy's tokenizer",
        )
    if (policy.dtype, policy.autocast) != (reference.dtype, reference.autocast):
        kinds = [f"{lm.dtype} computed in {lm.compute_dtype}" for lm in (policy, reference)]
        raise InputError(
            f"the policy is {kinds[0]} and the reference {kinds[1]}: they would differ by rounding alone",
            field="reference",
            allowed="the same weights and precision for both: load both with the same dtype and fp32_weights",
        )
