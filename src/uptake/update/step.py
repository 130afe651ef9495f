"""One optimizer step: micro-batches by token budget, their gradients summed to that of the whole batch."""

import math
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from statistics import fmean
from typing import Any

import torch
from torch import nn

from uptake.errors import ModelError
from uptake.models import LanguageModel
from uptake.models.recompute import recomputed_layers
from uptake.objective import Objective
from uptake.reference import RunningReference
from uptake.update.optimization import Optimization


def trainable(lm: LanguageModel) -> dict[str, nn.Parameter]:
    """The weights that training moves, by name."""
    return _moving(dict(lm.model.named_parameters())) | trainable_modules(lm)


def trainable_modules(lm: LanguageModel) -> dict[str, nn.Parameter]:
    """Those of `trainable` that belong to modules beside the policy."""
    return _moving(
        {f"heads.{name}.{key}": weight for name, head in lm.heads.items() for key, weight in head.named_parameters()}
    )


def _moving(weights: Mapping[str, nn.Parameter]) -> dict[str, nn.Parameter]:
    return {name: weight for name, weight in weights.items() if weight.requires_grad}


def optimizer_step(
    policy: LanguageModel,
    reference: RunningReference,
    objective: Objective,
    examples: Sequence[Any],
    optimizer: torch.optim.Optimizer,
    settings: Optimization,
) -> dict[str, float]:
    """Move the policy by one batch and return its metrics, averaged over the batch.

    The gradient is that of the summed loss over the summed size of all examples, however they are cut; what depends on
    the whole batch is worked out before. Modules with a rate of their own are clipped by themselves, and so is each
    member of an ensemble, of which `grad_norm` is the mean.
    Raises ModelError, before any weight has moved, where loss or gradient is not finite.
    """
    total = sum(map(objective.size, examples))
    sums: Counter[str] = Counter()
    optimizer.zero_grad(set_to_none=True)
    with precision(settings, policy.device):
        objective = objective.for_batch(policy, reference, examples, settings.budget)
    for batch in micro_batches(objective, examples, settings.budget):
        with computing(policy, settings):
            loss = objective(policy, reference, batch)
        (loss.total / total).backward()
        sums.update({name: float(value) for name, value in loss.metrics.items()})
    limit = settings.clip or torch.inf
    found: dict[str, list[float]] = {}
    for group in optimizer.param_groups:
        name = "module_grad_norm" if "share" in group else "grad_norm"
        found.setdefault(name, []).append(float(nn.utils.clip_grad_norm_(group["params"], limit)))
    norms = {name: fmean(each) for name, each in found.items()}
    metrics = {name: value / total for name, value in sums.items()}
    for name, value in {**metrics, **norms}.items():
        if not math.isfinite(value):
            raise ModelError(f"{policy.name}: {name} is {value} at this step; the weights were left as they were")
    optimizer.step()
    return {**metrics, **objective.derived(metrics), **norms}


def micro_batches(objective: Objective, examples: Sequence[Any], budget: int) -> Iterator[Sequence[Any]]:
    """Consecutive examples of at most `budget` distinct tokens together; a larger one goes alone."""
    yield from (examples[part] for part in cuts([len(objective.tree(example)) for example in examples], budget))


def cuts(costs: Sequence[int], budget: int) -> Iterator[slice]:
    """The parts of a row of costs that are at most `budget` together; a larger cost is alone."""
    start, used = 0, 0
    for index, cost in enumerate(costs):
        if used and used + cost > budget:
            yield slice(start, index)
            start, used = index, 0
        used += cost
    yield slice(start, len(costs))


@contextmanager
def computing(policy: LanguageModel, settings: Optimization) -> Iterator[None]:
    """The block in which a policy computes what it learns from."""
    with precision(settings, policy.device), recomputed_layers(policy) if settings.recompute else nullcontext():
        yield


def precision(settings: Optimization, device: torch.device) -> AbstractContextManager[Any]:
    """The block in which a model computes."""
    if settings.precision == "fp32":
        return nullcontext()
    return torch.autocast(device.type, torch.bfloat16)
