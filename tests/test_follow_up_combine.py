"""Follow-up rewards against hand-worked numbers, exact rational arithmetic and the identities of the definition."""

from dataclasses import replace
from fractions import Fraction
from itertools import permutations
from math import exp, inf, sqrt
from typing import Any

import pytest
import torch
from torch import Tensor

from uptake.errors import InputError
from uptake.follow_up.combine import Combine, CombinedRewards
from uptake.follow_up.set import Category, FollowUpSet

# Two categories, of weights 3 and 1; columns: + + - | + - -.
PAIR = FollowUpSet(
    "pair", 1, "en", (Category("a", 3.0, ("p1", "p2"), ("n1",)), Category("b", 1.0, ("p3",), ("n2", "n3")))
)
LOGPS = torch.tensor([[-1.0, -2.0, -4.0, -1.0, -2.0, -6.0], [-3.0, -3.0, -1.0, -2.0, -2.0, -2.0]])
OPTIONS: list[dict[str, Any]] = [{}, {"standardize": "within_prompt"}]
FORMS: list[dict[str, Any]] = [*OPTIONS, {"form": "fed"}]


def combine(logps: Tensor, followups: FollowUpSet, groups: Tensor | None = None, **options: Any) -> CombinedRewards:
    return Combine(followups, **options)(logps, groups)


def table(rewards: CombinedRewards) -> Tensor:
    return torch.stack(list(rewards.by_category.values()), dim=1)


