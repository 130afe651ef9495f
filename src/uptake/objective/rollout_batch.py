"""Rollout batch of an actor-critic: log-probabilities, values, rewards and advantages as tables, and their reading."""

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from uptake.errors import InputError, ModelError
from uptake.models import LanguageModel, Packed, TokenTree, batches, branches, pack, token_logps
from uptake.models.check import TOLERANCE
from uptake.models.heads import last_values, read, values_before
from uptake.models.packing import cut
from uptake.models.scorer import SCORING_CHUNK, logits, packed_states
from uptake.ops.axes import PerResponse, PerToken, ResponseMask, TokenTable
from uptake.ops.divergence import ESTIMATORS, Estimator, full_kl
from uptake.reference import Readable, RunningReference
from uptake.types import JudgedGroup, Rollout

# A stretch of so many tokens that occurs again within a response is a repetition.
NGRAM = 4


@dataclass(frozen=True, eq=False)
class RolloutBatch:
    """Rollout batch: the responses to a prompt as rows, their tokens as columns, padded on the right.

    All of it is as the round's start has it. `policy_logps` and `ref_logps` are log-probabilities of the tokens by
    policy and reference, `values` the critic's before each token, `rewards` what a token earned with its KL penalty,
    `advantages` as they are used, and `returns` what the critic learns. Where `response_mask` is false all are 0. The
    policy rests where all advantages of the round are 0: it has nothing to learn.
    """

    group: JudgedGroup
    response_mask: ResponseMask
    policy_logps: TokenTable
    ref_logps: TokenTable
    values: TokenTable
    rewards: TokenTable
    advantages: TokenTable
    returns: TokenTable
    policy_rests: bool = False

    @property
    def lengths(self) -> list[int]:
        return [len(rollout.response_ids) for rollout, _ in self.group]


def response_tree(example: JudgedGroup) -> TokenTree:
    """Token tree of all responses to a prompt, as branches of one stem."""
    return branches(example[0][0].prompt_ids, *(rollout.response_ids for rollout, _ in example))


def rollouts(examples: Sequence[JudgedGroup]) -> Iterator[Rollout]:
    """Responses of all examples, in the order of rows."""
    return (rollout for example in examples for rollout, _ in example)


def response_mask(examples: Sequence[JudgedGroup]) -> ResponseMask:
    """Mask of a round's response tokens, a row for every response of all examples in order."""
    lengths = torch.tensor([len(rollout.response_ids) for rollout in rollouts(examples)])
    return torch.arange(int(lengths.max())) < lengths[:, None]


def padded(flat: PerToken, mask: ResponseMask) -> TokenTable:
    """Table of the values of all tokens in order, 0 in the padding."""
    return torch.zeros(mask.shape, dtype=flat.dtype).masked_scatter(mask, flat)


def reward_table(examples: Sequence[JudgedGroup], mask: ResponseMask, dtype: torch.dtype) -> TokenTable:
    """Table of token rewards as they were given; 0 where responses were rewarded as a whole only."""
    given = [reward for example in examples for _, judgement in example for reward in judgement.tokens]
    return padded(torch.tensor(given, dtype=dtype), mask) if given else torch.zeros(mask.shape, dtype=dtype)


@torch.no_grad()
def measure(
    policy: LanguageModel,
    reference: RunningReference,
    examples: Sequence[JudgedGroup],
    budget: int,
    estimator: Estimator,
    head: str,
    *,
    temperature: float = 1.0,
) -> tuple[TokenTable, TokenTable, TokenTable, TokenTable]:
    """Tables of `policy_logps`, `ref_logps`, `values` and the divergence by `estimator`, read as the models are.

    Forward calls have at most `budget` tokens; results are on the CPU. Log-probabilities and divergence are of the
    distributions at `temperature`, of policy and reference alike. Raises ModelError where one gives not-a-number.
    """
    parts = []
    for _, packed in batches([response_tree(example) for example in examples], budget):
        if estimator == "full":
            states = packed_states(policy, packed)
            logps, base, kl = compare(policy, reference, packed, states, temperature)
            values = values_before(policy, packed, head, states)
        else:
            seen = read(policy, packed, head, temperature)
            logps, values, base = seen.logps, seen.values, reference.token_logps(packed, temperature)
            kl = ESTIMATORS[estimator](logps - base)
        parts.append((logps, base, values.to(logps.dtype), kl))
    mask = response_mask(examples)
    policy_logps, ref_logps, before, divergence = (
        padded(torch.cat(column).cpu(), mask) for column in zip(*parts, strict=True)
    )
    for name, table in (("policy_logps", policy_logps), ("values", before), ("ref_logps", ref_logps)):
        if not bool(table.isfinite().all()):
            raise ModelError(f"{policy.name}: not-a-number among the {name} of a round; the training has diverged")
    return policy_logps, ref_logps, before, divergence


