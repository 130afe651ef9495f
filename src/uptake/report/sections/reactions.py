"""Reactions: the follow-up score of each category of follow-ups, before and after."""

from dataclasses import dataclass

from uptake.report.charts import ChartAxis, axis_through_zero
from uptake.report.folder import CategoryScores, RunFolder
from uptake.report.section import LeftOut, Section

ABOUT = "How much more likely praise than complaint is as the reader's next line, by what the line is about."


@dataclass(frozen=True, slots=True)
class CategoryChanges:
    """Scores before and after on one axis."""

    scores: CategoryScores
    axis: ChartAxis


def build(run: RunFolder) -> Section | LeftOut:
    """Mean follow-up score per category of the held-out prompts."""
    if run.evaluation is None:
        return LeftOut.no("evaluation.json", "Reactions", "uptake eval")
    scores = run.evaluation.categories
    axis = scores and axis_through_zero((*scores.before.values(), *scores.after.values()))
    if not (scores and axis):
        return LeftOut("Reactions", "not in evaluation.json.")
    return Section("Reactions", ABOUT, CategoryChanges(scores, axis))