def draws(rows: int, followups: int, seed: int = 0) -> Tensor:
    return -5 * torch.rand(rows, followups, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def flat(positive: int, negative: int) -> FollowUpSet:
    sides = tuple(f"p{i}" for i in range(positive)), tuple(f"n{i}" for i in range(negative))
    return FollowUpSet("flat", 1, "en", (Category("all", 1.0, *sides),))


def shuffled(followups: FollowUpSet, seed: int) -> FollowUpSet:
    """The same set with categories, and follow-ups within each side, in another order."""

    def mixed(items: tuple[Any, ...]) -> tuple[Any, ...]:
        order = torch.randperm(len(items), generator=torch.Generator().manual_seed(seed)).tolist()
        return tuple(items[i] for i in order)

    categories = tuple(replace(c, positive=mixed(c.positive), negative=mixed(c.negative)) for c in followups.categories)
    return replace(followups, categories=mixed(categories))


def columns_for(followups: FollowUpSet, order: FollowUpSet) -> list[int]:
    return [followups.sentences.index(text) for text in order.sentences]


def ranks(total: Tensor) -> list[int]:
    return total.argsort(stable=True).tolist()


def test_rewards_by_hand() -> None:
    """a: -1.5 + 4 = 2.5 and -3 + 1 = -2; b: -1 + 4 = 3 and 0; total: (3 a + b) / 4."""
    rewards = combine(LOGPS, PAIR)
    assert list(rewards.by_category) == ["a", "b"]
    assert table(rewards).tolist() == [[2.5, 3.0], [-2.0, 0.0]]
    assert rewards.total.tolist() == [2.625, -1.5]
    assert rewards.total.dtype == torch.float64


def test_a_golden_bigram_scorer() -> None:
    """Positives ab and aab, negative ba; their mean log-likelihoods come from the bigram's log-softmax by hand."""
    logps = torch.tensor([[-0.444081, -1.067717, -2.073172]], dtype=torch.float64)
    assert combine(logps, flat(2, 1)).total.item() == pytest.approx(1.317273, abs=1e-6)


@pytest.mark.parametrize(
    ("polarity", "expected"),
    [("negative_only", [[4.0, 4.0], [1.0, 2.0]]), ("positive_only", [[-1.5, -1.0], [-3.0, -2.0]])],
)
def test_one_polarity_by_hand(polarity: Any, expected: list[list[float]]) -> None:
    assert table(combine(LOGPS, PAIR, polarity=polarity)).tolist() == expected


def test_sums_by_hand() -> None:
    """a: -3 + 4 = 1 and -6 + 1 = -5; b: -1 + 8 = 7 and -2 + 4 = 2; total: (3 a + b) / 4."""
    rewards = combine(LOGPS, PAIR, form="fed")
    assert table(rewards).tolist() == [[1.0, 7.0], [-5.0, 2.0]]
    assert rewards.total.tolist() == [2.5, -3.25]


def test_perplexities_by_hand() -> None:
    """a: e^4 and e; b: mean of e^2 and e^6, and e^2; total: the mean of three negatives of weights 3, 1 and 1."""
    rewards = combine(LOGPS, PAIR, form="full")
    expected = [[exp(4), (exp(2) + exp(6)) / 2], [exp(1), exp(2)]]
    assert table(rewards).tolist() == [pytest.approx(row) for row in expected]
    assert rewards.total.tolist() == pytest.approx([(3 * exp(4) + exp(2) + exp(6)) / 5, (3 * exp(1) + 2 * exp(2)) / 5])


def test_perplexity_is_the_plain_mean_over_all_negatives_where_weights_are_equal() -> None:
    shipped = FollowUpSet.load()
    logps = draws(20, 120)
    negatives = [place for each in shipped.columns for place in range(120)[each.negative]]
    expected = (-logps[:, negatives]).exp().mean(1)
    torch.testing.assert_close(combine(logps, shipped, form="full").total, expected, atol=1e-12, rtol=1e-12)
    uneven = replace(PAIR, categories=tuple(replace(each, weight=1.0) for each in PAIR.categories))
    torch.testing.assert_close(
        combine(LOGPS, uneven, form="full").total, (-LOGPS[:, [2, 4, 5]].double()).exp().mean(1), atol=1e-12, rtol=1e-12
    )


def test_positives_do_not_count_in_full() -> None:
    louder = LOGPS.clone()
    louder[:, [0, 1, 3]] -= 2
    assert torch.equal(combine(louder, PAIR, form="full").total, combine(LOGPS, PAIR, form="full").total)


def test_one_follow_up_a_side_makes_sums_contrasts() -> None:
    logps = draws(50, 2)
    assert torch.equal(combine(logps, flat(1, 1), form="fed").total, combine(logps, flat(1, 1)).total)


def test_an_empty_side_counts_nothing() -> None:
    assert combine(torch.tensor([[-2.5]]), flat(1, 0)).total.tolist() == [-2.5]
    assert combine(torch.tensor([[-2.5]]), flat(0, 1)).total.tolist() == [2.5]
    assert combine(torch.tensor([[-2.5]]), flat(0, 1), polarity="positive_only").total.tolist() == [0.0]


def test_z_scores_by_hand() -> None:
    """Column 0 within prompt 7: 1, 2, 6 has mean 3 and deviation sqrt(14/3); prompt 9 has but one row."""
    logps = torch.tensor([[1.0], [100.0], [2.0], [6.0]], dtype=torch.float64)
    groups = torch.tensor([7, 9, 7, 7])
    total = combine(logps, flat(1, 0), groups=groups, standardize="within_prompt").total
    s = sqrt(14 / 3)
    assert total.tolist() == pytest.approx([-2 / s, 0, -1 / s, 3 / s], abs=1e-15)


def test_follow_ups_that_do_not_discriminate_count_nothing() -> None:
    """0.1 three times: its mean is not 0.1 in floating point unless one looks for equality first."""
    logps = torch.tensor([[0.1, -1.0], [0.1, -2.0], [0.1, -3.0]], dtype=torch.float64)
    rewards = combine(logps, flat(1, 1), groups=torch.zeros(3, dtype=torch.long), standardize="within_prompt")
    assert rewards.total.tolist() == pytest.approx([-sqrt(1.5), 0, sqrt(1.5)])
    assert rewards.total[1] == 0


def test_total_is_rounded_from_the_exact_mean() -> None:
    logps = draws(20, 117)
    exact = [
        sum(map(Fraction, row[:60]), Fraction()) / 60 - sum(map(Fraction, row[60:]), Fraction()) / 57
        for row in logps.tolist()
    ]
    total = combine(logps, flat(60, 57)).total.tolist()
    assert [abs(Fraction(got) - want) < Fraction(1, 2**50) for got, want in zip(total, exact, strict=True)] == [
        True
    ] * 20


@pytest.mark.parametrize("options", FORMS)
def test_swapping_the_sides_negates_exactly(options: dict[str, Any]) -> None:
    swapped = replace(
        PAIR, categories=tuple(replace(c, positive=c.negative, negative=c.positive) for c in PAIR.categories)
    )
    logps, groups = draws(50, 6), torch.arange(50) // 5
    one = combine(logps, PAIR, groups=groups, **options)
    other = combine(logps[:, columns_for(PAIR, swapped)], swapped, groups=groups, **options)
    assert torch.equal(table(one), -table(other))
    assert torch.equal(one.total, -other.total)


def test_a_single_positive_is_its_log_probability() -> None:
    logps = draws(50, 1)
    assert torch.equal(combine(logps, flat(1, 0)).total, logps[:, 0])


def test_sums_are_means_times_the_common_length() -> None:
    means = draws(50, 6)
    torch.testing.assert_close(combine(9 * means, PAIR).total, 9 * combine(means, PAIR).total, atol=1e-12, rtol=0)


def test_equal_categories_are_one_flat_category() -> None:
    shipped = FollowUpSet.load()
    positive = tuple(text for c in shipped.categories for text in c.positive)
    negative = tuple(text for c in shipped.categories for text in c.negative)
    one = FollowUpSet("flat", 1, "en", (Category("all", 1.0, positive, negative),))
    logps = draws(20, 120)
    total = combine(logps[:, columns_for(shipped, one)], one).total
    torch.testing.assert_close(combine(logps, shipped).total, total, atol=1e-12, rtol=0)


@pytest.mark.parametrize("form", ["contrast", "fed", "full"])
def test_weight_zero_is_absence(form: Any) -> None:
    logps = draws(50, 6)
    muted = replace(PAIR, categories=(PAIR.categories[0], replace(PAIR.categories[1], weight=0.0)))
    absent = replace(PAIR, categories=PAIR.categories[:1])
    assert torch.equal(combine(logps, muted, form=form).total, combine(logps[:, :3], absent, form=form).total)


def test_full_needs_negatives() -> None:
    with pytest.raises(InputError, match="no negatives"):
        Combine(flat(2, 0), form="full")
    with pytest.raises(InputError, match="no negatives"):
        Combine(PAIR, "positive_only", form="full")
    with pytest.raises(InputError, match="beyond floating point"):
        combine(torch.tensor([[-800.0]]), flat(0, 1), form="full")


@pytest.mark.parametrize("options", [*FORMS, {"form": "full"}])
def test_no_order_shows(options: dict[str, Any]) -> None:
    shipped = FollowUpSet.load()
    weighted = tuple(replace(c, weight=0.1 * (i + 1)) for i, c in enumerate(shipped.categories))
    shipped = replace(shipped, categories=weighted)
    logps, groups = draws(24, 120), torch.arange(24) // 6
    expected = combine(logps, shipped, groups=groups, **options).total
    for seed in range(5):
        order = shuffled(shipped, seed)
        rows = torch.randperm(24, generator=torch.Generator().manual_seed(seed))
        mixed = logps[rows][:, columns_for(shipped, order)]
        assert torch.equal(combine(mixed, order, groups=groups[rows], **options).total, expected[rows])


@pytest.mark.parametrize("options", FORMS)
def test_a_prior_per_follow_up_keeps_the_ranking(options: dict[str, Any]) -> None:
    """Multiples of 1/1024, so that adding the prior is exact and ties stay ties."""
    whole = torch.Generator().manual_seed(1)
    for _ in range(20):
        logps = torch.randint(-5000, 0, (6, 6), generator=whole) / 1024
        prior = torch.randint(-9000, 9000, (6,), generator=whole) / 1024
        groups = torch.zeros(6, dtype=torch.long)
        one, other = (combine(t, PAIR, groups=groups, **options).total for t in (logps, logps + prior))
        assert ranks(one) == ranks(other)


def test_standardizing_one_follow_up_keeps_the_ranking() -> None:
    groups = torch.zeros(4, dtype=torch.long)
    for order in permutations([-0.5, -0.25, -3.0, -7.0]):
        logps = torch.tensor(order)[:, None]
        plain, scaled = (combine(logps, flat(1, 0), groups=groups, **options).total for options in OPTIONS)
        assert ranks(plain) == ranks(scaled)


def test_no_rows_no_rewards() -> None:
    rewards = combine(torch.empty(0, 6), PAIR, groups=torch.empty(0, dtype=torch.long), standardize="within_prompt")
    assert (table(rewards).shape, rewards.total.shape) == ((0, 2), (0,))


@pytest.mark.unchecked  # hands over what the types forbid
@pytest.mark.parametrize(
    ("logps", "options", "field"),
    [
        (LOGPS[:, :5], {}, "logps"),
        (LOGPS[0], {}, "logps"),
        (torch.where(LOGPS < -5, -inf, LOGPS), {}, "logps"),
        (LOGPS, {"standardize": "within_prompt"}, "groups"),
        (LOGPS, {"standardize": "within_prompt", "groups": torch.zeros(3, dtype=torch.long)}, "groups"),
        (LOGPS, {"standardize": "z"}, "standardize"),
        (LOGPS, {"polarity": "positive"}, "polarity"),
        (LOGPS, {"form": "mean"}, "form"),
    ],
)
def test_what_does_not_fit_is_refused(logps: Tensor, options: dict[str, Any], field: str) -> None:
    with pytest.raises(InputError, match=f"field '{field}'.*allowed"):
        combine(logps, PAIR, **options)
