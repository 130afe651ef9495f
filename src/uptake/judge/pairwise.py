"""Pairwise judge: an annotator prefers one of the two responses to every prompt."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Protocol, runtime_checkable

from uptake.annotators.base import Annotator, AnnotatorSpec
from uptake.errors import InputError
from uptake.rewards.base import Resources
from uptake.types import Dropped, Group, Rollout, Verdict
from uptake.world import World


@runtime_checkable
class ByAnnotator(Protocol):
    """Judge that asks an annotator, which may turn out to go by the place of a response."""

    @property
    def by(self) -> AnnotatorSpec: ...

    @property
    def allow_position_bias(self) -> bool: ...


@dataclass(frozen=True)
class PairwiseJudge:
    """Pairwise judge: one verdict over the two responses of every group.

    Responses that are equal, or say nothing, get an invalid verdict and do not reach the annotator, who may have to be
    paid. `keep_unfinished` shows it cut-off responses too; `allow_position_bias` lets a run start with an annotator
    that goes by the place of a response. Raises InputError for a group that is no pair.
    """

    by: AnnotatorSpec
    keep_unfinished: bool = True
    allow_position_bias: bool = False

    @property
    def uses(self) -> tuple[str, ...]:
        """The names of the models that it asks."""
        return self.by.uses

    def start(self, world: World) -> Callable[[Sequence[Group]], Sequence[Verdict]]:
        """The judge with its annotator built."""
        return partial(self._verdicts, self.by.build(Resources.of(world)))

    def _verdicts(self, annotator: Annotator, groups: Sequence[Group]) -> Sequence[Verdict]:
        pairs = [_pair(group) for group in groups]
        reasons = [self._skip_reason(*pair) for pair in pairs]
        comparable = [pair for pair, reason in zip(pairs, reasons, strict=True) if reason is None]
        answers = [(one.response, two.response) for one, two in comparable]
        verdicts = iter(annotator.compare([one.prompt for one, _ in comparable], answers) if comparable else ())
        return [next(verdicts) if reason is None else Verdict(0.5, (0.5, 0.5), reason) for reason in reasons]

    def _skip_reason(self, one: Rollout, two: Rollout) -> Dropped | None:
        """Why the annotator is not asked about two responses."""
        if not (one.response.strip() and two.response.strip()):
            return Dropped.EMPTY
        if one.response == two.response:
            return Dropped.EQUAL_RESPONSES
        return None if self.keep_unfinished or (one.finished and two.finished) else Dropped.UNFINISHED


def _pair(group: Group) -> tuple[Rollout, Rollout]:
    if len(group) != 2 or group[0].prompt.key != group[1].prompt.key:
        raise InputError("an annotator compares two responses to one prompt", field="n", allowed="2")
    return group[0], group[1]
