"""Accuracy: how often the reward prefers the better of two responses, beside what likelihood and length alone get."""

from collections.abc import Iterator

from uptake.report.folder import RewardModel, RunFolder
from uptake.report.rates import Rate, RateGroup
from uptake.report.section import LeftOut, Section
from uptake.report.text import words

ABOUT = (
    "How often the scorer prefers the better of two responses. The line marks a coin toss; "
    "\N{LEFT DOUBLE QUOTATION MARK}longer wins\N{RIGHT DOUBLE QUOTATION MARK} is what length alone would get."
)


def build(run: RunFolder) -> Section | LeftOut:
    """Pairwise accuracy over all pairs, by margin and by category of follow-ups."""
    if run.evaluation is None:
        return LeftOut.no("evaluation.json", "Accuracy", "uptake eval")
    groups = tuple(_groups(run.evaluation.reward_model)) if run.evaluation.reward_model else ()
    return Section("Accuracy", ABOUT, groups) if groups else LeftOut("Accuracy", "not in evaluation.json.")


def _groups(reward: RewardModel) -> Iterator[RateGroup]:
    accuracy = reward.accuracy
    if accuracy:
        matched = [Rate.of("lengths matched", accuracy.length_matched)] if accuracy.length_matched else []
        direct = [Rate.of("likelihood of the response", reward.direct.plain)] if reward.direct else []
        longer = Rate.of("longer wins", accuracy.longer_wins)
        yield RateGroup("All pairs", (Rate.of("follow-up score", accuracy.plain), *matched, *direct, longer))
        count = len(accuracy.by_margin)
        names = ["smallest", *([""] * (count - 2)), "largest"] if count > 1 else ["all"]
        yield RateGroup("By margin, in fifths", tuple(map(Rate.of, names, accuracy.by_margin)))
    if reward.by_category:
        yield RateGroup("By category", tuple(Rate(words(name), rate) for name, rate in reward.by_category.items()))
