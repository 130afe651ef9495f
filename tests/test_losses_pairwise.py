"""Pair losses against golden values, the limits of their formulas and a small exact optimum."""

from collections.abc import Callable
from functools import partial
from math import log

import pytest
import torch
from torch import Tensor

from uptake.errors import InputError
from uptake.losses.pairwise import (
    IPO,
    Hinge,
    Logistic,
    PairKernel,
    Robust,
    hinge,
    ipo,
    logistic,
    robust,
    soft_label,
)

MARGINS = (-3.0, 0.0, 5.0, 12.0)
GOLDEN: list[tuple[Callable[[Tensor], Tensor], list[float], list[float]]] = [
    (Logistic(0.1), [0.854355, 0.693147, 0.474077, 0.263282], [-0.057444, -0.05, -0.037754, -0.023148]),
    (Logistic(0.1, 0.1), [0.824355, 0.693147, 0.524077, 0.383282], [-0.047444, -0.04, -0.027754, -0.013148]),
    (Robust(0.1, 0.1), [0.891855, 0.693147, 0.411577, 0.113282], [-0.069944, -0.0625, -0.050254, -0.035648]),
    (IPO(0.1), [64, 25, 0, 49], [-16, -10, 0, 14]),
    (Hinge(0.1), [1.3, 1, 0.5, 0], [-0.1, -0.1, -0.1, 0]),
    (
        partial(soft_label, Logistic(0.1), p=0.8),
        [0.794355, 0.693147, 0.574077, 0.503282],
        [-0.037444, -0.03, -0.017754, -0.003148],
    ),
]


def wide(*values: float) -> Tensor:
    return torch.tensor(values, dtype=torch.float64)


def slope(kernel: Callable[[Tensor], Tensor], *margins: float) -> Tensor:
    h = wide(*margins).requires_grad_()
    (grad,) = torch.autograd.grad(kernel(h).sum(), h)
    return grad


@pytest.mark.parametrize(("kernel", "losses", "slopes"), GOLDEN)
def test_golden_losses_and_slopes(kernel: Callable[[Tensor], Tensor], losses: list[float], slopes: list[float]) -> None:
    torch.testing.assert_close(kernel(wide(*MARGINS)), wide(*losses), atol=1e-6, rtol=0)
    torch.testing.assert_close(slope(kernel, *MARGINS), wide(*slopes), atol=1e-6, rtol=0)


@pytest.mark.parametrize("beta", [0.01, 0.1, 2.0])
def test_loss_of_a_policy_that_equals_its_reference(beta: float) -> None:
    for kernel in (Logistic(beta), Logistic(beta, 0.2), Robust(beta, 0.2)):
        assert kernel(wide(0.0)).item() == pytest.approx(log(2), abs=1e-12)
    assert Hinge(beta)(wide(0.0)).item() == 1
    assert IPO(beta)(wide(0.0)).item() == pytest.approx(1 / (4 * beta**2), rel=1e-12)


def test_swapping_a_pair_adds_its_scaled_margin() -> None:
    """Far out too, where a loss that drops the small exponential is off by 2e-9."""
    h = wide(-400.0, -3.0, 0.0, 7.0, 201.0, 250.0)
    torch.testing.assert_close(logistic(h, 0.1) - logistic(-h, 0.1), -0.1 * h, atol=1e-12, rtol=0)


@pytest.mark.parametrize("kernel", [Logistic(0.1), Robust(0.1, 0.1), Hinge(0.1), IPO(0.1)])
def test_extreme_margins_stay_finite(kernel: PairKernel) -> None:
    h = torch.tensor([-1e6, 1e6])
    assert kernel(h).isfinite().all()
    assert slope(kernel, -1e6, 1e6).isfinite().all()


def test_conservative_dpo_stops_where_the_note_says() -> None:
    best = log(0.9 / 0.1) / 0.1
    assert best == pytest.approx(21.972246, abs=1e-6)
    assert slope(Logistic(0.1, 0.1), best).item() == pytest.approx(0, abs=1e-15)
    assert Logistic(0.1, 0.1)(wide(best)).item() == pytest.approx(0.325083, abs=1e-6)


