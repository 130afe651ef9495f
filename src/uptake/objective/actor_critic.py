"""Policy gradient with a critic: every token is made likelier or less likely by its advantage, within a clip."""

import logging
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor

from uptake.losses.policy_gradient import clipped_surrogate, value_loss
from uptake.models import LanguageModel, TokenTree, pack
from uptake.models.heads import read
from uptake.objective.base import Loss, Prepared
from uptake.objective.experience import Measured, figures, judged, measure, padded, tree, values_after
from uptake.ops.advantages import explained_variance, gae, whiten
from uptake.ops.divergence import Leash
from uptake.ops.token_rewards import Components, Judged, Pay, Shaping
from uptake.reference import RunningReference
from uptake.types import Rewarded, Rollout

log = logging.getLogger(__name__)

PerToken = Float[Tensor, " tokens"]

# Advantages of fewer responses are left as they are: their spread says nothing.
FEWEST = 8
# A critic that explains less than this is further from the returns than any constant would be.
DIVERGED = -0.5


@dataclass(frozen=True, eq=False)
class Experience:
    """The responses to a prompt with what the round's start says of each of their tokens, in order."""

    group: Rewarded
    logps: PerToken
    values: PerToken
    advantages: PerToken
    returns: PerToken

    @property
    def lengths(self) -> list[int]:
        return [len(rollout.response_ids) for rollout in self.group.rollouts]


