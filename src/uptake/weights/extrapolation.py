"""Extrapolation of weights (ExPO; arXiv 2404.16792): further along the way from a start to an aligned model."""

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import torch
from jaxtyping import Float
from torch import Tensor

from uptake.errors import InputError
from uptake.models.low_rank import is_fresh, low_rank_part
from uptake.world import World


def check_alpha(alpha: float) -> None:
    """Raise InputError for an `alpha` that is no place on the way from the start through the aligned model."""
    if not (math.isfinite(alpha) and alpha >= -1):
        allowed = "a number from -1, which is the start; 0 is the aligned model, and 0.1 to 0.5 usual"
        raise InputError(f"{alpha}", field="alpha", allowed=allowed)


def extrapolated(
    start: Float[Tensor, "*shape"], aligned: Float[Tensor, "*shape"], alpha: float
) -> Float[Tensor, "*shape"]:
    """`aligned + alpha (aligned - start)`, not yet rounded: in fp32, or float64 where a tensor is.

    0 gives `aligned` and -1 `start` bit for bit, which the formula does not: a difference is rounded where its two
    numbers are of unlike size. Source: Zheng et al. 2024, eq. 1.
    """
    if alpha in (0, -1):
        return start if alpha else aligned
    wide = torch.promote_types(torch.promote_types(start.dtype, aligned.dtype), torch.float32)
    end = aligned.to(wide)
    return torch.add(end, end - start.to(wide), alpha=alpha)


@dataclass
class Movement:
    """Movement of some weights: how far the aligned ones are from the start, and how many an `alpha` leaves in place.

    `numbers` are counted, of which `changed` differ between the two; of these, `still[i]` are, once rounded, what they
    were before the i-th alpha.
    """

    still: list[int]
    numbers: int = 0
    changed: int = 0
    squares: float = 0.0

    @property
    def norm(self) -> float:
        """The norm of the difference."""
        return math.sqrt(self.squares)

    def no_op(self, index: int) -> float:
        """The share of changed weights that the i-th alpha has not moved; 0 where none is changed."""
        return self.still[index] / self.changed if self.changed else 0.0

    def take(self, start: Tensor, aligned: Tensor, rounded: Sequence[Tensor], norm: float | None = None) -> None:
        """Count weights, with what every alpha has made of them, in the kind of numbers they are saved in.

        The `norm` is that of their difference where none is given: of what a B adds with its A, say.
        """
        wide = torch.promote_types(torch.promote_types(start.dtype, aligned.dtype), torch.float32)
        difference = aligned.to(wide) - start.to(wide)
        moved = difference != 0
        self.numbers += moved.numel()
        self.changed += int(moved.sum())
        self.squares += (
            float(torch.linalg.vector_norm(difference, dtype=torch.float64)) if norm is None else norm
        ) ** 2
        for index, result in enumerate(rounded):
            self.still[index] += int((moved & (result == aligned.to(result.dtype))).sum())


@dataclass
class Movements:
    """Movements by group of layers, and that of all of them, for some alphas."""

    alphas: Sequence[float]
    groups: dict[str, Movement] = field(default_factory=dict)

    def of(self, name: str) -> Movement:
        """The movement that a weight of this name counts to: that of its layer, "model.layers.0"."""
        found = re.match(r"(?:.*?\.)?\d+(?=\.)", name)
        group = found[0] if found else re.sub(r"\.(weight|bias)$", "", name)
        return self.groups.setdefault(group, Movement([0] * len(self.alphas)))

    @property
    def total(self) -> Movement:
        every = list(self.groups.values())
        still = [sum(each.still[index] for each in every) for index in range(len(self.alphas))]
        numbers, changed = (sum(getattr(each, name) for each in every) for name in ("numbers", "changed"))
        return Movement(still, numbers, changed, sum(each.squares for each in every))


@dataclass(frozen=True)
class Extrapolate:
    """The `finish` of a stage that moves the policy on by `alpha` times its way since the run began, in fp32.

    Of an adapter only B, so that the product B A grows by `1 + alpha`: A and B each would grow by `(1 + alpha)^2`, and
    A alone was drawn at random. Raises InputError for an alpha that means nothing and, before anything is learned, for
    an adapter that was trained before: what it said at the start is in the same A and B, and no such A and B hold twice
    the way from there.
    """

    alpha: float = 0.3

    def __post_init__(self) -> None:
        check_alpha(self.alpha)

    def check(self, world: World) -> None:
        if not is_fresh(world.policy):
            problem = "its adapter was trained before this run, and what lies beyond it is no adapter of this rank"
            allowed = "a fresh adapter; or uptake extrapolate, on both folders"
            raise InputError(f"{world.policy.name}: {problem}", field="alpha", allowed=allowed)

    def __call__(self, world: World, start: Mapping[str, Tensor]) -> None:
        with torch.no_grad():
            for name, weight in world.policy.model.named_parameters():
                part = low_rank_part(name)
                if not weight.requires_grad or part == "A":
                    continue
                before = torch.zeros_like(weight) if part == "B" else start[name].to(weight.device)
                weight.copy_(extrapolated(before, weight, self.alpha))
