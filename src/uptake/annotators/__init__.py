"""Annotators: the probability that one of two responses is the better one."""
