"""Sections of a bench's page: one file each, with `build(results, timing) -> Section | LeftOut` and a template."""

# From top to bottom. A file without a place here is an error.
ORDER = (
    "headline",
    "figures",
    "by_margin",
    "by_length",
    "confidence",
    "parts",
    "cost",
    "benchmarks",
)