def compare(
    policy: LanguageModel,
    reference: RunningReference,
    packed: Packed,
    states: Float[Tensor, "places width"],
    temperature: float = 1.0,
) -> tuple[PerToken, PerToken, PerToken]:
    """Log-probability of every wanted token by policy and reference, and the exact KL divergence before it.

    From the policy's final hidden states, in one pass over the vocabulary. Raises InputError for a reference that is no
    model, or for a model in padded rows whose own log-probabilities are others than its hidden states give.
    """
    if not isinstance(reference, Readable):
        raise InputError("the exact divergence needs a reference that is a model", field="kl", allowed="k1, k2, k3")
    policy_states = states[packed.sources.to(policy.device)]
    other = reference.under(lambda lm: packed_states(lm, packed)[packed.sources.to(lm.device)])
    source, targets = packed.target_source.to(policy.device), packed.targets.to(policy.device)
    step = max(1, SCORING_CHUNK // policy.vocabulary)
    found = policy_states.new_empty(3, len(targets), dtype=torch.promote_types(policy_states.dtype, torch.float32))
    for first, mine, theirs in zip(
        range(0, len(policy_states), step), policy_states.split(step), other.split(step), strict=True
    ):
        p = logits(policy, mine, temperature).log_softmax(-1)
        q = reference.under(lambda lm, at=theirs: logits(lm, at, temperature).log_softmax(-1))  # type: ignore[misc]
        here = (source // step == first // step).nonzero()[:, 0]
        row, token = source[here] - first, targets[here]
        found[:, here] = torch.stack((p[row, token], q[row, token], full_kl(p, q)[row]))
    _check_head(policy, packed, found[0], temperature)
    reference.under(lambda lm: _check_head(lm, packed, found[1], temperature))
    return found[0], found[1], found[2]


def _check_head(lm: LanguageModel, packed: Packed, logps: PerToken, temperature: float) -> None:
    """Trees were checked when the model was loaded; in rows, a model may do more to its logits than we know of."""
    if lm.attention == "rows":
        gap = temperature * float((token_logps(lm, packed, temperature) - logps).abs().max())
        if gap > TOLERANCE[torch.bfloat16]:
            problem = f"{lm.name}: its log-probabilities differ by {gap:.2g} from those of its hidden states"
            raise InputError(problem, field="kl", allowed="k1, k2, k3")


@torch.no_grad()
def bootstrap_values(
    policy: LanguageModel, examples: Sequence[JudgedGroup], finished: Bool[Tensor, " responses"], budget: int, head: str
) -> PerResponse:
    """Values after the last token of every response that was cut off, 0 for one that ended."""
    trees = [response_tree(example) for example in examples]
    found = [last_values(policy, pack(trees[at.start : at.stop]), head).cpu() for at in cut(trees, budget)]
    return torch.where(finished, torch.zeros_like(torch.cat(found)), torch.cat(found))


def response_metrics(
    examples: Sequence[JudgedGroup], rewards: TokenTable, scores: PerResponse, mask: ResponseMask
) -> dict[str, float]:
    """Metrics of a round's responses and the rewards given: means over responses, or tokens where the name says so."""
    responses = list(rollouts(examples))
    sums, lengths = rewards.sum(1), mask.sum(1)
    return {
        "score": float(scores.mean()),
        "token_reward_sum": float(sums.mean()),
        "token_reward_mean": float(rewards[mask].mean()),
        "length": float(lengths.double().mean()),
        "truncated": sum(not rollout.finished for rollout in responses) / len(responses),
        "length_correlation": _correlation(sums + scores, lengths),
        "repetition": sum(map(_repeated, responses)) / len(responses),
    }


def policy_metrics(
    examples: Sequence[JudgedGroup], policy_logps: TokenTable, ref_logps: TokenTable, mask: ResponseMask
) -> dict[str, float]:
    """Metrics of a round's log-probabilities: entropy, divergence from the reference, and from the sampler's own."""
    responses, ratios = list(rollouts(examples)), (policy_logps - ref_logps)[mask]
    sampled = [logp for rollout in responses for logp in rollout.logps]
    known = all(len(rollout.logps) == len(rollout.response_ids) for rollout in responses)
    logps = policy_logps[mask]
    return {
        "entropy": -float(logps.mean()),
        "kl": float(ratios.sum()) / len(responses),
        "kl_token": float(ratios.mean()),
        # How far the scorer is from what the sampler said of its own tokens: rounding, or a fault.
        "sampler_gap": float((logps - logps.new_tensor(sampled)).abs().mean()) if known else 0.0,
    }


def _correlation(one: Tensor, other: Tensor) -> float:
    """Pearson correlation; 0 where one of the two does not vary."""
    x, y = one.double() - one.double().mean(), other.double() - other.double().mean()
    norm = float(x.norm() * y.norm())
    return float(x @ y) / norm if norm else 0.0


def _repeated(rollout: Rollout) -> float:
    """Share of stretches of a response that occurred in it before."""
    ids = rollout.response_ids
    grams = Counter(ids[start : start + NGRAM] for start in range(len(ids) - NGRAM + 1))
    return 1 - len(grams) / grams.total() if grams else 0.0
