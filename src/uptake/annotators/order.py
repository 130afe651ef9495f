"""Order averaging: two readings of one pair, one for each order of showing the responses, as one probability."""

from typing import Literal, get_args

from scipy.special import expit, logit

from uptake.errors import InputError

OrderAverage = Literal["prob", "logit"]


def average_orders(shown_first: float, shown_second: float, how: OrderAverage = "prob") -> float:
    """P(a is better) from the probabilities read with `a` shown first and shown second.

    "prob" is their mean; "logit" the logistic function of the mean of their logits, which cancels a bias that adds to
    the logit of whatever is shown first. Where one reading is certain, "logit" follows it; where both are and disagree,
    it is one half. Raises InputError for another `how`. Source: arXiv 2402.04792 (probabilities).
    """
    if how not in get_args(OrderAverage):
        raise InputError(repr(how), field="order_average", allowed=", ".join(get_args(OrderAverage)))
    if how == "prob":
        return (shown_first + shown_second) / 2
    ends = {0.0, 1.0} & {shown_first, shown_second}
    if ends:
        return sum(ends) / len(ends)
    return float(expit((logit(shown_first) + logit(shown_second)) / 2))
