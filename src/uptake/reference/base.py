"""Reference: a part of a recipe that starts with a stage and then gives log-probabilities."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import ClassVar, Protocol, TypeVar, final, runtime_checkable

from jaxtyping import Float
from torch import Tensor

from uptake.errors import InputError
from uptake.models import LanguageModel, Packed
from uptake.world import World

T = TypeVar("T")


class RunningReference(Protocol):
    """A reference during a stage. Its `state` goes into checkpoints; `advance` is called after every round."""

    def token_logps(self, packed: Packed, temperature: float = 1.0) -> Float[Tensor, " wanted"]:
        """Log-probabilities of the wanted tokens at a temperature, without gradient."""
        ...

    def log_ratios(
        self, packed: Packed, policy_logps: Float[Tensor, " wanted"]
    ) -> tuple[Float[Tensor, " nodes"], Mapping[str, Tensor]]:
        """Log-ratio of policy to reference of every scored node, and metrics of the reference as sums over pairs.

        A reference that is no distribution over single tokens gives the log-probability of a whole response here.
        """
        return packed.node_sums(policy_logps - self.token_logps(packed)), {}

    def advance(self, world: World) -> None:
        """Follow the policy, where this reference does."""
        return

    def state(self) -> Mapping[str, Tensor]:
        """Tensors that `restore` needs beyond what `start` gives at the beginning of the stage."""
        return {}

    def restore(self, state: Mapping[str, Tensor]) -> None:
        """Return to a saved state."""
        return


@runtime_checkable
class Readable(Protocol):
    """A running reference that is a model: more can be read of it than log-probabilities of tokens."""

    def under(self, read: Callable[[LanguageModel], T]) -> T:
        """What `read` makes of the model, without gradient."""
        ...


class Reference(Protocol):
    """The recipe part: starts a running reference from the world as it is at the beginning of a stage."""

    # Whether it starts as the policy itself, so that the first loss is known.
    is_start: ClassVar[bool]

    def start(self, world: World) -> RunningReference: ...


@dataclass(frozen=True)
class NoReference:
    """For objectives that compare the policy with nothing."""

    is_start: ClassVar[bool] = False

    def start(self, world: World) -> RunningReference:
        return _Nothing()


@final
class _Nothing(RunningReference):
    def token_logps(self, packed: Packed, temperature: float = 1.0) -> Float[Tensor, " wanted"]:
        raise InputError("this objective needs a reference, and the stage has none", field="reference")
