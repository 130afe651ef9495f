"""Actor-critic: policy gradient with a clip and a critic, from the advantage of every token."""

import logging
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from uptake.losses.policy_gradient import clipped_surrogate, value_loss
from uptake.models import LanguageModel, TokenTree, pack
from uptake.models.heads import read, read_values
from uptake.objective.base import Loss, RoundObjective
from uptake.objective.rollout_batch import (
    RolloutBatch,
    bootstrap_values,
    measure,
    policy_metrics,
    response_mask,
    response_metrics,
    response_tree,
    reward_table,
    rollouts,
)
from uptake.ops.advantages import Whitening, explained_variance, gae, value_targets, whiten
from uptake.ops.axes import PerToken, ResponseMask, TokenTable
from uptake.ops.divergence import KLPenalty
from uptake.ops.reward_shaping import RewardShaping, at_last_token
from uptake.reference import RunningReference
from uptake.types import JudgedGroup, Rollout

log = logging.getLogger(__name__)

# Advantages of fewer responses are left as they are: their spread says nothing.
FEWEST = 8
# A critic that explains less than this is further from the returns than any constant would be.
DIVERGED = -0.5


@dataclass(frozen=True)
class ActorCritic(RoundObjective):
    """Clipped policy gradient and a critic, from rewards by token, by response, or both.

    The reward of a token is what `reward_shaping` makes of the given ones, less the `kl_penalty`. Advantages are
    generalized estimates by `gamma` and `lam`, whitened over all tokens of the round (`whiten`); returns for the critic
    use `value_lam`. For the first `critic_warmup` rounds all advantages are 0, so that only the critic learns; a policy
    that is no part of it is then not called, and has no metrics. `truncated` "bootstrap" takes the critic's value after
    the last token of a response that was cut off. The loss is a mean over tokens, or over responses. A step that finds
    the policy further than `target_kl` from where the round began, by the mean of half the squared log-ratio
    (`approx_kl`), is its last. All log-probabilities are of the distributions at `temperature`. Assumes that the policy
    was sampled from at this temperature, without a filter.
    Gives no signal where all rewards are alike. Source: Schulman et al. 2017 (arXiv 1707.06347); Ziegler et al. 2019
    (arXiv 1909.08593).
    """

    reward_shaping: RewardShaping
    kl_penalty: KLPenalty
    temperature: float = 1.0
    gamma: float = 1.0
    lam: float = 0.95
    value_lam: float = 1.0
    clip: float = 0.2
    dual_clip: float | None = None
    value_clip: float | None = None
    value_coef: float = 1.0
    whiten: Whitening = "sample"
    critic_warmup: int = 0
    target_kl: float | None = None
    truncated: Literal["penalty", "bootstrap"] = "penalty"
    mean: Literal["token", "response"] = "token"
    head: str = "value"

    def tree(self, example: RolloutBatch) -> TokenTree:
        return response_tree(example.group)

    def size(self, example: RolloutBatch) -> float:
        return float(sum(example.lengths) if self.mean == "token" else len(example.lengths))

    def prepare(
        self,
        policy: LanguageModel,
        reference: RunningReference,
        examples: Sequence[JudgedGroup],
        memory: Mapping[str, float],
        budget: int,
    ) -> tuple[dict[str, Tensor], dict[str, float], dict[str, float]]:
        """Tables of the round by the names of `RolloutBatch`; memory of shaping, KL coefficient and rounds; metrics."""
        shaping, mask = self.reward_shaping, response_mask(examples)
        policy_logps, ref_logps, values, kl = measure(
            policy, reference, examples, budget, self.kl_penalty.estimator, self.head, temperature=self.temperature
        )
        given = reward_table(examples, mask, values.dtype)
        scores = values.new_tensor([judgement.score for example in examples for _, judgement in example])
        finished = torch.tensor([rollout.finished for rollout in rollouts(examples)])
        ends = at_last_token(finished, mask)
        statistics = shaping.statistics(given, scores, mask, ends, memory)
        beta, round_ = memory.get("beta", self.kl_penalty.beta), memory.get("round", 0.0)
        parts = {
            "reward_tokens": shaping.token_part(given, mask, ends, statistics),
            "kl_penalty": -beta * kl,
            "reward_end": shaping.end_part(scores, finished, mask, statistics),
        }
        rewards = sum(parts.values(), torch.zeros_like(kl))
        after = None
        if self.truncated == "bootstrap":
            after = bootstrap_values(policy, examples, finished, budget, self.head).to(values.dtype)
        advantages = gae(rewards, values, mask, self.gamma, self.lam, after)
        returns = value_targets(rewards, values, mask, self.gamma, self.value_lam, after)
        metrics = {
            **response_metrics(examples, given, scores, mask),
            **policy_metrics(examples, policy_logps, ref_logps, mask),
            **{name: float(table.sum(1).mean()) for name, table in {"reward": rewards, **parts}.items()},
            **{name: statistics[name] for name in ("mu", "kappa", "clipped_tokens")},
            "beta": beta,
            "advantage_mean": float(advantages[mask].mean()),
            "advantage_std": float(advantages[mask].std(correction=0)),
            "explained_variance": _explained(values[mask], returns[mask]),
        }
        next_beta = self.kl_penalty.next_beta(beta, kl, len(mask), int(mask.sum()))
        tensors = {
            "response_mask": mask,
            "policy_logps": policy_logps,
            "ref_logps": ref_logps,
            "values": values,
            "rewards": rewards,
            "advantages": self._whitened(advantages, mask, round_),
            "returns": returns,
        }
        return tensors, {**statistics, "beta": next_beta, "round": round_ + 1}, metrics

    def with_prepared(self, examples: Sequence[JudgedGroup], tensors: Mapping[str, Tensor]) -> Sequence[RolloutBatch]:
        sizes = [len(example) for example in examples]
        columns = {name: table.split(sizes) for name, table in tensors.items()}
        rests = not bool(tensors["advantages"].any())
        return [
            RolloutBatch(example, **{name: rows[index] for name, rows in columns.items()}, policy_rests=rests)
            for index, example in enumerate(examples)
        ]

    def token_values(self, examples: Sequence[RolloutBatch]) -> Iterator[tuple[Rollout, Mapping[str, Sequence[float]]]]:
        """Reward as it was given, advantage and value of every token of the first response to every prompt.

        A reward of the whole response stands at its last token.
        """
        for example in examples:
            (rollout, judgement), size = example.group[0], example.lengths[0]
            rewards = judgement.tokens or (*[0.0] * (size - 1), judgement.score)
            advantages, values = (table[0, :size].tolist() for table in (example.advantages, example.values))
            yield rollout, {"reward": rewards, "advantage": advantages, "value": values}

    def __call__(self, policy: LanguageModel, reference: RunningReference, examples: Sequence[RolloutBatch]) -> Loss:
        packed = pack([self.tree(example) for example in examples], lean=True)
        if all(example.policy_rests for example in examples):
            values, actor = read_values(policy, packed, self.head), {}
        else:
            seen = read(policy, packed, self.head, self.temperature)
            values, actor = seen.values, self._actor(seen.logps, examples)
        old_values, returns = (_flat(name, examples).to(values.device) for name in ("values", "returns"))
        values = values.to(old_values.dtype)
        critic = value_loss(values, old_values, returns, self.value_clip)
        loss = actor.get("policy_loss", 0) + self.value_coef * critic
        metrics = {"loss": loss, **actor, "value_loss": critic}
        if self.value_clip is not None:
            metrics["value_clip_fraction"] = ((values - old_values).abs() > self.value_clip).to(values.dtype)
        weights = self._weights(examples).to(values.device, values.dtype)
        sums = {name: (weights * value).sum() for name, value in metrics.items()}
        return Loss(sums["loss"], {name: value.detach() for name, value in sums.items()})

    def _actor(self, logps: PerToken, examples: Sequence[RolloutBatch]) -> dict[str, PerToken]:
        """The policy's loss of every token and what is said of it; there is nothing to say of a policy that rests."""
        old, advantages = (_flat(name, examples).to(logps.device) for name in ("policy_logps", "advantages"))
        change = logps - old
        ratio = change.exp()
        return {
            "policy_loss": clipped_surrogate(ratio, advantages, self.clip, self.dual_clip),
            "ratio": ratio,
            "clip_fraction": ((ratio - 1).abs() > self.clip).to(ratio.dtype),
            "approx_kl": change**2 / 2,
            "approx_kl3": ratio - 1 - change,
        }

    def ends_round(self, metrics: Mapping[str, float]) -> bool:
        return self.target_kl is not None and metrics.get("approx_kl", 0.0) > self.target_kl

    def _whitened(self, advantages: TokenTable, mask: ResponseMask, round_: float) -> TokenTable:
        """Advantages as the loss takes them: whitened, and none of them while the critic warms up."""
        if round_ < self.critic_warmup:
            return torch.zeros_like(advantages)
        return whiten(advantages, mask, self.whiten if len(mask) >= FEWEST else "none")

    def _weights(self, examples: Sequence[RolloutBatch]) -> PerToken:
        """Weights of the tokens in the step's mean."""
        lengths = torch.tensor([length for example in examples for length in example.lengths])
        each = torch.ones(len(lengths)) if self.mean == "token" else 1 / lengths.double()
        return each.repeat_interleave(lengths)


def _flat(name: str, examples: Sequence[RolloutBatch]) -> PerToken:
    """A table of the round's start at the response tokens of some examples, in order."""
    return torch.cat([getattr(example, name)[example.response_mask] for example in examples])


def _explained(values: PerToken, returns: PerToken) -> float:
    """Explained variance of the critic, with a warning where it is worse than none."""
    explained = explained_variance(values, returns)
    if explained < DIVERGED:
        problem = "the critic is worse than a constant, explained variance %.2f: lower its rate, or warm it up longer"
        log.warning(problem, explained)
    return explained