def test_three_curves_far_out() -> None:
    """Conservative DPO climbs again, DPO goes to nothing, robust DPO falls forever at a known slope."""
    assert slope(Logistic(0.1, 0.1), 1e4).item() == pytest.approx(0.1 * 0.1)
    assert slope(Logistic(0.1), 1e4).item() == pytest.approx(0, abs=1e-12)
    assert slope(Robust(0.1, 0.1), 1e4).item() == pytest.approx(-0.1 * 0.1 / 0.8)
    assert Robust(0.1, 0.1)(wide(1e4)).item() < -100


def test_robust_dpo_is_unbiased_under_flipped_labels() -> None:
    h = wide(*MARGINS)
    noisy = 0.9 * robust(h, 0.1, 0.1) + 0.1 * robust(-h, 0.1, 0.1)
    torch.testing.assert_close(noisy, logistic(h, 0.1), atol=1e-12, rtol=0)


def test_without_label_noise_all_three_are_dpo() -> None:
    h = wide(*MARGINS)
    plain = -torch.log(1 / (1 + torch.exp(-0.1 * h)))
    torch.testing.assert_close(logistic(h, 0.1), plain, atol=1e-12, rtol=0)
    assert torch.equal(robust(h, 0.1, 0.0), logistic(h, 0.1))
    assert torch.equal(soft_label(Logistic(0.1), h, 1.0), logistic(h, 0.1))


def test_label_smoothing_is_a_soft_label_per_run_and_per_pair() -> None:
    h, each = wide(*MARGINS), wide(0.0, 0.1, 0.2, 0.3)
    assert torch.equal(logistic(h, 0.1, 0.1), soft_label(Logistic(0.1), h, 1 - 0.1))
    assert torch.equal(logistic(h, 0.1, torch.full_like(h, 0.1)), logistic(h, 0.1, 0.1))
    for row, smoothing in enumerate(each.tolist()):
        assert logistic(h, 0.1, each)[row] == logistic(h, 0.1, smoothing)[row]


@pytest.mark.parametrize("kernel", [Logistic(0.1), Robust(0.1, 0.2), IPO(0.1), Hinge(0.1)], ids=str)
@pytest.mark.parametrize("p", [0.0, 0.3, 0.8, 1.0])
def test_a_label_is_a_mean_of_both_orders(kernel: PairKernel, p: float) -> None:
    """Swapped responses with `1 - p` change nothing, and the slope is the mean of both hard labels' by p."""
    margin = torch.linspace(-30, 30, 41, dtype=torch.float64).requires_grad_()

    def slope(losses: Tensor) -> Tensor:
        (found,) = torch.autograd.grad(losses.sum(), margin)
        return found

    torch.testing.assert_close(soft_label(kernel, margin, p), soft_label(kernel, -margin, 1 - p), atol=1e-12, rtol=0)
    expected = p * slope(kernel(margin)) + (1 - p) * slope(kernel(-margin))
    torch.testing.assert_close(slope(soft_label(kernel, margin, p)), expected, atol=1e-12, rtol=0)


def test_a_half_sure_label_prefers_nobody() -> None:
    h = wide(*MARGINS)
    for kernel in (Logistic(0.3), Hinge(0.3), IPO(0.3)):
        assert torch.equal(soft_label(kernel, h, 0.5), soft_label(kernel, -h, 0.5))


def test_ipo_of_sums_and_of_token_means() -> None:
    better, worse = wide(1.2), wide(-0.8)
    assert IPO(0.1)(better - worse).item() == pytest.approx(9.0)
    assert IPO(0.1, "token_mean")(better / 4 - worse / 8).item() == pytest.approx(21.16)


def test_token_mean_ipo_at_equal_length_is_sum_ipo_at_another_strength() -> None:
    h, tokens = wide(*MARGINS), 7
    torch.testing.assert_close(ipo(h / tokens, 0.1), ipo(h, 0.1 / tokens) / tokens**2, atol=1e-12, rtol=0)


def test_soft_ipo_has_its_minimum_at_the_closed_form() -> None:
    """`h* = (p - 1/2) / tau`, and the loss is `(h - (2p - 1) / (2 tau))^2` plus a constant."""
    soft = partial(soft_label, IPO(0.1), p=0.8)
    assert slope(soft, 0.3 / 0.1).item() == pytest.approx(0, abs=1e-12)
    shifted = soft(wide(*MARGINS)) - (wide(*MARGINS) - 0.6 / 0.2) ** 2
    torch.testing.assert_close(shifted, shifted[:1].expand(4), atol=1e-12, rtol=0)


