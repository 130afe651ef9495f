"""Reliability diagram and expected calibration error of probabilities."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from uptake.errors import InputError
from uptake.evaluate.interval import Share, share
from uptake.evaluate.numbers import columns

BINS = 10


@dataclass(frozen=True, slots=True)
class ReliabilityBin:
    """Bin of a reliability diagram: the mean probability of the preferred response, and how often it is right."""

    p: float
    right: Share


@dataclass(frozen=True, slots=True)
class Reliability:
    """Expected calibration error, the mean distance of both over all pairs, and the bins that are not empty."""

    error: float
    bins: tuple[ReliabilityBin, ...]


def reliability(p: Sequence[float]) -> Reliability:
    """Reliability of the probabilities of each pair's better response: how sure against how often right.

    Both orders of a pair tell the same, so the ten bins, of equal width, go from 1/2 to 1; an even pair is half right.
    Raises `InputError` for no pairs and for what is no probability. Source: Guo et al. 2017 (arXiv 1706.04599),
    section 2.
    """
    (chosen,) = columns(p=p)
    if ((chosen < 0) | (chosen > 1)).any():
        raise InputError("a number outside 0 and 1", field="p", allowed="probabilities")
    sure = np.maximum(chosen, 1 - chosen)
    right = np.sign(chosen - 0.5) / 2 + 0.5
    bin_ = np.minimum(((sure - 0.5) * 2 * BINS).astype(int), BINS - 1)
    groups = [bin_ == number for number in range(BINS) if (bin_ == number).any()]
    bins = tuple(ReliabilityBin(float(sure[group].mean()), share(right[group])) for group in groups)
    return Reliability(sum(each.right.n * abs(each.p - each.right.rate) for each in bins) / len(chosen), bins)
