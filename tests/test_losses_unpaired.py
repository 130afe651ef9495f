"""Losses of good and bad responses by hand and by their limits."""

from math import exp, inf, nan

import pytest
import torch
from torch import Tensor

from uptake.errors import InputError
from uptake.losses.unpaired import KTO, kto

GOOD = torch.tensor([True, True, False, False])


def wide(*values: float) -> Tensor:
    return torch.tensor(values, dtype=torch.float64)


RATIOS = wide(3.0, -2.0, 3.0, -2.0)


def sigma(x: float) -> float:
    return 1 / (1 + exp(-x))


def test_by_hand() -> None:
    expected = [1 - sigma(0.5 * 2), 1 - sigma(0.5 * -3), 1 - sigma(0.5 * -2), 1 - sigma(0.5 * 3)]
    torch.testing.assert_close(kto(RATIOS, GOOD, 1.0, beta=0.5), wide(*expected))
    weighted = [3 * expected[0], 3 * expected[1], 0.7 * expected[2], 0.7 * expected[3]]
    torch.testing.assert_close(KTO(0.5, 3.0, 0.7)(RATIOS, GOOD, 1.0), wide(*weighted), rtol=1e-12, atol=0)


def test_without_beta_nothing_is_told_apart() -> None:
    torch.testing.assert_close(kto(RATIOS, GOOD, 1.0, beta=1e-9), wide(0.5, 0.5, 0.5, 0.5))


def test_with_a_large_beta_it_counts_mistakes() -> None:
    torch.testing.assert_close(kto(RATIOS, GOOD, 1.0, beta=1e3), wide(0.0, 1.0, 1.0, 0.0))


def test_good_and_bad_are_mirror_images() -> None:
    torch.testing.assert_close(kto(RATIOS, GOOD, 1.0, 0.5), kto(2 - RATIOS, ~GOOD, 1.0, 0.5))
    torch.testing.assert_close(kto(RATIOS, GOOD, 0.0, 0.5), kto(-RATIOS, ~GOOD, 0.0, 0.5))


def test_the_slope_by_hand() -> None:
    """Where a response stands at the divergence the slope is beta / 4; far away it is nothing."""
    ratio = wide(1.0, 1.0, 1e3, -1e3).requires_grad_()
    KTO(0.5, 2.0, 3.0)(ratio, torch.tensor([True, False, True, True]), 1.0).sum().backward()
    torch.testing.assert_close(ratio.grad, wide(-2 * 0.5 / 4, 3 * 0.5 / 4, 0.0, 0.0))


@pytest.mark.parametrize("field", ["beta", "desirable_weight", "undesirable_weight"])
@pytest.mark.parametrize("value", [0.0, -1.0, inf, nan])
def test_bad_settings(field: str, value: float) -> None:
    with pytest.raises(InputError) as caught:
        KTO(**{field: value})
    assert caught.value.field == field
