"""The policy at the start of the stage, with a memory of how it and the policy saw the last pairs."""

from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass
from math import inf
from typing import ClassVar, final

import torch
from jaxtyping import Float
from torch import Tensor

from uptake.errors import InputError
from uptake.models import LanguageModel
from uptake.reference.base import RunningReference
from uptake.reference.frozen import FrozenModel, frozen_copy
from uptake.world import World


@dataclass(frozen=True)
class Remembering:
    """The policy at the start of the stage, frozen; it remembers the margins of the last `window` pairs.

    A margin counts from the step after its own, and a threshold is given once `least` are known. Raises InputError for
    a window that could never hold so many.
    """

    window: int = 1600
    least: int = 200

    is_start: ClassVar[bool] = True

    def __post_init__(self) -> None:
        if not 1 <= self.least <= self.window:
            raise InputError(f"{self.least}", field="least", allowed=f"1 to {self.window}, the window")

    def start(self, world: World) -> RunningReference:
        return RememberingModel(frozen_copy(world.policy), self.window, self.least)


@final
class RememberingModel(FrozenModel):
    """A running reference whose state is the margins of recent pairs, in the order they were met."""

    def __init__(self, lm: LanguageModel, window: int, least: int) -> None:
        super().__init__(lm)
        self.least = least
        self.margins: deque[float] = deque(maxlen=window)

    def remember(self, margins: Float[Tensor, " pairs"]) -> None:
        """Add the margins of some pairs."""
        self.margins.extend(margins.tolist())

    def threshold(self, share: float) -> float:
        """The margin that a `share` of recent pairs does not exceed; minus infinity while too few are known."""
        if len(self.margins) < self.least:
            return -inf
        return float(torch.tensor(list(self.margins), dtype=torch.float64).quantile(share))

    def state(self) -> Mapping[str, Tensor]:
        return {"margins": torch.tensor(list(self.margins), dtype=torch.float64)}

    def restore(self, state: Mapping[str, Tensor]) -> None:
        self.margins.clear()
        self.margins.extend(state["margins"].tolist())
