"""Scalar heads on final hidden states: a score per response, or a value per token, from the same packed trees.

A value may also come from a network of its own, a critic.
"""

import copy
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import final

import torch
from jaxtyping import Float, Int, Shaped
from torch import Tensor, nn
from torch.nn.functional import linear

from uptake.errors import InputError
from uptake.models.classifier import SCORE, check_classifier
from uptake.models.language_model import LanguageModel
from uptake.models.rope import apart, joined
from uptake.models.scorer import by_table, packed_states, project, token_logps
from uptake.models.token_classifier import LABELS, check_token_classifier
from uptake.models.tree import Packed


@final
class ScalarHead(nn.Module):
    """One number from a hidden state, `w h + b`, computed in fp32 or better whatever the precision of the model.

    The weights are drawn from a normal distribution of standard deviation `std`: 0 is a zero head.
    """

    def __init__(self, width: int, std: float = 0.0, bias: bool = False) -> None:
        super().__init__()
        self.weight = nn.Parameter(std * torch.randn(1, width))
        self.bias = nn.Parameter(torch.zeros(1)) if bias else None

    def forward(self, states: Float[Tensor, "*rows width"]) -> Float[Tensor, "*rows"]:
        with torch.autocast(states.device.type, enabled=False):
            return linear(states.to(self.weight.dtype), self.weight, self.bias).squeeze(-1)


@dataclass(frozen=True)
class AddHead:
    """The `modules` of a stage whose policy needs one scalar head, called `name`.

    A policy with a head called "score" is saved as a sequence classifier, whose score has no bias: raises InputError
    for one. One with a head called "token_reward" or "token_logit" is saved as a token classifier. A call raises
    ModelError where Transformers has no such classifier of the architecture.
    """

    name: str = SCORE
    std: float = 0.0
    bias: bool = False

    def __post_init__(self) -> None:
        if self.bias and self.name == SCORE:
            raise InputError(
                "a score head with a bias", field="bias", allowed="false, as a classifier's score has none"
            )

    def __call__(self, policy: LanguageModel) -> Mapping[str, nn.Module]:
        if self.name == SCORE:
            check_classifier(policy)
        if self.name in LABELS:
            check_token_classifier(policy)
        head = ScalarHead(policy.config.hidden_size, self.std, self.bias)
        return {self.name: head.to(policy.device, torch.promote_types(policy.dtype, torch.float32))}


@final
class Critic(nn.Module):
    """A network of its own that values every token of a packed row: a copy of the policy's backbone under a zero head.

    Under LoRA the copy has the policy's adapter, and only that and the head learn. The vocabulary projection is not
    copied.
    """

    def __init__(self, policy: LanguageModel) -> None:
        super().__init__()
        self.backbone = copy.deepcopy(policy.decoder)
        self.head = ScalarHead(policy.config.hidden_size).to(
            policy.device, torch.promote_types(policy.dtype, torch.float32)
        )
        self._lm = replace(policy, name=f"the critic of {policy.name}", model=self.backbone, heads={})

    def forward(self, packed: Packed) -> Float[Tensor, " tokens"]:
        values: Tensor = self.head(packed_states(self._lm, packed))
        return values


@dataclass(frozen=True)
class AddCritic:
    """The `modules` of a stage whose policy needs a critic of its own, called `name`; it starts as the policy does."""

    name: str

    def __call__(self, policy: LanguageModel) -> Mapping[str, nn.Module]:
        return {self.name: Critic(policy)}


@dataclass(frozen=True)
class Read:
    """Log-probability of every wanted token of a packed row, and the value before it.

    Both come from the state that predicts the token, so a value knows nothing of the token itself.
    """

    logps: Float[Tensor, " wanted"]
    values: Float[Tensor, " wanted"]


