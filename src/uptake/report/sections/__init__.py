"""Sections of a run's report: one file each, with `build(run) -> Section | LeftOut` and a template of the same name.

A section on what few methods do is None for all others: nothing is missing from their runs.
"""

# From top to bottom. A file without a place here is an error.
ORDER = (
    "headline",
    "progress",
    "alphas",
    "reactions",
    "samples",
    "tokens",
    "accuracy",
    "pairs",
    "conditions",
    "doubts",
    "references",
    "age",
    "training",
    "cost",
    "recipe",
)
