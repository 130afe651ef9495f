"""Signals: what judgements of rollouts become before a loss sees them."""

from uptake.signal.best_worst import BestWorst
from uptake.signal.filters import MinedPair

__all__ = ["BestWorst", "MinedPair"]
