"""Signals: what judgements of rollouts become before a loss sees them."""
