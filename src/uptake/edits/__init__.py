"""Minimal edits: who makes them, in which spelling, and by which rules they are taken."""
