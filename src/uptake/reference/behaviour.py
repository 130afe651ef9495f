"""The behaviour policy: the policy as it sampled the round, with the policy as it began beside it, for a metric."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, final

from jaxtyping import Float
from torch import Tensor

from uptake.models import Packed
from uptake.models.low_rank import begins_as_base
from uptake.reference.adapter_off import AdapterOff
from uptake.reference.base import RunningReference
from uptake.reference.frozen import Frozen, frozen_copy
from uptake.reference.previous import PreviousModel
from uptake.world import World


@dataclass(frozen=True)
class Behaviour:
    """The policy at the start of the round, as `Previous`, which anchors nothing; so it also tells how far all went.

    `log_ratio` is then that to the policy of the round's start, and `initial_log_ratio` that to the policy of the
    stage's start. Of a policy under a fresh adapter the copy shares the base, and the start is the adapter off; else
    both cost a model of memory.
    """

    is_start: ClassVar[bool] = True

    def start(self, world: World) -> RunningReference:
        weights = dict(world.policy.model.named_parameters())
        moving = [name for name, weight in weights.items() if weight.requires_grad]
        shared: dict[int, Any] = {id(weight): weight for weight in weights.values() if not weight.requires_grad}
        previous = frozen_copy(world.policy, shared)
        initial = (AdapterOff() if begins_as_base(world.policy) else Frozen()).start(world)
        return BehaviourModel(PreviousModel(previous, moving), initial)


@final
class BehaviourModel(RunningReference):
    """A running reference that is the `previous` policy; the `initial` one is read for a metric alone.

    Rows that come again, as they do for every member of an ensemble, are read once while the reference stands still.
    """

    def __init__(self, previous: PreviousModel, initial: RunningReference) -> None:
        self.previous, self.initial = previous, initial
        self._read: dict[RunningReference, tuple[object, Float[Tensor, " wanted"]]] = {}

    def token_logps(self, packed: Packed, temperature: float = 1.0) -> Float[Tensor, " wanted"]:
        return self._once(self.previous, packed, temperature)

    def log_ratios(
        self, packed: Packed, policy_logps: Float[Tensor, " wanted"]
    ) -> tuple[Float[Tensor, " nodes"], Mapping[str, Tensor]]:
        far = packed.node_sums(policy_logps.detach() - self._once(self.initial, packed))
        # The mean of both responses of a pair, as of `log_ratio`.
        return packed.node_sums(policy_logps - self.token_logps(packed)), {"initial_log_ratio": far.sum() / 2}

    def advance(self, world: World) -> None:
        self._read.clear()
        self.previous.advance(world)

    def state(self) -> Mapping[str, Tensor]:
        return self.previous.state()

    def restore(self, state: Mapping[str, Tensor]) -> None:
        self._read.clear()
        self.previous.restore(state)

    def _once(self, reference: RunningReference, packed: Packed, temperature: float = 1.0) -> Float[Tensor, " wanted"]:
        row = packed.trees, packed.lean, temperature
        if reference not in self._read or self._read[reference][0] != row:
            self._read[reference] = row, reference.token_logps(packed, temperature)
        return self._read[reference][1]
