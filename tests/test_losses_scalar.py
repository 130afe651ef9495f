"""Losses of scores by hand and by their limits."""

from math import exp, inf, log, log1p, nan

import pytest
import torch
from torch import Tensor

from uptake.errors import InputError
from uptake.losses.pairwise import logistic
from uptake.losses.scalar import BradleyTerry, bradley_terry, centering


def wide(*values: float) -> Tensor:
    return torch.tensor(values, dtype=torch.float64)


CHOSEN, REJECTED = wide(2.0, 0.0, -1.0), wide(0.5, 0.0, 3.0)


def test_bradley_terry_by_hand() -> None:
    expected = wide(log1p(exp(-1.5)), log(2), log1p(exp(4.0)))
    torch.testing.assert_close(bradley_terry(CHOSEN, REJECTED), expected)
    torch.testing.assert_close(bradley_terry(CHOSEN, REJECTED), logistic(CHOSEN - REJECTED, beta=1.0))
    shifted = wide(log1p(exp(-0.5)), log1p(exp(1.0)), log1p(exp(5.0)))
    torch.testing.assert_close(bradley_terry(CHOSEN, REJECTED, 1.0), shifted)


def test_only_centering_sees_what_both_scores_share() -> None:
    torch.testing.assert_close(bradley_terry(CHOSEN + 7, REJECTED + 7), bradley_terry(CHOSEN, REJECTED))
    torch.testing.assert_close(centering(CHOSEN, REJECTED), wide(6.25, 0.0, 4.0))
    shared = wide(0.0).requires_grad_()
    (centering(CHOSEN + shared, REJECTED + shared)).sum().backward()
    assert shared.grad is not None
    assert float(shared.grad) == pytest.approx(2 * 2 * (2.5 + 0.0 + 2.0))


def test_the_part_adds_margin_label_and_centering() -> None:
    margin, p = wide(0.5, 2.0, 0.0), wide(1.0, 0.75, 0.5)
    found = BradleyTerry(margin_scale=2.0, center=0.1)(CHOSEN, REJECTED, margin, p)
    first = log1p(exp(-0.5)) + 0.625
    second = 0.75 * log1p(exp(4.0)) + 0.25 * log1p(exp(4.0))
    third = 0.5 * log1p(exp(4.0)) + 0.5 * log1p(exp(-4.0)) + 0.4
    torch.testing.assert_close(found, wide(first, second, third))
    plain = BradleyTerry()(CHOSEN, REJECTED, margin, torch.ones_like(p))
    assert torch.equal(plain, bradley_terry(CHOSEN, REJECTED))


@pytest.mark.parametrize("field", ["margin_scale", "center"])
@pytest.mark.parametrize("value", [-0.1, inf, nan])
def test_bad_settings(field: str, value: float) -> None:
    with pytest.raises(InputError) as caught:
        BradleyTerry(**{field: value})
    assert caught.value.field == field
