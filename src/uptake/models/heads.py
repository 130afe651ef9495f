"""Scalar heads on the final hidden states: a score per response, or a value per token, from the same packed trees."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import final

import torch
from jaxtyping import Float, Shaped
from torch import Tensor, nn
from torch.nn.functional import linear

from uptake.errors import InputError
from uptake.models.classifier import SCORE, check_classifier
from uptake.models.language_model import LanguageModel
from uptake.models.rows import row_logps
from uptake.models.scorer import packed_states, project
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


@dataclass(frozen=True)
class Read:
    """What an actor-critic reads off a packed row: the log-probability of every wanted token, and the value before it.

    Both come from the state that predicts the token, so a value knows nothing of the token itself.
    """

    logps: Float[Tensor, " wanted"]
    values: Float[Tensor, " wanted"]


def read(lm: LanguageModel, packed: Packed, head: str) -> Read:
    """Log-probabilities and values of one trunk, differentiable, from one forward call (two in padded rows)."""
    states = packed_states(lm, packed)
    logps = row_logps(lm, packed) if lm.attention == "rows" else project(lm, states, packed)
    before = packed.sources[packed.target_source].to(states.device)
    return Read(logps, _head(lm, head)(states[before]))


def token_states(lm: LanguageModel, packed: Packed) -> Float[Tensor, "wanted width"]:
    """Final hidden state at every wanted token itself, not at the token that predicts it; differentiable.

    Raises InputError for a lean row, which leaves some of these tokens out.
    """
    if bool((packed.target_positions < 0).any()):
        raise InputError("a lean row has no state at the last token of a leaf", allowed="pack(trees)")
    states = packed_states(lm, packed)
    return states[packed.target_positions.to(states.device)]


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


def _head(lm: LanguageModel, name: str) -> Callable[[Tensor], Tensor]:
    if name not in lm.heads:
        have = ", ".join(sorted(lm.heads)) or "none"
        raise InputError(f"{lm.name} has no head called {name!r}; it has: {have}", field="modules")
    return lm.heads[name]
