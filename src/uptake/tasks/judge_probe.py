"""Probe of a judge before a run: how often its two orders agree on answers of the policy, and what length explains."""

from dataclasses import fields, replace
from pathlib import Path
from tempfile import TemporaryDirectory

from uptake.errors import InputError
from uptake.evaluate.annotator import AnnotatorStats, annotator_stats, no_verdict_warning, position_bias_warning
from uptake.judge import ByAnnotator, PairwiseJudge
from uptake.recipe import Recipe, Stage
from uptake.rollout import PolicySamples
from uptake.rollout.samples import Samples
from uptake.types import Row
from uptake.world import World

# Pairs that a judge is asked about before a run, and the longest answers in them, in tokens.
PAIRS = 32
LONGEST = 64


def probe_judge(stage: Stage, world: World, pairs: int = PAIRS) -> AnnotatorStats | None:
    """Statistics of a stage's judge on two answers of the policy to each of its first prompts, lengths in characters.

    None where no annotator reads pairs in both orders. Answers are cut off after 64 tokens, and nothing is kept of them
    or of what was said.
    """
    judge = stage.judge
    if not (isinstance(judge, ByAnnotator) and judge.by.both_orders):
        return None
    groups = [group[:2] for group in _answers(stage)(world, _first_rows(stage, world, pairs), 0, 0)]
    with TemporaryDirectory() as scratch:
        verdicts = PairwiseJudge(judge.by).start(replace(world, folder=Path(scratch)))(groups)
    return annotator_stats(verdicts, *([len(group[side].response) for group in groups] for side in (0, 1)))


def refuse_position_bias(recipe: Recipe, world: World) -> None:
    """Raise InputError for a judge that can say nothing of the probe's pairs, or goes by place, unless it may.

    Its two orders agree in fewer than half of the pairs then.
    """
    for stage in recipe.stages:
        if not isinstance(stage.judge, ByAnnotator) or stage.judge.allow_position_bias:
            continue
        stats = probe_judge(stage, world)
        if stats is None:
            continue
        if problem := no_verdict_warning(stats):
            raise InputError(problem, field="judge", allowed="a model that answers the question")
        if problem := position_bias_warning(stats):
            allowed = "a judge that reads the responses; or allow_position_bias=true, to learn from this one"
            raise InputError(problem, field="judge", allowed=allowed)


def facts_of(stats: AnnotatorStats) -> list[tuple[str, str]]:
    """What a probe says of a judge, by name."""
    shares = {"verdicts invalid": stats.invalid, "both orders agree": stats.agreement, "longer wins": stats.longer_wins}
    told = [
        (f"judge: {name}", f"{each.rate:.0%} of {each.n} ({each.low:.0%} to {each.high:.0%})")
        for name, each in shares.items()
        if each is not None
    ]
    told += [("judge: invalid", f"{reason} ({count})") for reason, count in stats.reasons.items()]
    warnings = no_verdict_warning(stats), position_bias_warning(stats)
    return told + [("judge: warning", warning) for warning in warnings if warning]


def _answers(stage: Stage) -> Samples:
    """Answers of the policy in this process, whatever samples in the run."""
    produce, _, _ = stage.sampling
    if not isinstance(produce, Samples):
        raise InputError("no sampling options", field="produce", allowed="a producer of samples")
    options = {each.name: getattr(produce, each.name) for each in fields(Samples)}
    return PolicySamples(**options | {"max_new_tokens": min(produce.max_new_tokens, LONGEST)})


def _first_rows(stage: Stage, world: World, count: int) -> list[Row]:
    """The rows of the first rounds, as many as are wanted."""
    rows: list[Row] = []
    for round_ in range(stage.rounds):
        rows.extend(stage.select(world, round_)[: count - len(rows)])
        if len(rows) == count:
            break
    return rows
