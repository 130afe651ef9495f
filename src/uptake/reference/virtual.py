"""Several references as one: a virtual reference for whole responses, with trust that is clipped and weighted by pair.

Log-probabilities of responses are `[K, pairs, 2]`: model by pair by (chosen, rejected). The first model is the primary.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal, final, get_args

import torch
from jaxtyping import Float
from torch import Tensor

from uptake.errors import InputError
from uptake.models import Packed
from uptake.reference.base import Reference, RunningReference
from uptake.reference.frozen import Frozen, Given
from uptake.world import World

ReferenceMean = Literal["harmonic", "geometric"]
ResponseLogps = Float[Tensor, "models pairs 2"]


def virtual_logps(
    logps: ResponseLogps, weights: Float[Tensor, "models #pairs 1"], combine: ReferenceMean
) -> Float[Tensor, "pairs 2"]:
    """Log-probability of responses under `1 / sum_k a_k / pi_k` ("harmonic") or `prod_k pi_k^a_k` ("geometric").

    Harmonic is a lower bound of the objective with a KL penalty to every reference, and nearly their minimum;
    geometric is its exact optimum. Source: Le et al. 2024 (arXiv 2405.16388).
    """
    if combine == "geometric":
        return (weights * logps).sum(0)
    return -torch.logsumexp(weights.log() - logps, 0)


def clipped_to_primary(logps: ResponseLogps, rate: float) -> ResponseLogps:
    """Clipped trust: no log-probability further from the primary's than a share of it.

    The share of chosen and rejected is `rate` split by the size of their mean log-probability over all models; a
    negative `rate` is the share of both. Source: Le et al. 2024 (arXiv 2405.16388), and the released code.
    """
    sizes = logps.mean(0).abs()
    shares = rate * sizes / sizes.sum(-1, keepdim=True) if rate >= 0 else torch.full_like(sizes, -rate)
    primary = logps[0]
    return logps.clamp(primary * (1 + shares), primary * (1 - shares))


def discriminative_weights(logps: ResponseLogps) -> Float[Tensor, "models pairs 1"]:
    """Adaptive weights: a model counts for as much as it sets chosen and rejected apart; they sum to 1 for every pair.

    Source: Le et al. 2024 (arXiv 2405.16388), and the released code.
    """
    apart = (logps[..., :1] - logps[..., 1:]).abs() + 1e-6
    return apart / apart.sum(0)


@dataclass(frozen=True)
class Virtual:
    """One reference made of a primary one and further `models` by name, which share the policy's tokenizer.

    `weights` are those of all, the primary first; None weighs them anew for every pair. `clip` None trusts all models
    fully, 0 the primary alone. Costs a model of memory and a forward call each. Raises InputError for weights that are
    not one for each, or do not sum to 1, and as `Given` does.
    """

    primary: Reference = Frozen()
    models: tuple[str, ...] = ("second",)
    weights: tuple[float, ...] | None = None
    clip: float | None = 0.1
    combine: ReferenceMean = "harmonic"

    is_start: ClassVar[bool] = False

    def __post_init__(self) -> None:
        if not self.models or len(set(self.models)) < len(self.models):
            raise InputError(f"{list(self.models)}", field="references", allowed="one name or more, each once")
        if self.combine not in get_args(ReferenceMean):
            raise InputError(repr(self.combine), field="combine", allowed=", ".join(get_args(ReferenceMean)))
        if self.weights is None:
            return
        count = len(self.models) + 1
        if len(self.weights) != count or min(self.weights) < 0 or abs(sum(self.weights) - 1) > 1e-6:
            allowed = f"{count} numbers from 0 up with the sum 1, the primary's first; or null"
            raise InputError(f"{list(self.weights)}", field="weights", allowed=allowed)

    @property
    def uses(self) -> tuple[str, ...]:
        """The names of the models that it reads beside the primary."""
        return self.models

    def start(self, world: World) -> RunningReference:
        further = [Given(name).start(world) for name in self.models]
        return VirtualModel(self, [self.primary.start(world), *further])


@final
class VirtualModel(RunningReference):
    """A running reference of responses in pairs: several frozen models, read one after another."""

    def __init__(self, settings: Virtual, references: Sequence[RunningReference]) -> None:
        self.settings, self.references = settings, references

    def token_logps(self, packed: Packed, temperature: float = 1.0) -> Float[Tensor, " wanted"]:
        raise InputError("several references have no log-probability of one token", field="references")

    def log_ratios(
        self, packed: Packed, policy_logps: Float[Tensor, " wanted"]
    ) -> tuple[Float[Tensor, " nodes"], Mapping[str, Tensor]]:
        each = [packed.node_sums(reference.token_logps(packed)) for reference in self.references]
        logps = torch.stack(each).unflatten(1, (-1, 2))
        given = self.settings.weights
        weights = discriminative_weights(logps) if given is None else logps.new_tensor(given)[:, None, None]
        trusted = logps if self.settings.clip is None else clipped_to_primary(logps, self.settings.clip)
        virtual = virtual_logps(trusted, weights, self.settings.combine)
        ratios = packed.node_sums(policy_logps) - virtual.flatten()
        return ratios, self._metrics(logps, trusted, weights.expand(-1, logps.shape[1], 1))

    def _metrics(
        self, logps: ResponseLogps, trusted: ResponseLogps, weights: Float[Tensor, "models pairs 1"]
    ) -> dict[str, Tensor]:
        """Sums over pairs: the weight of every model, how often it was clipped, and how far they are apart."""
        names = ("primary", *self.settings.models)
        clipped = (trusted != logps).to(logps.dtype).mean(-1).sum(-1)
        found = {f"weight_{name}": weights[index].sum() for index, name in enumerate(names)}
        found |= {f"clipped_{name}": clipped[index] for index, name in enumerate(names) if index}
        return found | {"reference_spread": (logps.amax(0) - logps.amin(0)).mean(-1).sum()}
