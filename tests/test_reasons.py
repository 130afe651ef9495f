"""Reasons that are alike, counted."""

from uptake.support.reasons import counted


def test_figures_that_belong_to_a_reason_stay() -> None:
    assert counted(["neither 1 nor 2", "neither 1 nor 2"]) == {"neither 1 nor 2": 2}


def test_what_differs_from_row_to_row_goes() -> None:
    """Quotes first, then numbers, and never more than has to go."""
    assert counted(["about to say 'R', neither 1 nor 2", "about to say 'A', neither 1 nor 2"]) == {
        "about to say …, neither 1 nor 2": 2
    }
    reasons = ["the row takes 113 tokens, of 96", "no answer", "the row takes 7 tokens, of 96"]
    assert counted(reasons) == {"the row takes N tokens, of N": 2, "no answer": 1}


def test_what_would_have_been_right_is_left_out() -> None:
    assert counted(["413 tokens (allowed: up to 12)", "413 tokens (allowed: up to 15)"]) == {"413 tokens": 2}
