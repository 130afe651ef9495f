"""The policy as it was at the start of the round: a reference that follows it from round to round."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar, final

import torch
from torch import Tensor

from uptake.models import LanguageModel
from uptake.reference.base import RunningReference
from uptake.reference.frozen import FrozenModel, frozen_copy
from uptake.world import World


@dataclass(frozen=True)
class Previous:
    """The policy at the start of the round, copied again after every round. Costs one model of memory.

    Where responses are sampled at the start of a round, it is the policy that sampled them. With one round it is
    `Frozen`. A reference that moves anchors nothing: n rounds to convergence, each against the one before, end where
    one against the start ends with beta over n.
    """

    is_start: ClassVar[bool] = True

    def start(self, world: World) -> RunningReference:
        moving = [name for name, weight in world.policy.model.named_parameters() if weight.requires_grad]
        return PreviousModel(frozen_copy(world.policy), moving)


@final
class PreviousModel(FrozenModel):
    """A running reference that scores with a copy of the policy and takes over its `moving` weights, by name."""

    def __init__(self, lm: LanguageModel, moving: Sequence[str]) -> None:
        super().__init__(lm)
        self.moving = moving

    def advance(self, world: World) -> None:
        weights = dict(world.policy.model.named_parameters())
        self.restore({name: weights[name].detach() for name in self.moving})

    def state(self) -> Mapping[str, Tensor]:
        weights = dict(self.lm.model.named_parameters())
        return {name: weights[name].data for name in self.moving}

    def restore(self, state: Mapping[str, Tensor]) -> None:
        weights = dict(self.lm.model.named_parameters())
        with torch.no_grad():
            for name in self.moving:
                weights[name].copy_(state[name])
