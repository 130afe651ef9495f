"""Memory of an optimizer step: what it takes on top of the models, and micro-batches that fit what is free."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from operator import itemgetter

import torch
from torch import Tensor, nn

from uptake.models import LanguageModel, TokenTree, branches, pack
from uptake.models.heads import Critic
from uptake.models.layout import LONG
from uptake.models.memory import free_bytes, weights_bytes
from uptake.models.scorer import TRAINING_CHUNK, packed_states
from uptake.update.optimization import MOST, Optimization
from uptake.update.step import computing, trainable

# Weights x tokens of a micro-batch beyond which a larger one is no faster, and what every processor takes at once.
ENOUGH, AT_ONCE = 1 << 35, 2048
# Tokens of the smallest micro-batch that is worth a call.
LEAST = 128
# The share of what is free that a step may take: other programs need some, too.
SHARE = 0.75
# Tables of logits that a chunk of the vocabulary has at once while it is learned from: their softmax, and gradients.
TABLES = 3
# Gradients of the vocabulary's matrix at once: that of a chunk, their sum, and that of the embeddings.
HEADS = 3
# What the allocator of a processor takes for a byte that is asked for, and in any case: it keeps gaps between tensors.
GAPS, ALWAYS = 1.25, 50 * 2**20

# Trees whose activations stand for those of others, as tokens of their stem and of their two branches: attention keeps
# copies of the context for long branches, and scores of every token by the context for short ones.
STEM, BRANCHES = 32, (LONG, LONG - 1)

MOMENTS: Mapping[str, int] = {"adamw": 2, "rmsprop": 1, "adafactor": 0}


@dataclass(frozen=True)
class StepMemory:
    """Memory of an optimizer step in bytes, on top of the models.

    `gradients` and `moments` are of the trained weights, `table` is the largest of these. A micro-batch takes `fixed`
    and, for each of its tokens, `token` until its backward pass; there, a layer takes `layer` for each, and the logits
    `logits` up to `chunk` tokens. The allocator takes `gaps` bytes for one, and `always` in any case.
    """

    gradients: int
    moments: int
    table: int
    fixed: int
    token: float
    layer: float
    logits: int
    chunk: int
    gaps: float = 1.0
    always: int = 0

    def micro_batch(self, tokens: int) -> float:
        """What a micro-batch takes at most, beside gradients of those before it."""
        passing = max(self.layer * tokens, self.logits * min(tokens, self.chunk) + HEADS * self.table)
        return self.fixed + self.token * tokens + passing

    def peak(self, tokens: int, *, several: bool) -> int:
        """The most that a step with micro-batches of so many tokens takes.

        The gradients of one micro-batch grow where its activations go. Of several, those before are there already, and
        each weight's is added to its own as soon as it is known.
        """
        learning, held = self.micro_batch(tokens), self.gradients + self.table
        taken = self.gradients + learning if several else max(held, learning)
        return round(self.gaps * (self.moments + taken) + self.always)


def step_memory(policy: LanguageModel, settings: Optimization) -> StepMemory:
    """The memory of a step, from the activations that forward passes over one small tree and over two keep.

    What a token takes does not depend on how many there are, as long as no table of queries by keys is kept.
    """
    trained = list(trainable(policy).values())
    caching = policy.device.type != "cpu"  # an allocator of Torch's own
    fixed, token = _activations(policy, settings)
    plain = _activations(policy, replace(settings, recompute=False))[1] if settings.recompute else token
    layers = sum(count_layers(part) for part in (policy.decoder, *policy.heads.values()))
    return StepMemory(
        gradients=weights_bytes(trained),
        moments=MOMENTS[settings.optimizer] * weights_bytes(trained),
        table=max((weights_bytes([weight]) for weight in trained), default=0),
        fixed=fixed,
        token=token,
        layer=(1 + settings.recompute) * plain / max(1, layers),
        logits=4 * TABLES * policy.vocabulary,
        chunk=max(1, TRAINING_CHUNK // policy.vocabulary),
        gaps=1.0 if caching else GAPS,
        always=0 if caching else ALWAYS,
    )


def _activations(policy: LanguageModel, settings: Optimization) -> tuple[int, float]:
    """Bytes that a micro-batch keeps for its backward pass: once, and for each token, of branches that keep most."""
    return max((_activations_of(policy, settings, branch) for branch in BRANCHES), key=itemgetter(1))


def _activations_of(policy: LanguageModel, settings: Optimization, length: int) -> tuple[int, float]:
    """Bytes that trees with branches of some length keep, or of what a shorter window has room for."""
    size = policy.window or STEM + length
    stem, branch = min(STEM, size // 3), min(length, size - size // 3)
    ids = [[(start + offset) % policy.vocabulary for offset in range(STEM + length)] for start in range(4)]
    trees = [branches(one[:stem], one[:branch], other[:branch]) for one, other in (ids[:2], ids[2:])]
    one, two = _saved_bytes(policy, settings, trees[:1]), _saved_bytes(policy, settings, trees)
    token = (two - one) / len(trees[1])
    return max(0, round(one - token * len(trees[0]))), token


def fitting(policy: LanguageModel, settings: Optimization) -> tuple[int, str]:
    """The tokens of a micro-batch that is fast and whose activations fit what is free, with a line that says so.

    More than are fast only cost memory. Where not even the smallest fits, it is that one.
    """
    free, memory = free_bytes(policy.device), step_memory(policy, settings)
    tokens = fitting_tokens(policy, memory, free)
    taken, size = memory.peak(tokens, several=True), memory.token / 2**20
    gib = f"{taken / 2**30:.2g} GiB of the {free / 2**30:.3g} that are free"
    return tokens, f"at most {tokens} tokens of {size:.2g} MiB, so that a step takes {gib} (micro_tokens)"


def fitting_tokens(policy: LanguageModel, memory: StepMemory, free: int) -> int:
    """What `fitting` chooses where so many bytes are free: a power of two."""
    weights = sum(weight.numel() for weight in policy.model.parameters())
    tokens = fast_tokens(weights, policy.device)
    while tokens > LEAST and memory.peak(tokens, several=True) > SHARE * free:
        tokens //= 2
    return tokens


def fast_tokens(weights: int, device: torch.device) -> int:
    """The tokens of a micro-batch beyond which it is no faster: all on a GPU, few of a large model on a processor."""
    if device.type != "cpu":
        return MOST
    return min(MOST, max(AT_ONCE, 1 << (ENOUGH // max(1, weights)).bit_length()))


def count_layers(module: nn.Module) -> int:
    """Layers of a model: the members of its longest list."""
    return max((len(part) for part in module.modules() if isinstance(part, nn.ModuleList)), default=0)


def _saved_bytes(policy: LanguageModel, settings: Optimization, trees: Sequence[TokenTree]) -> int:
    """Bytes that a forward pass over trees keeps for the backward pass, weights aside."""
    packed = pack(trees)
    critics = [head for head in policy.heads.values() if isinstance(head, Critic)]
    found: dict[int, int] = {}

    def keep(state: Tensor) -> Tensor:
        storage = state.untyped_storage()
        found[storage.data_ptr()] = storage.nbytes()
        # An output that its own node kept as it is would hold the whole graph for ever.
        return state.detach()

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda state: state), computing(policy, settings):
        states = [packed_states(policy, packed), *(critic(packed) for critic in critics)]
    parts = [policy.model, *policy.heads.values()]
    weights = (each for part in parts for each in (*part.parameters(), *part.buffers()))
    parameters = {weight.untyped_storage().data_ptr() for weight in weights}
    del states
    return sum(size for address, size in found.items() if address not in parameters)
