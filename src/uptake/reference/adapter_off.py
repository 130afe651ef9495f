"""The policy with its adapter switched off: a reference that costs no memory."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar, TypeVar, final

import torch
from jaxtyping import Float
from torch import Tensor

from uptake.errors import InputError
from uptake.models import LanguageModel, Packed, token_logps
from uptake.reference.base import RunningReference
from uptake.world import World

T = TypeVar("T")


@dataclass(frozen=True)
class AdapterOff:
    """The base model under the policy's adapter: equals `Frozen` where the adapter was fresh at the start."""

    is_start: ClassVar[bool] = True

    def start(self, world: World) -> RunningReference:
        if not hasattr(world.policy.model, "disable_adapter"):
            raise InputError(
                "the policy has no adapter to switch off", field="reference", allowed="a policy with LoRA, or Frozen()"
            )
        return AdapterOffModel(world.policy)


@final
class AdapterOffModel(RunningReference):
    """Scores with the policy's own weights, adapter disabled for the time of the call."""

    def __init__(self, lm: LanguageModel) -> None:
        self.lm = lm

    def token_logps(self, packed: Packed, temperature: float = 1.0) -> Float[Tensor, " wanted"]:
        return self.under(lambda lm: token_logps(lm, packed, temperature))

    def under(self, read: Callable[[LanguageModel], T]) -> T:
        with torch.no_grad(), self.lm.model.disable_adapter():  # type: ignore[operator]
            return read(self.lm)
