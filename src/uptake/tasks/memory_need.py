"""Memory that a run needs at the peak of its steps, told before one is taken, and settings with which it fits."""

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import nn

from uptake.errors import InputError
from uptake.models import LanguageModel
from uptake.models.heads import Critic
from uptake.models.low_rank import begins_as_base
from uptake.models.memory import free_bytes, weights_bytes
from uptake.recipe import Stage
from uptake.reference import Behaviour, Frozen, Previous, Reference
from uptake.reference.remembering import Remembering
from uptake.reference.virtual import Virtual
from uptake.support.memory import held_memory
from uptake.update import Optimization, fitting_tokens, step_memory, trainable
from uptake.update.memory import LEAST, MOMENTS
from uptake.world import World

GIB = 2**30

# Bytes that a run may take before smaller settings are named: those of a laptop.
LAPTOP = 8 * GIB

# The rank of the adapter that is proposed.
RANK = 16

_SIZE = re.compile(r"\s*(\d+(?:\.\d+)?)\s*([KMGT]?)(?:i?B)?\s*", re.IGNORECASE)

# The distinct tokens of every example, by optimizer step.
Costs = Sequence[Sequence[int]]


@dataclass(frozen=True)
class MemoryNeed:
    """Memory of a run: the bytes that its process holds at the peak of a step whose micro-batches have `tokens`."""

    peak: int
    tokens: int


@dataclass(frozen=True)
class StepSettings:
    """Settings that memory depends on: those of the update, an adapter, and a critic that shares the policy's trunk."""

    update: Optimization
    lora: bool = False
    shared: bool = False


def memory_size(text: str) -> int:
    """The bytes that "8GB" or "512 MiB" names, in powers of 1,024; a number alone is in GB. Raises InputError."""
    found = _SIZE.fullmatch(text)
    if found is None or not 0 < float(found[1]) < 2**40:
        raise InputError(repr(text), field="--memory", allowed="a size, as 8GB or 512MB")
    return int(float(found[1]) * 1024 ** " KMGT".index(found[2].upper() or "G"))


def memory_text(size: int) -> str:
    """A size as people read it: "586 MiB" or "3.21 GiB"."""
    return f"{size / 2**20:.0f} MiB" if size < GIB else f"{size / GIB:.3g} GiB"


def held_bytes(device: torch.device) -> int:
    """Bytes that this process holds on a device."""
    return torch.cuda.memory_allocated(device) if device.type == "cuda" else held_memory()


def memory_need(
    stage: Stage, world: World, costs: Costs, held: int, settings: StepSettings | None = None
) -> MemoryNeed:
    """What steps of such examples take on top of what is `held`, by a policy with the modules of the stage beside it.

    The models of the world are held already; what is not is a frozen copy of the policy, and all that learns.
    """
    settings, policy = settings or StepSettings(stage.update), world.policy
    copied = 0 if settings.lora else copied_bytes(stage.reference, policy)
    held += copied
    if settings.shared:
        held -= sum(weights_bytes(head.parameters()) for head in policy.heads.values() if isinstance(head, Critic))
        policy = replace(policy, heads={})
    memory = step_memory(policy, settings.update)
    if settings.lora:
        learned = _adapter_bytes(policy.model)
        moments = MOMENTS[settings.update.optimizer] * learned
        memory = replace(memory, gradients=learned, moments=moments, table=0)
    budget = settings.update.micro_tokens or fitting_tokens(policy, memory, free_bytes(policy.device) - copied)
    cut = [[sum(batch[part]) for part in _cuts(batch, budget)] for batch in costs]
    tokens = max(max(parts) for parts in cut)
    return MemoryNeed(held + memory.peak(tokens, several=any(len(parts) > 1 for parts in cut)), tokens)


def _cuts(costs: Sequence[int], budget: int) -> Iterator[slice]:
    """The parts of a row of costs that are at most `budget` together, as if no example shared a token with another."""
    start, used = 0, 0
    for index, cost in enumerate(costs):
        if used and used + cost > budget:
            yield slice(start, index)
            start, used = index, 0
        used += cost
    yield slice(start, len(costs))


def copied_bytes(reference: Reference, policy: LanguageModel) -> int:
    """Bytes of what a reference copies of the policy; models that were given are held anyway."""
    match reference:
        case Frozen() | Previous() | Remembering():
            return weights_bytes(policy.model.parameters())
        case Behaviour():
            # The copy shares what does not learn.
            learned = weights_bytes(trainable(policy).values())
            return learned + (0 if begins_as_base(policy) else weights_bytes(policy.model.parameters()))
        case Virtual(primary=primary):
            return copied_bytes(primary, policy)
        case _:
            return 0


def what_fits(stage: Stage, world: World, costs: Costs, held: int, limit: int) -> str:
    """What to set where a run takes more than `limit` bytes: each setting that is enough, or as many as it takes.

    Empty where the run fits.
    """
    need = memory_need(stage, world, costs, held)
    if need.peak <= limit:
        return ""
    problem = f"the run takes about {memory_text(need.peak)}, and there are {memory_text(limit)}"
    changes = list(_smaller(stage, world, need))
    now = StepSettings(stage.update)
    alone = [(name, memory_need(stage, world, costs, held, change(now)).peak) for name, change in changes]
    if enough := [f"{name} ({memory_text(peak)})" for name, peak in alone if peak <= limit]:
        return f"{problem}: it fits with {', or with '.join(enough)}"
    words: list[str] = []
    left = need.peak
    for (name, change), (_, peak) in zip(changes, alone, strict=True):
        if peak < need.peak:
            now, words = change(now), [*words, name]
            left = memory_need(stage, world, costs, held, now).peak
        if left <= limit:
            return f"{problem}: it fits with {' '.join(words)} ({memory_text(left)})"
    rest = f"{' '.join(words)} leaves {memory_text(left)}" if words else "no setting makes it smaller"
    return f"{problem}: {rest}; smaller are another model and shorter examples"


SettingsChange = Callable[[StepSettings], StepSettings]


def _smaller(stage: Stage, world: World, need: MemoryNeed) -> Iterator[tuple[str, SettingsChange]]:
    """Settings that may take less memory, as the command line spells them, from the cheapest on."""
    few = max(LEAST, 1 << (need.tokens // 4).bit_length())
    yield f"--set micro_tokens={few}", lambda one: _updated(one, micro_tokens=few)
    if not stage.update.recompute:
        yield "--set recompute=true", lambda one: _updated(one, recompute=True)
    if any(isinstance(head, Critic) for head in world.policy.heads.values()):
        yield "--set critic=shared", lambda one: replace(one, shared=True)
    if not hasattr(world.policy.model, "peft_config"):
        yield f"--lora {RANK}", lambda one: replace(one, lora=True)
    if stage.update.optimizer != "adafactor":
        yield "--set optimizer=adafactor", lambda one: _updated(one, optimizer="adafactor")
    if stage.update.precision == "fp32":
        yield "--set precision=bf16", lambda one: _updated(one, precision="bf16")


def _updated(settings: StepSettings, **changes: Any) -> StepSettings:
    return replace(settings, update=replace(settings.update, **changes))


def _adapter_bytes(model: nn.Module) -> int:
    """The weights of an adapter on all linear layers, in fp32."""
    layers = (module for module in model.modules() if isinstance(module, nn.Linear))
    return sum(4 * RANK * (layer.in_features + layer.out_features) for layer in layers)
