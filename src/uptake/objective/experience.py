"""What an actor-critic has to know of a round before it learns: how likely, how far from the reference, how valued."""

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import chain

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from uptake.errors import InputError, ModelError
from uptake.models import LanguageModel, Packed, TokenTree, batches, branches, pack
from uptake.models.check import TOLERANCE
from uptake.models.heads import last_values, read, values_before
from uptake.models.rows import row_logps
from uptake.models.scorer import SCORING_CHUNK, logits, packed_states
from uptake.ops.divergence import ESTIMATORS, Estimator, full_kl
from uptake.ops.token_rewards import Judged
from uptake.reference import Readable, RunningReference
from uptake.types import Rewarded, Rollout

PerToken = Float[Tensor, " tokens"]

# A stretch of so many tokens that occurs again within a response is a repetition.
NGRAM = 4


@dataclass(frozen=True)
class Measured:
    """Of every response token of a round, in order: its log-probability, the value before it, and its drift.

    `drift` is by the estimator that is paid for, `plain` the log-ratio to the reference.
    """

    logps: PerToken
    values: PerToken
    drift: PerToken
    plain: PerToken


def tree(example: Rewarded) -> TokenTree:
    """All responses to a prompt, as branches of one stem."""
    return branches(example.rollouts[0].prompt_ids, *(rollout.response_ids for rollout in example.rollouts))


@torch.no_grad()
def measure(
    policy: LanguageModel,
    reference: RunningReference,
    examples: Sequence[Rewarded],
    budget: int,
    estimator: Estimator,
    head: str,
    *,
    temperature: float = 1.0,
) -> Measured:
    """Read policy, critic and reference as they are, in forward calls of at most `budget` tokens; results on the CPU.

    Log-probabilities and drift are of the distributions at `temperature`, of policy and reference alike. Raises
    ModelError where one of them gives not-a-number.
    """
    parts = []
    for _, packed in batches([tree(example) for example in examples], budget):
        if estimator == "full":
            states = packed_states(policy, packed)
            logps, base, drift = compare(policy, reference, packed, states, temperature)
            values = values_before(policy, packed, head, states)
        else:
            seen = read(policy, packed, head, temperature)
            logps, values, base = seen.logps, seen.values, reference.token_logps(packed, temperature)
            drift = ESTIMATORS[estimator](logps - base)
        parts.append((logps, values.to(logps.dtype), drift, logps - base))
    found = Measured(*(torch.cat(column).cpu() for column in zip(*parts, strict=True)))
    for name in ("logps", "values", "plain"):
        if not bool(getattr(found, name).isfinite().all()):
            raise ModelError(f"{policy.name}: not-a-number among the {name} of a round; the training has diverged")
    return found