@dataclass(frozen=True)
class ActorCritic:
    """Clipped policy gradient and a critic, from rewards by token, by response, or both.

    The pay of a token is what `shaping` makes of the judge's word, less what `leash` takes for drifting from the
    reference. Advantages are generalized estimates by `gamma` and `lam`, whitened over all tokens of the round; returns
    for the critic use `value_lam`. For the first `critic_warmup` rounds all advantages are 0, so that only the critic
    learns. `truncated` "bootstrap" takes the critic's value after the last token of a response that was cut off. The
    loss is a mean over tokens, or over responses. A step that finds the policy further than `target_kl` from where the
    round began, by the mean of half the squared log-ratio (`approx_kl`), is its last. All log-probabilities are of the
    distributions at `temperature`. Assumes that the policy was sampled from at this temperature, without a filter.
    Gives no signal where all pay is alike. Source: Schulman et al. 2017 (arXiv 1707.06347); Ziegler et al. 2019 (arXiv
    1909.08593).
    """

    shaping: Shaping
    leash: Leash
    temperature: float = 1.0
    gamma: float = 1.0
    lam: float = 0.95
    value_lam: float = 1.0
    clip: float = 0.2
    dual_clip: float | None = None
    value_clip: float | None = None
    value_coef: float = 1.0
    whiten: bool = True
    critic_warmup: int = 0
    target_kl: float | None = None
    truncated: Literal["penalty", "bootstrap"] = "penalty"
    mean: Literal["token", "response"] = "token"
    head: str = "value"

    def tree(self, example: Experience) -> TokenTree:
        return tree(example.group)

    def size(self, example: Experience) -> float:
        return float(sum(example.lengths) if self.mean == "token" else len(example.lengths))

    def prepare(
        self,
        policy: LanguageModel,
        reference: RunningReference,
        examples: Sequence[Rewarded],
        memory: Mapping[str, float],
        budget: int,
    ) -> Prepared:
        estimator, temperature = self.leash.estimator, self.temperature
        seen = measure(policy, reference, examples, budget, estimator, self.head, temperature=temperature)
        given = judged(examples, seen.logps.dtype)
        bootstrap = self.truncated == "bootstrap"
        after = values_after(policy, examples, budget, self.head).to(seen.logps.dtype) if bootstrap else None
        beta, round_ = memory.get("beta", self.leash.beta), memory.get("round", 0.0)
        pay = self.shaping(given, memory)
        drift = padded(seen.drift, given.mask.sum(1).tolist())
        parts = Components(pay.judged, -beta * drift, pay.end)
        raw, used, returns = self._aims(given, seen, parts, after)
        if round_ < self.critic_warmup:
            used = torch.zeros_like(used)
        found = figures(given, seen, examples) | _paid(parts, pay, raw)
        found |= {"beta": beta, "explained_variance": _explained(seen.values, returns)}
        rows = len(given.scores)
        kl = {"sum": float(seen.drift.sum()) / rows, "mean": float(seen.drift.mean())}
        later = {**pay.memory, "beta": self.leash.next(beta, kl, rows), "round": round_ + 1}
        tensors = {"logps": seen.logps, "values": seen.values, "advantages": used, "returns": returns}
        return Prepared(tensors, later, found)

    def informed(self, examples: Sequence[Rewarded], tensors: Mapping[str, Tensor]) -> Sequence[Experience]:
        sizes = [sum(len(rollout.response_ids) for rollout in example.rollouts) for example in examples]
        columns = {name: tensor.split(sizes) for name, tensor in tensors.items()}
        return [
            Experience(example, **{name: column[index] for name, column in columns.items()})
            for index, example in enumerate(examples)
        ]

    def shown(self, examples: Sequence[Experience]) -> Iterator[tuple[Rollout, Mapping[str, Sequence[float]]]]:
        """The first response to every prompt with reward, advantage and value of its tokens.

        A reward of the whole response stands at its last token.
        """
        for example in examples:
            rollout, judgement, size = example.group.rollouts[0], example.group.judgements[0], example.lengths[0]
            rewards = judgement.tokens or (*[0.0] * (size - 1), judgement.score)
            advantages, values = (column[:size].tolist() for column in (example.advantages, example.values))
            yield rollout, {"reward": rewards, "advantage": advantages, "value": values}

    def __call__(self, policy: LanguageModel, reference: RunningReference, examples: Sequence[Experience]) -> Loss:
        packed = pack([self.tree(example) for example in examples], lean=True)
        seen = read(policy, packed, self.head, self.temperature)
        logps, old, advantages, returns = (
            torch.cat([getattr(example, name) for example in examples]).to(seen.logps.device)
            for name in ("logps", "values", "advantages", "returns")
        )
        change = seen.logps - logps
        ratio, values = change.exp(), seen.values.to(old.dtype)
        actor = clipped_surrogate(ratio, advantages, self.clip, self.dual_clip)
        critic = value_loss(values, old, returns, self.value_clip)
        metrics = {
            "loss": actor + self.value_coef * critic,
            "policy_loss": actor,
            "value_loss": critic,
            "ratio": ratio,
            "clip_fraction": ((ratio - 1).abs() > self.clip).to(ratio.dtype),
            "approx_kl": change**2 / 2,
            "approx_kl3": ratio - 1 - change,
        }
        if self.value_clip is not None:
            metrics["value_clip_fraction"] = ((values - old).abs() > self.value_clip).to(ratio.dtype)
        weights = self._weights(examples).to(ratio.device, ratio.dtype)
        sums = {name: (weights * value).sum() for name, value in metrics.items()}
        return Loss(sums["loss"], {name: value.detach() for name, value in sums.items()})

    def enough(self, metrics: Mapping[str, float]) -> bool:
        return self.target_kl is not None and metrics["approx_kl"] > self.target_kl

    def _weights(self, examples: Sequence[Experience]) -> PerToken:
        lengths = torch.tensor([length for example in examples for length in example.lengths])
        each = torch.ones(len(lengths)) if self.mean == "token" else 1 / lengths.double()
        return each.repeat_interleave(lengths)

    def _aims(
        self, given: Judged, seen: Measured, parts: Components, after: Float[Tensor, " rows"] | None
    ) -> tuple[PerToken, PerToken, PerToken]:
        """Advantages as they are, advantages as they are used, and returns."""
        mask = given.mask
        values = padded(seen.values, mask.sum(1).tolist())
        raw = gae(parts.total, values, mask, self.gamma, self.lam, after)
        returns = gae(parts.total, values, mask, self.gamma, self.value_lam, after) + values
        used = whiten(raw, mask) if self.whiten and len(mask) >= FEWEST else raw
        return raw[mask], used[mask], returns[mask]


def _explained(values: PerToken, returns: PerToken) -> float:
    """The explained variance of the critic, with a warning where it is worse than none."""
    explained = explained_variance(values, returns)
    if explained < DIVERGED:
        problem = "the critic is worse than a constant, explained variance %.2f: lower its rate, or warm it up longer"
        log.warning(problem, explained)
    return explained


def _paid(parts: Components, pay: Pay, advantages: PerToken) -> dict[str, float]:
    """The components of the pay, as means over responses of sums, and the advantages before they are whitened."""
    kinds = {"pay": parts.total, "pay_judged": parts.judged, "pay_drift": parts.drift, "pay_end": parts.end}
    sums = {name: float(table.sum(1).mean()) for name, table in kinds.items()}
    spread = {"advantage_mean": float(advantages.mean()), "advantage_std": float(advantages.std(correction=0))}
    return {**sums, **pay.figures, **spread}
