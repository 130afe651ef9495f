"""Reach of a run: how far its steps can move the layers of a model, and settings that move them further.

An optimizer moves a weight by about the learning rate a step, whatever the gradient is. Where the gradients of all
steps agree, the output of a layer with `n` inputs changes by `S sqrt(n) / w`, as a share of itself, with `S` the way of
a weight over all steps and `w` the size of its weights. Gradients that disagree move it less, so this is a bound.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from statistics import median
from typing import Any

import torch
from torch import Tensor, nn

from uptake.update.optimization import Optimization

# The share of its output by which a layer must be able to change: below it no answer and no figure is seen to move.
LEAST = 0.01

# What proposed settings reach and, where examples are few, their steps in an epoch, epochs and smallest batch.
GOAL = 0.2
STEPS_AN_EPOCH, EPOCHS, SMALLEST_BATCH = 25, 3, 4

# The share that one step of proposed settings may change, beyond which more steps are proposed. Papers tune all weights
# at up to 2e-5: with 4096 inputs and weights of size 0.02, as a model of 7 billion has them, that is 0.064 a step. At
# 6e-4, as the demonstration aligns the model of its town, it is 0.062. Adapters get 1e-4, and 2e-4 in `make demo-real`:
# for rank 16 over such layers 0.003.
WEIGHTS_STEP, ADAPTER_STEP = 0.06, 0.003

# PyTorch's defaults: the decay of RMSprop's mean of squares, and the least size by which Adafactor moves a weight.
RMSPROP_DECAY = 0.99
ADAFACTOR_SIZE = 1e-3


@dataclass(frozen=True)
class Reach:
    """Reach of a run: the sum of the learning rates of its steps, and the share by which a layer's output can change.

    The share is that of the middle one of all trained layers, None where no layer is trained.
    """

    steps: int
    rates: float
    share: float | None

    @property
    def is_nothing(self) -> bool:
        """Whether no layer that is trained can change by a hundredth."""
        return self.share is not None and self.share < LEAST


def reach_of(settings: Optimization, model: nn.Module, steps: int) -> Reach:
    """The reach of a number of steps on the layers of a model; heads and critics beside it do not count."""
    gains = list(_gains(model, settings))
    share = distance(settings, steps) * median(gains) if gains else None
    return Reach(steps, sum(settings.rate(step, steps) for step in range(steps)), share)


def distance(settings: Optimization, steps: int) -> float:
    """How far steps move a weight whose gradients agree; Adafactor's in units of the weight's size."""
    return sum(_lengths(settings, steps))


def _lengths(settings: Optimization, steps: int) -> list[float]:
    """How far each step moves such a weight.

    AdamW moves it by the rate. RMSprop's mean of squares starts at 0, so that its first step is ten rates long.
    """
    rates = [settings.rate(step, steps) for step in range(steps)]
    if settings.optimizer == "rmsprop":
        return [rate / math.sqrt(1 - RMSPROP_DECAY ** (step + 1)) for step, rate in enumerate(rates)]
    return rates


def settings_that_move(
    settings: Optimization, model: nn.Module, steps: int, examples: int | None = None
) -> tuple[Optimization, int]:
    """Settings that reach `GOAL`, and in how many steps.

    Few examples make more steps in smaller batches and more epochs, where the examples of a round are known. The rate
    makes up for the rest, to one digit, up to what is sound for one step; beyond it there are more steps. An adapter
    gets AdamW where it has Adafactor, which moves a weight by a share of its size: half of the adapter starts at 0, and
    a rate that moves it would scatter the other half.
    """
    better = replace(settings, optimizer="adamw") if settings.optimizer == "adafactor" and _adapted(model) else settings
    if examples is not None and examples < STEPS_AN_EPOCH * settings.batch_size:
        size = min(settings.batch_size, max(SMALLEST_BATCH, examples // STEPS_AN_EPOCH))
        better = replace(better, batch_size=size, epochs=max(settings.epochs, EPOCHS))
        steps = steps // steps_of(settings, examples) * steps_of(better, examples)
    needed = _fewest_steps(better, model, steps)
    if examples is not None and needed > steps:
        an_epoch = steps // better.epochs
        better = replace(better, epochs=-(-needed // an_epoch))
        needed = an_epoch * better.epochs
    whole = reach_of(replace(better, lr=1.0), model, needed).share
    least = settings.lr if better.optimizer == settings.optimizer else 0.0
    better = better if whole is None else replace(better, lr=max(least, float(f"{GOAL / whole:.0e}")))
    return better, needed


def _fewest_steps(settings: Optimization, model: nn.Module, steps: int) -> int:
    """Steps, to a twentieth, that reach `GOAL` without one that is longer than is sound; no fewer than `steps`."""
    most, unit = ADAPTER_STEP if _adapted(model) else WEIGHTS_STEP, replace(settings, lr=1.0)
    while most * distance(unit, steps) < GOAL * max(_lengths(unit, steps)):
        steps += 1 + steps // 20
    return steps


def _adapted(model: nn.Module) -> bool:
    return any(hasattr(module, "lora_A") for module in model.modules())


def steps_of(settings: Optimization, examples: int) -> int:
    """Optimizer steps of a round with so many examples."""
    return -(-examples // settings.batch_size) * settings.epochs


def rates_line(settings: Optimization, found: Reach) -> str:
    """The sum of a run's rates in words, with the warm-up where it is shorter than what is set."""
    line = f"sum {found.rates:.2g} over {found.steps} step{'s' * (found.steps != 1)}"
    warmup = settings.warmup_steps(found.steps)
    if settings.warmup < 1 or warmup == settings.warmup:
        return line
    return f"{line}; warm-up {warmup:g}, not {settings.warmup:g}: at most {settings.warmup_cap:g} of them (warmup_cap)"