def compare(
    policy: LanguageModel,
    reference: RunningReference,
    packed: Packed,
    states: Float[Tensor, "places width"],
    temperature: float = 1.0,
) -> tuple[PerToken, PerToken, PerToken]:
    """Of every wanted token, its log-probability by policy and reference, and the exact divergence before it.

    From the policy's final hidden states, in one pass over the vocabulary. Raises InputError for a reference that is no
    model, or for a model in padded rows whose own log-probabilities are others than its hidden states give.
    """
    if not isinstance(reference, Readable):
        raise InputError("the exact divergence needs a reference that is a model", field="kl", allowed="k1, k2, k3")
    own = states[packed.sources.to(policy.device)]
    other = reference.under(lambda lm: packed_states(lm, packed)[packed.sources.to(lm.device)])
    source, targets = packed.target_source.to(policy.device), packed.targets.to(policy.device)
    step = max(1, SCORING_CHUNK // policy.vocabulary)
    found = own.new_empty(3, len(targets), dtype=torch.promote_types(own.dtype, torch.float32))
    for first, mine, theirs in zip(range(0, len(own), step), own.split(step), other.split(step), strict=True):
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
        gap = temperature * float((row_logps(lm, packed, temperature) - logps).abs().max())
        if gap > TOLERANCE[torch.bfloat16]:
            problem = f"{lm.name}: its log-probabilities differ by {gap:.2g} from those of its hidden states"
            raise InputError(problem, field="kl", allowed="k1, k2, k3")


@torch.no_grad()
def values_after(policy: LanguageModel, examples: Sequence[Rewarded], budget: int, head: str) -> Float[Tensor, " rows"]:
    """The value after the last token of every response that was cut off, 0 for one that ended."""
    trees = [tree(example) for example in examples]
    found = [last_values(policy, pack(trees[at.start : at.stop]), head).cpu() for at, _ in batches(trees, budget)]
    finished = torch.tensor([rollout.finished for rollout in rollouts(examples)])
    return torch.where(finished, torch.zeros_like(torch.cat(found)), torch.cat(found))


def rollouts(examples: Sequence[Rewarded]) -> Iterator[Rollout]:
    """The responses of all examples, in the order of their tokens."""
    return chain.from_iterable(example.rollouts for example in examples)


def judged(examples: Sequence[Rewarded], dtype: torch.dtype) -> Judged:
    """What the judge says of every response; of one that was not judged token by token, zeros."""
    judgements = [judgement for example in examples for judgement in example.judgements]
    lengths = [len(rollout.response_ids) for rollout in rollouts(examples)]
    tokens = [each.tokens or (0.0,) * length for each, length in zip(judgements, lengths, strict=True)]
    return Judged(
        padded(torch.tensor([*chain.from_iterable(tokens)], dtype=dtype), lengths),
        torch.tensor([each.score for each in judgements], dtype=dtype),
        torch.tensor([rollout.finished for rollout in rollouts(examples)]),
        padded(torch.ones(sum(lengths), dtype=torch.bool), lengths),
    )


def padded(flat: Tensor, lengths: Sequence[int]) -> Tensor:
    """Values of consecutive responses as one row a response, padded on the right with zeros."""
    rows: Tensor = pad_sequence(list(flat.split(list(lengths))), batch_first=True)
    return rows


def figures(given: Judged, seen: Measured, examples: Sequence[Rewarded]) -> dict[str, float]:
    """What belongs in every log of such a round, as means over responses, or over tokens where the name says so."""
    mask, said = given.mask, list(rollouts(examples))
    sums, lengths = given.tokens.sum(1), mask.sum(1)
    sampled = [logp for rollout in said for logp in rollout.logps]
    known = all(len(rollout.logps) == len(rollout.response_ids) for rollout in said)
    return {
        "score": float(given.scores.mean()),
        "token_reward_sum": float(sums.mean()),
        "token_reward_mean": float(given.tokens[mask].mean()),
        "length": float(lengths.double().mean()),
        "truncated": float((~given.finished).double().mean()),
        "length_correlation": _correlation(sums + given.scores, lengths),
        "entropy": -float(seen.logps.mean()),
        "repetition": sum(map(_repeated, said)) / len(said),
        "kl": float(seen.plain.sum()) / len(said),
        "kl_token": float(seen.plain.mean()),
        # How far the scorer is from what the sampler said of its own tokens: rounding, or a fault.
        "sampler_gap": float((seen.logps - seen.logps.new_tensor(sampled)).abs().mean()) if known else 0.0,
    }


def _correlation(one: Tensor, other: Tensor) -> float:
    """Pearson's; 0 where one of the two does not vary."""
    x, y = one.double() - one.double().mean(), other.double() - other.double().mean()
    norm = float(x.norm() * y.norm())
    return float(x @ y) / norm if norm else 0.0


def _repeated(rollout: Rollout) -> float:
    """The share of stretches of a response that occurred in it before."""
    ids = rollout.response_ids
    grams = Counter(ids[start : start + NGRAM] for start in range(len(ids) - NGRAM + 1))
    return 1 - len(grams) / grams.total() if grams else 0.0
