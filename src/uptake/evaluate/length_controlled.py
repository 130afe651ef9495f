"""Length-controlled win rate: the win rate that a model of the verdicts gives two responses of equal length."""

from collections.abc import Sequence
from math import sqrt

import numpy as np
from scipy.special import expit

from uptake.errors import InputError
from uptake.evaluate.interval import Z95, Share
from uptake.evaluate.numbers import columns

# Keeps the fit finite where lengths tell winners and losers apart; too weak to show elsewhere.
RIDGE = 1e-3
STEPS = 50
FEWEST = 40


def length_controlled_win_rate(p: Sequence[float], a_lengths: Sequence[float], b_lengths: Sequence[float]) -> Share:
    """Length-controlled win rate, what a logistic model of the verdicts gives at equal length; 95 % interval.

    `p` are the probabilities that A is better, or 1, 0.5 and 0. The model is `logit p = b + w tanh(d / s)`, with d the
    difference in length and s its standard deviation, and the rate is `sigma(b)`; the interval is that of b, robust to
    verdicts that are not Bernoulli draws (sandwich); below 40 verdicts it would be too narrow.
    Lengths are in any one unit. Raises `InputError` for fewer than 40 verdicts, for verdicts that all prefer the same
    side, unequal lengths of the sequences and a number that is not finite.
    Source: Dubois et al. 2024 (arXiv 2404.04475), without its terms for the instruction and the model.
    """
    verdicts, a, b = columns(p=p, a_lengths=a_lengths, b_lengths=b_lengths)
    if len(verdicts) < FEWEST:
        raise InputError(f"{len(verdicts)} verdicts", field="p", allowed=f"at least {FEWEST}")
    if verdicts.min() >= 0.5 or verdicts.max() <= 0.5:
        raise InputError("all verdicts prefer the same side", field="p", allowed="some for either")
    difference = a - b
    spread = float(difference.std())
    design = np.stack([np.ones(len(verdicts)), np.tanh(difference / spread) if spread else difference], axis=1)
    weights = np.zeros(2)
    for _ in range(STEPS):
        fitted = expit(design @ weights)
        curvature = (design.T * (fitted * (1 - fitted))) @ design + RIDGE * np.eye(2)
        weights += np.linalg.solve(curvature, design.T @ (verdicts - fitted) - RIDGE * weights)
    scores = design * (verdicts - expit(design @ weights))[:, None]
    inverse = np.linalg.inv(curvature)
    half = Z95 * sqrt(float((inverse @ scores.T @ scores @ inverse)[0, 0]))
    low, rate, high = (float(expit(weights[0] + shift)) for shift in (-half, 0.0, half))
    return Share(rate, low, high, len(verdicts))
