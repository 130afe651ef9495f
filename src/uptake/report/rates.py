"""Rates with their intervals, drawn one below the other."""

from dataclasses import dataclass

from uptake.evaluate import Share


@dataclass(frozen=True, slots=True)
class Rate:
    """Named share of some rows, with its interval where one is known."""

    name: str
    rate: float
    low: float | None = None
    high: float | None = None

    @classmethod
    def of(cls, name: str, share: Share) -> "Rate":
        """Rate of a share."""
        return cls(name, share.rate, share.low, share.high)


@dataclass(frozen=True, slots=True)
class RateGroup:
    """Rates that are read against each other."""

    title: str
    rates: tuple[Rate, ...]
