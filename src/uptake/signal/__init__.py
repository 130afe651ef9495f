"""Signals: what judgements of rollouts become before a loss sees them."""

from uptake.signal.as_given import AsGiven, Examples, Imitate
from uptake.signal.best_worst import BestWorst, Mined

__all__ = ["AsGiven", "BestWorst", "Examples", "Imitate", "Mined"]
