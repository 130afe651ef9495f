"""The judge of an online recipe: an annotator prefers one of the two responses to every prompt."""

from collections.abc import Sequence
from dataclasses import dataclass

from uptake.annotators.base import AnnotatorSpec
from uptake.errors import InputError
from uptake.rewards.base import Resources
from uptake.types import Judgement, Rollout, Verdict
from uptake.world import World


@dataclass(frozen=True)
class PairwiseJudge:
    """Judge every two consecutive rollouts, which answer one prompt, against each other.

    The score of each is the probability that it is the better one. Responses that are equal, or say nothing, are
    invalid and do not reach the annotator, who may have to be paid. `keep_unfinished` shows it cut-off responses too.
    Raises InputError unless there are two rollouts to every prompt.
    """

    by: AnnotatorSpec
    keep_unfinished: bool = True

    @property
    def uses(self) -> tuple[str, ...]:
        """The names of the models that it asks."""
        return self.by.uses

    def __call__(self, world: World, rollouts: Sequence[Rollout]) -> Sequence[Judgement]:
        pairs = list(zip(rollouts[::2], rollouts[1::2], strict=False))
        if len(rollouts) % 2 or any(one.prompt.key != two.prompt.key for one, two in pairs):
            raise InputError("an annotator compares two responses to one prompt", field="n", allowed="2")
        reasons = [self._not_asked(*pair) for pair in pairs]
        asked = [pair for pair, reason in zip(pairs, reasons, strict=True) if not reason]
        answers = [(one.response, two.response) for one, two in asked]
        annotator = self.by.build(Resources.of(world))
        verdicts = iter(annotator.compare([one.prompt for one, _ in asked], answers) if asked else ())
        return [
            side
            for reason in reasons
            for side in _sides(Verdict(0.5, (0.5, 0.5), valid=False, reason=reason) if reason else next(verdicts))
        ]

    def _not_asked(self, one: Rollout, two: Rollout) -> str:
        if not (one.response.strip() and two.response.strip()):
            return "empty"
        if one.response == two.response:
            return "equal responses"
        return "" if self.keep_unfinished or (one.finished and two.finished) else "unfinished"


def _sides(verdict: Verdict) -> tuple[Judgement, Judgement]:
    """The verdict as a judgement of each response; what it cost stands with the first only."""
    one, two = verdict.by_order
    paid = {"tokens": float(verdict.tokens), "cost": verdict.cost}
    valid, reason = verdict.valid, verdict.reason
    first = Judgement(verdict.p, valid, {"shown_first": one, "shown_second": two} | paid, reason)
    return first, Judgement(1 - verdict.p, valid, {"shown_first": 1 - two, "shown_second": 1 - one}, reason)
