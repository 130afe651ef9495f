"""Rewards: a number for a response."""