def advice(settings: Optimization, model: nn.Module, found: Reach, examples: int | None = None) -> Iterator[str]:
    """A line where a run can move nothing, with the settings that do; `examples` as for `settings_that_move`."""
    if found.is_nothing and found.share is not None:
        better, steps = settings_that_move(settings, model, found.steps, examples)
        names = ("optimizer", "batch_size", "epochs", "lr")
        changed = {name: value for name in names if (value := getattr(better, name)) != getattr(settings, name)}
        values = {name: value if isinstance(value, str) else f"{value:g}" for name, value in changed.items()}
        instead = " ".join(f"--set {name}={value}" for name, value in values.items())
        if examples is None and steps > found.steps:
            instead += f", in {steps} steps and not {found.steps}: more rounds, or more prompts in each"
        yield (
            f"these settings can move nothing: all steps together change a layer's output by {100 * found.share:.2g} % "
            f"at most, and less than {100 * LEAST:g} % does not show; instead: {instead}"
        )


def _gains(model: nn.Module, settings: Optimization) -> Iterator[float]:
    """By how much the output of every trained layer changes for a distance of 1, as a share of it."""
    for name, module in model.named_modules():
        weight = getattr(module, "weight", None)
        if hasattr(module, "lora_A"):
            # Members of an ensemble move the layer together.
            if gains := [*_adapter_gains(module, settings)]:
                yield sum(gains)
        elif isinstance(module, nn.Embedding) or ".lora_" in name:
            continue  # a table is looked up, and an adapter is one layer
        elif isinstance(weight, nn.Parameter) and weight.requires_grad and weight.ndim > 1 and weight.any():
            yield _unit(weight, settings) * math.sqrt(weight.shape[-1]) / _size(weight)


def _adapter_gains(module: Any, settings: Optimization) -> Iterator[float]:
    """Those of a layer under LoRA, whose second matrix starts at 0: until it moves, the first one changes nothing."""
    base = module.get_base_layer().weight
    for name, first in module.lora_A.items():
        if first.weight.requires_grad and base.any() and first.weight.any():
            share = _size(first.weight) / _size(base)
            yield _unit(module.lora_B[name].weight, settings) * module.scaling[name] * module.r[name] * share


def _unit(weight: Tensor, settings: Optimization) -> float:
    """What distances are multiples of."""
    return max(ADAFACTOR_SIZE, _size(weight)) if settings.optimizer == "adafactor" else 1.0


def _size(weight: Tensor) -> float:
    """The root of the mean square of a tensor's numbers, without a copy of them."""
    exact = torch.promote_types(weight.dtype, torch.float32)
    return float(torch.linalg.vector_norm(weight.detach(), dtype=exact)) / math.sqrt(weight.numel())
