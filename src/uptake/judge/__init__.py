"""Judges: rewards and annotators by name, and how a round's rollouts are judged by them."""
