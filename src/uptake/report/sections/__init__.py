"""Sections of a run's report: one file each, with `build(run) -> Section | LeftOut` and a template of the same name."""

# From top to bottom. A file without a place here is an error.
ORDER = (
    "headline",
    "progress",
    "reactions",
    "samples",
    "tokens",
    "accuracy",
    "pairs",
    "training",
    "cost",
    "recipe",
)
