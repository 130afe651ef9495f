"""Recipe: every part of the run with every option, and the models and versions that it ran with."""

from collections.abc import Iterator
from dataclasses import dataclass

from uptake.report.folder import RunFacts, RunFolder
from uptake.report.section import LeftOut, Section
from uptake.report.text import words

ABOUT = "What ran, with every option of every part."
FACTS = ("method", "seed", "device", "threads", "uptake_version", "torch_version", "transformers_version")


@dataclass(frozen=True, slots=True)
class RecipeText:
    """Facts of the run as names and values, and recipe.yaml as it stands; either may be empty."""

    setting: tuple[tuple[str, str], ...]
    recipe: str


def build(run: RunFolder) -> Section | LeftOut:
    """Facts and recipe, as far as they are there."""
    if run.facts is None and not run.recipe:
        return LeftOut.no("recipe.yaml and no run.json", "Recipe, setting and versions")
    files = {"Recipe": (run.recipe, "recipe.yaml"), "Setting and versions": (run.facts, "run.json")}
    left_out = tuple(LeftOut.no(file, what) for what, (found, file) in files.items() if not found)
    setting = tuple(_setting(run.facts)) if run.facts else ()
    return Section("Recipe", ABOUT, RecipeText(setting, run.recipe or ""), left_out=left_out)


def _setting(facts: RunFacts) -> Iterator[tuple[str, str]]:
    yield from ((f"{words(role)} model", name) for role, name in facts.models.items())
    for name in FACTS:
        value = getattr(facts, name)
        if value not in ("", None):
            yield words(name.removesuffix("_version")), str(value)
