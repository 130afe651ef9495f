"""Conditions: which rewards a model has learned answers to be asked for by, and which one it is asked for now."""

from dataclasses import dataclass

from uptake.report.charts import ChartAxis, nice_axis
from uptake.report.folder import RunFolder
from uptake.report.section import Section
from uptake.report.text import words

ABOUT = (
    "The rewards that stood behind the user's turn, over all rows, as the model read them. Asked for: the one that the "
    "trained model's chat template writes there."
)


@dataclass(frozen=True, slots=True)
class ConditionScale:
    """Rewards by name, each with its tone, on one axis."""

    values: tuple[tuple[str, float, str], ...]
    axis: ChartAxis


def build(run: RunFolder) -> Section | None:
    """The rewards of the last round that had some; none where nothing is conditioned."""
    found = [each.condition for each in run.rounds.values() if each.condition]
    if not found:
        return None
    tones = {"asked_for": "after"}
    values = tuple((words(name), value, tones.get(name, "before")) for name, value in found[-1].items())
    return Section("Conditions", ABOUT, ConditionScale(values, nice_axis([value for _, value, _ in values])))
