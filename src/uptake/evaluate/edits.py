"""Edit statistics: how many minimal edits are accepted, why the rest is not, how much they change, what they cost."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from uptake.edits.edit import Checked, Outcome
from uptake.errors import InputError
from uptake.evaluate.annotator import AnnotatorStats, annotator_stats
from uptake.evaluate.interval import Share, share

BINS = 10


@dataclass(frozen=True, slots=True)
class EditStats:
    """Edit statistics over some responses; None where no edit can tell.

    `statuses` and `reasons` count all of them. `ratios` counts every edit that was compared and is none of unchanged
    or empty, by edit ratio in ten bins from 0 to 1. The rest is about accepted edits: `operations` the shares of
    substituted (S), deleted (D) and added (A) units among the changed, `length` the mean length of the edit over that
    of the response, `ambiguous` the share with another alignment as short. `judge` says how the annotator judged the
    edits it was shown. `tokens` and `cost` are those of editor and annotator together.
    """

    accepted: Share
    statuses: Mapping[str, int]
    reasons: Mapping[str, int]
    ratios: tuple[int, ...]
    operations: Mapping[str, float] | None
    length: float | None
    ambiguous: Share | None
    judge: AnnotatorStats | None
    tokens: int
    cost: float


def edit_stats(outcomes: Sequence[Outcome]) -> EditStats:
    """Edit statistics of what became of some drafts; raises `InputError` for none."""
    if not outcomes:
        raise InputError("no edits", field="outcomes", allowed="at least one")
    compared = [one.checked for one in outcomes if one.checked and one.checked.ops]
    accepted = [one.checked for one in outcomes if one.checked and one.status == "accepted"]
    counts = np.histogram([each.ratio for each in compared], bins=BINS, range=(0, 1))[0]
    judge = _judge(outcomes)
    return EditStats(
        accepted=share(np.array([float(one.status == "accepted") for one in outcomes])),
        statuses=dict(Counter(one.status for one in outcomes)),
        reasons=dict(Counter(one.reason for one in outcomes if one.reason).most_common()),
        ratios=tuple(int(count) for count in counts),
        operations=_operations(accepted),
        length=float(np.mean([each.length for each in accepted])) if accepted else None,
        ambiguous=share(np.array([float(each.ambiguous) for each in accepted])) if accepted else None,
        judge=judge,
        tokens=sum(one.proposal.tokens for one in outcomes) + (judge.tokens if judge else 0),
        cost=sum(one.proposal.cost for one in outcomes) + (judge.cost if judge else 0.0),
    )


def _operations(accepted: Sequence[Checked]) -> Mapping[str, float] | None:
    counts = Counter(op for each in accepted for op in each.ops if op != "U")
    return {op: counts[op] / counts.total() for op in "SDA"} if counts else None


def _judge(outcomes: Sequence[Outcome]) -> AnnotatorStats | None:
    judged = [(one, one.verdict, one.checked) for one in outcomes if one.verdict and one.checked]
    if not judged:
        return None
    verdicts = [verdict for _, verdict, _ in judged]
    edits = [len(checked.text) for *_, checked in judged]
    return annotator_stats(verdicts, edits, [len(one.draft.response) for one, *_ in judged])