def read(lm: LanguageModel, packed: Packed, head: str, temperature: float = 1.0) -> Read:
    """Log-probabilities, of the distribution at `temperature`, and values, differentiable.

    A head shares the policy's trunk: one forward call (two in padded rows). A `Critic` has a trunk of its own.
    """
    if lm.rope is None:
        return _read(lm, packed, head, temperature)
    parts = apart(packed, lm.rope)
    found = [_read(lm, part, head, temperature) for part, _ in parts]
    return Read(joined(parts, [each.logps for each in found]), joined(parts, [each.values for each in found]))


def _read(lm: LanguageModel, packed: Packed, head: str, temperature: float) -> Read:
    if isinstance(_head(lm, head), Critic):
        return Read(token_logps(lm, packed, temperature), _values(lm, packed, head))
    states = packed_states(lm, packed)
    # In padded rows a model's own log-probabilities may be others than its hidden states give.
    in_rows = lm.attention == "rows"
    logps = token_logps(lm, packed, temperature) if in_rows else project(lm, states, packed, temperature)
    return Read(logps, values_before(lm, packed, head, states))


def read_values(lm: LanguageModel, packed: Packed, head: str) -> Float[Tensor, " wanted"]:
    """The values that `read` gives, without its log-probabilities: of a `Critic`, without a call of the policy."""
    return by_table(lm, packed, lambda part: _values(lm, part, head))


def _values(lm: LanguageModel, packed: Packed, head: str) -> Float[Tensor, " wanted"]:
    value = _head(lm, head)
    if isinstance(value, Critic):
        values: Tensor = value(packed)
        return values[packed.sources[packed.target_source].to(lm.device)]
    return values_before(lm, packed, head, packed_states(lm, packed))


def values_before(
    lm: LanguageModel, packed: Packed, head: str, states: Float[Tensor, "tokens width"]
) -> Float[Tensor, " wanted"]:
    """The values that `read` gives, from the final hidden states of the packed row; a `Critic` computes its own."""
    value, before = _head(lm, head), packed.sources[packed.target_source].to(states.device)
    return value(packed)[before] if isinstance(value, Critic) else value(states[before])


def last_values(lm: LanguageModel, packed: Packed, head: str) -> Float[Tensor, " nodes"]:
    """The value after the last token of every scored node; raises InputError for a lean row, as `token_states` does."""
    value = _head(lm, head)
    if isinstance(value, Critic):
        return node_last(packed, value(packed)[_wanted_places(packed).to(lm.device)])
    return node_last(packed, value(token_states(lm, packed)))


def token_states(lm: LanguageModel, packed: Packed) -> Float[Tensor, "wanted width"]:
    """Final hidden state at every wanted token itself, not at the token that predicts it; differentiable.

    Raises InputError for a lean row, which leaves some of these tokens out.
    """
    places = _wanted_places(packed)
    states = packed_states(lm, packed)
    return states[places.to(states.device)]


def token_values(lm: LanguageModel, packed: Packed, head: str) -> Float[Tensor, " wanted"]:
    """What a head says at every wanted token itself; raises InputError where the model has no head of this name."""
    return _head(lm, head)(token_states(lm, packed))


def node_last(packed: Packed, table: Shaped[Tensor, "wanted *rest"]) -> Shaped[Tensor, "nodes *rest"]:
    """The entry of the last token of every scored node.

    Raises InputError for a root of a single token, which has no entry, as nothing comes before it.
    """
    if not bool(packed.lengths.all()):
        raise InputError("a scored root of one token has no last entry", allowed="scored nodes after a stem")
    return table[(packed.lengths.cumsum(0) - 1).to(table.device)]


def _wanted_places(packed: Packed) -> Int[Tensor, " wanted"]:
    if bool((packed.target_positions < 0).any()):
        raise InputError("a lean row has no state at the last token of a leaf", allowed="pack(trees)")
    return packed.target_positions


def _head(lm: LanguageModel, name: str) -> Callable[[Tensor], Tensor]:
    if name not in lm.heads:
        have = ", ".join(sorted(lm.heads)) or "none"
        raise InputError(f"{lm.name} has no head called {name!r}; it has: {have}", field="modules")
    return lm.heads[name]