def test_two_arm_ipo_reaches_its_closed_form() -> None:
    """Uniform reference and a sure preference: the policy ends at `sigmoid(0.5 / tau)` on the better arm."""
    logits = wide(0.0, 0.0).requires_grad_()
    for _ in range(500):
        (grad,) = torch.autograd.grad(ipo((logits[0] - logits[1])[None], 0.4).sum(), logits)
        logits = (logits - 0.1 * grad).detach().requires_grad_()
    expected = 1 / (1 + torch.exp(wide(-0.5 / 0.4)))
    torch.testing.assert_close(torch.softmax(logits, 0)[:1], expected, atol=1e-9, rtol=0)


def test_five_arms_with_bradley_terry_labels_reach_the_gibbs_policy() -> None:
    reward = wide(1, 0.5, 0, -0.5, -1.2)
    start = torch.log_softmax(wide(-1, 0.3, 1.2, 0.4, -0.2), 0)
    first, second = torch.triu_indices(5, 5, 1)
    better = torch.sigmoid(reward[first] - reward[second])
    logits = start.clone().requires_grad_()
    optimizer = torch.optim.LBFGS(
        [logits], max_iter=200, tolerance_grad=1e-12, tolerance_change=0, line_search_fn="strong_wolfe"
    )

    def closure() -> Tensor:
        optimizer.zero_grad()
        ratio = torch.log_softmax(logits, 0) - start
        loss = soft_label(Logistic(0.5), ratio[first] - ratio[second], better).sum()
        loss.backward()  # type: ignore[no-untyped-call]
        return loss

    optimizer.step(closure)  # type: ignore[no-untyped-call]
    gibbs = torch.softmax(start + reward / 0.5, 0)
    torch.testing.assert_close(torch.softmax(logits, 0), gibbs, atol=1e-6, rtol=0)
    torch.testing.assert_close(gibbs, wide(0.2631, 0.3552, 0.3214, 0.0531, 0.0072), atol=5e-5, rtol=0)


def test_hinge_is_silent_beyond_its_margin() -> None:
    assert slope(partial(hinge, beta=0.1), 9.9, 10.1).tolist() == [-0.1, 0]


@pytest.mark.unchecked  # hands over what the types forbid
@pytest.mark.parametrize(
    ("build", "field"),
    [
        (lambda: Logistic(-0.1), "beta"),
        (lambda: Robust(0.0), "beta"),
        (lambda: IPO(float("nan")), "beta"),
        (lambda: Hinge(float("inf")), "beta"),
        (lambda: logistic(wide(0.0), -0.1), "beta"),
        (lambda: robust(wide(0.0), -0.1, 0.1), "beta"),
        (lambda: ipo(wide(0.0), -0.1), "beta"),
        (lambda: hinge(wide(0.0), -0.1), "beta"),
        (lambda: Robust(0.1, 0.5), "label_smoothing"),
        (lambda: robust(wide(0.0), 0.1, 0.5), "label_smoothing"),
        (lambda: Logistic(0.1, -0.1), "label_smoothing"),
        (lambda: logistic(wide(0.0), 0.1, 0.7), "label_smoothing"),
        (lambda: IPO(0.1, "mean"), "normalize"),  # type: ignore[arg-type]
    ],
)
def test_settings_without_meaning_are_refused(build: Callable[[], object], field: str) -> None:
    with pytest.raises(InputError, match=f"field '{field}'.*allowed"):
        build()


def test_kernels_print_themselves_and_declare_their_margin() -> None:
    assert repr(Logistic()) == "Logistic(beta=0.1, label_smoothing=0.0)"
    assert repr(IPO(normalize="token_mean")) == "IPO(beta=0.1, normalize='token_mean')"
    kernels: list[PairKernel] = [Logistic(), Robust(), IPO(), Hinge(), IPO(1.0, "token_mean")]
    assert [kernel.normalize for kernel in kernels] == ["sum", "sum", "sum", "sum", "token_mean"]
