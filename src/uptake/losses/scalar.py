"""Losses on the scores that a reward model gives to the two responses of a pair, one loss per pair, unreduced."""

from dataclasses import dataclass
from math import isfinite
from typing import Protocol

from torch.nn.functional import logsigmoid

from uptake.errors import InputError
from uptake.ops.axes import PerPair


class ScoreKernel(Protocol):
    """A loss of the scores of chosen and rejected, the judge's `margin` between them, and the label `p` of the pair."""

    def __call__(self, chosen: PerPair, rejected: PerPair, margin: PerPair, p: PerPair) -> PerPair: ...


def bradley_terry(chosen: PerPair, rejected: PerPair, margin: float | PerPair = 0.0) -> PerPair:
    """`-log sigmoid(r_w - r_l - m)`: the likelihood of the choice where scores are log-strengths, short of a margin.

    Depends on the difference only, so a constant for all responses to a prompt stays free.
    Source: Ouyang et al. 2022 (arXiv 2203.02155), eq. 1; the margin from Touvron et al. 2023 (arXiv 2307.09288), eq. 2.
    """
    return -logsigmoid(chosen - rejected - margin)


def centering(chosen: PerPair, rejected: PerPair) -> PerPair:
    """`(r_w + r_l)^2`, which pulls the free constant to a mean score of 0.

    Source: Eisenstein et al. 2023 (arXiv 2312.09244), eq. 2.
    """
    return (chosen + rejected) ** 2


@dataclass(frozen=True)
class BradleyTerry:
    """`bradley_terry` with `margin_scale` times the judge's margin, plus `center` times `centering`.

    A label `p` below 1 mixes the losses of both orders. Raises InputError for a negative setting.
    """

    margin_scale: float = 0.0
    center: float = 0.0

    def __post_init__(self) -> None:
        for name in ("margin_scale", "center"):
            if not (isfinite(getattr(self, name)) and getattr(self, name) >= 0):
                raise InputError(f"{getattr(self, name)}", field=name, allowed="a number from 0 up")

    def __call__(self, chosen: PerPair, rejected: PerPair, margin: PerPair, p: PerPair) -> PerPair:
        wanted = self.margin_scale * margin
        plain, flipped = bradley_terry(chosen, rejected, wanted), bradley_terry(rejected, chosen, wanted)
        return p * plain + (1 - p) * flipped + self.center * centering(chosen, rejected)
