"""Table of all methods for the documentation, from their recipes."""

from uptake import methods
from uptake.recipe import Stage
from uptake.tasks.models_used import models_used
from uptake.tasks.run_config import DEFAULT_MODELS


def method_table() -> str:
    """Every method as a row of a Markdown table: what it is, what it learns from, and what it needs beside."""
    lines = ["| method | also | what it is | learns from | against | models |", "|---|---|---|---|---|---|"]
    for name, method in sorted(methods.catalog().items()):
        recipe = methods.build(name)
        last = recipe.stages[-1]
        start = "its start" if len(recipe.stages) == 1 else "the policy before"
        against = {"NoReference": "", "Frozen": start, "Virtual": "several models"}
        aliases = ", ".join(f"`{each}`" for each in method.aliases)
        used = [each for each in models_used(recipe) if each not in ("policy", "start")]
        models = ", ".join(f"`{each}`" + " (or the policy)" * (each in DEFAULT_MODELS) for each in used)
        reference = against.get(type(last.reference).__name__, "the policy before")
        lines.append(f"| `{name}` | {aliases} | {method.summary} | {_source(last)} | {reference} | {models} |")
    return "\n".join(lines) + "\n"


def _source(stage: Stage) -> str:
    if stage.produce is None:
        return "rows"
    count = getattr(getattr(stage.produce, "samples", stage.produce), "n", None)
    return f"{count} sample{'s' * (count != 1)} a prompt" + " beside the row's" * hasattr(stage.produce, "samples")
