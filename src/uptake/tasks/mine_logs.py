"""Mine real conversations: rate responses by what users said right after them, and by what they might have said."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import combinations
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, get_args

import numpy as np

from uptake.data import Writer, to_record
from uptake.data.chat_log import Log
from uptake.data.exchanges import Reacted
from uptake.data.language import check_language
from uptake.data.read import check_table
from uptake.data.resumable import resumable_output
from uptake.data.spans import tokenize
from uptake.data.turns import as_text
from uptake.data.write import write_json
from uptake.errors import InputError
from uptake.evaluate.bootstrap import Estimate
from uptake.evaluate.correlation import FEWEST_ROWS, rank_correlation
from uptake.signal import BestWorst, MinedPair
from uptake.signal.filters import added
from uptake.signal.thresholds import Thresholds
from uptake.tasks.log_rewards import By, LogRewards, ReactionReward
from uptake.types import Answered, Dropped, Group, Judgement, Preference, Rated, Rollout, RoundData, Row

if TYPE_CHECKING:
    from uptake.follow_up.reward import FollowUpReward

Keep = Literal["rated", "scored", "pairs"]

# Responses that are the only ones to their prompts are looked at so many at a time.
LONE = 1024

# A response of a log with its rewards.
ReadResponse = tuple[Reacted, ReactionReward]


@dataclass(frozen=True)
class MineLogs:
    """Mining of a log: good and bad responses by two thresholds, all with their scores, or pairs of one prompt.

    `by` says which reward decides. Raises InputError for a setting that is not known.
    """

    keep: Keep = "rated"
    by: By = "actual_follow_up"
    thresholds: Thresholds = Thresholds(0.25, 0.75, "quantile")
    pairs: BestWorst = BestWorst()

    def __post_init__(self) -> None:
        for name, known in (("keep", Keep), ("by", By)):
            if getattr(self, name) not in get_args(known):
                raise InputError(repr(getattr(self, name)), field=name, allowed=", ".join(get_args(known)))
        if self.keep == "scored" and (self.pairs.length_residual or self.thresholds.length_residual):
            raise InputError("scores are kept as they are", field="length_residual", allowed="keep rated or pairs")

    def __call__(self, rewards: LogRewards, reward: "FollowUpReward | None") -> "MinedRows":
        """What is mined of the responses, whose tokens are those of the `reward`'s model; without one, characters."""
        if self.keep == "pairs":
            return _paired(rewards, self, reward)
        return _rated(rewards, self) if self.keep == "rated" else _scored(rewards, self.by)


@dataclass(frozen=True)
class MinedRows:
    """Rows mined of a log: their records, how many there are, how many of them good, and what was dropped and why."""

    records: Iterable[Mapping[str, Any]]
    count: int
    good: int
    dropped: Mapping[str, int]


@dataclass(frozen=True)
class LogSummary:
    """Summary of a log: counts, what was dropped and why, and how the rewards go with each other and with ratings.

    `reasons` count the responses that could not be read, `details` tell what else is known of the first of each.
    `correlations` are Spearman's, with intervals by conversation; an undefined one has its reason.
    """

    conversations: int
    exchanges: int
    repeated: int
    responses: int
    written: int
    good: int
    dropped: Mapping[str, int]
    reasons: Mapping[str, int]
    details: Mapping[Dropped, str]
    redacted: Mapping[str, int]
    correlations: Mapping[str, Estimate]


def mine_logs(
    log: Log,
    reward: "FollowUpReward | None",
    out: str | Path,
    *,
    how: MineLogs = MineLogs(),
    any_language: bool = False,
    overwrite: bool = False,
) -> LogSummary:
    """Rate every response in a log that the user answers, and write what `how` keeps to `out`.

    The figures go beside it, to `<out>.summary.json`. Thresholds need the rewards of all responses, so the log, of
    which numbers are held, is read again for what is written, and before that for a model; texts are held of pairs
    only, and of a table. Scores are journaled while the work goes on, so a call that was killed goes on where it
    stopped. The ratings of the log are compared with the rewards, and decide only where `how` goes by
    "rating_regression"; there the reward of a model may be None. Raises InputError where users write in another
    language than the follow-ups (unless `any_language`), where nothing is left to write, and for an `out` that exists,
    unless `overwrite`.
    """
    out = Path(out)
    if how.by == "rating_regression" and not log.rated:
        allowed = "rating_regression with ratings; actual_follow_up; follow_up"
        raise InputError("no column of ratings to learn from", field="by", allowed=allowed)
    if how.by != "rating_regression" and reward is None:
        raise InputError(f"{how.by} is read by a model", field="model", allowed="a model, or by rating_regression")
    if reward is not None and not any_language:
        check_language(log.follow_ups, reward.followups.language, str(log.source))
    beside = out.with_name(f"{out.name}.summary.json")
    if out.suffix == ".parquet":
        check_table(list(map(_answered, log.responses())))
    with resumable_output(out, beside, overwrite=overwrite) as journal:
        rewards = LogRewards(log, journal)
        if reward is not None:
            rewards.read(reward)
        if how.by == "rating_regression":
            rewards.fit_ratings()
        rows = how(rewards, reward)
        if not rows.count:
            raise _nothing_left(rewards, how.by, {**log.dropped, **rows.dropped})
        summary = _summary(rewards, rows)
        with Writer(out, overwrite=overwrite, resumes=journal.resumes) as writer:
            for record in rows.records:
                writer.write(record)
            write_json(beside, asdict(summary), overwrite=not journal.is_finished)
    return summary


def _summary(rewards: LogRewards, rows: MinedRows) -> LogSummary:
    log = rewards.log
    return LogSummary(
        conversations=log.rows,
        exchanges=len(log.follow_ups),
        repeated=len(log.follow_ups) - len(log.words),
        responses=len(log),
        written=rows.count,
        good=rows.good,
        dropped={**log.dropped, **rows.dropped},
        reasons=dict(rewards.counts),
        details=dict(rewards.details),
        redacted=dict(log.redacted),
        correlations=_correlations(rewards),
    )


def _scored(rewards: LogRewards, by: By) -> MinedRows:
    """All responses that have a reward."""
    usable = rewards.valid
    records = (_record(_answered(read[0]), [read], by) for read in rewards.each(usable))
    return MinedRows(records, int(usable.sum()), 0, rewards.counts)


def _rated(rewards: LogRewards, how: MineLogs) -> MinedRows:
    """The good and the bad responses."""
    scores = rewards.by_kind[how.by]
    dropped: dict[str, int] = {Dropped.UNFINISHED: 0, **rewards.counts}
    usable = rewards.valid & np.isfinite(scores)
    if infinite := int(rewards.valid.sum() - usable.sum()):
        dropped[Dropped.NOT_FINITE] = infinite
    sides = how.thresholds.sides(scores[usable], rewards.log.lengths[usable].astype(np.float64))
    dropped[Dropped.BETWEEN_THRESHOLDS] = int((~sides.clear).sum())
    clear, good = usable.copy(), sides.good[sides.clear]
    clear[usable] = sides.clear
    records = (
        _record(Rated(read[0].prompt, read[0].response, label, read[0].fields), [read], how.by)
        for read, label in zip(rewards.each(clear), good.tolist(), strict=True)
    )
    return MinedRows(records, len(good), int(good.sum()), dropped)


def _paired(rewards: LogRewards, how: MineLogs, reward: "FollowUpReward | None") -> MinedRows:
    """The best against the worst response to each prompt that has several, all of which are held."""
    prompts = rewards.log.prompts
    several, lone, counts = list[ReadResponse](), list[ReadResponse](), list[Mapping[str, int]]()
    for read, answers in zip(rewards.each(), np.bincount(prompts)[prompts].tolist(), strict=True):
        (several if answers > 1 else lone).append(read)
        if len(lone) == LONE:
            counts.append(_mined(lone, _rollouts(lone, None), how).summary["dropped"])
            lone.clear()
    counts.append(_mined(lone, _rollouts(lone, None), how).summary["dropped"])
    rollouts = _rollouts(several, reward)
    mined = _mined(several, rollouts, how)
    read_of = {(each.prompt.key, each.sample): read for each, read in zip(rollouts, several, strict=True)}

    def record(found: MinedPair) -> Mapping[str, Any]:
        sides = [read_of[each.prompt.key, each.sample] for each in (found.chosen, found.rejected)]
        return _record(_preference(found), sides, how.by)

    return MinedRows(map(record, mined.examples), len(mined.examples), 0, added(mined.summary["dropped"], *counts))


def _mined(answers: Sequence[ReadResponse], rollouts: Sequence[Rollout], how: MineLogs) -> RoundData:
    return how.pairs.mine(*_by_prompt(rollouts, [reading.judgement(how.by) for _, reading in answers]))


def _rollouts(answers: Sequence[ReadResponse], reward: "FollowUpReward | None") -> list[Rollout]:
    """The responses as rollouts; their ids are there to be counted: tokens of a model, else one a character."""
    texts = [as_text(heard.dialogue[-1]) for heard, _ in answers]
    ids = [(0,) * len(text) for text in texts] if reward is None else tokenize(reward.chat.tokenizer, texts)
    before = Counter[str]()
    rollouts = []
    for (heard, _), response_ids in zip(answers, ids, strict=True):
        prompt, sample = heard.prompt, before[heard.prompt.key]
        before[prompt.key] += 1
        more: dict[str, Any] = {"sample": sample, "source": "dataset", "fields": heard.fields}
        rollouts.append(Rollout(prompt, (), response_ids, heard.response, finished=True, **more))
    return rollouts


def _by_prompt(
    rollouts: Sequence[Rollout], judged: Sequence[Judgement]
) -> tuple[list[Group], list[tuple[Judgement, ...]]]:
    """Responses and their judgements in groups, in the order in which prompts first come up."""
    groups: dict[str, list[tuple[Rollout, Judgement]]] = {}
    for rollout, judgement in zip(rollouts, judged, strict=True):
        groups.setdefault(rollout.prompt.key, []).append((rollout, judgement))
    both = [tuple(zip(*group, strict=True)) for group in groups.values()]
    return [group for group, _ in both], [judgements for _, judgements in both]


def _preference(mined: MinedPair) -> Preference:
    chosen, rejected = mined.chosen, mined.rejected
    texts = chosen.response, rejected.response
    return Preference(chosen.prompt, *texts, chosen.fields, rejected.fields, mined.pair.margin)


def _answered(heard: Reacted) -> Answered:
    return Answered(heard.prompt, heard.response, heard.fields)


def _record(row: Row, answers: Sequence[ReadResponse], by: By) -> dict[str, Any]:
    """A row with what was said after its responses, and their rewards: of one, or of chosen and rejected."""
    sides = ("chosen_", "rejected_") if len(answers) == 2 else ("",)
    record: dict[str, Any] = {} if len(answers) == 2 else {"reward": answers[0][1].rewards[by]}
    for side, (heard, reading) in zip(sides, answers, strict=True):
        record[f"{side}actual_follow_up"] = list(heard.follow_ups)
        record |= {f"{side}reward_{kind}": reading.rewards[kind] for kind in get_args(By) if kind in reading.rewards}
        record[f"{side}by_category"] = reading.by_category.get(by, {})
    return {**to_record(row), **record}


def _nothing_left(rewards: LogRewards, by: By, dropped: Mapping[str, int]) -> InputError:
    scores = np.unique(rewards.by_kind[by][rewards.valid])
    counts = ", ".join(f"{reason}: {count}" for reason, count in dropped.items() if count)
    counts += "".join(f"; {detail}" for detail in rewards.details.values())
    equal = f"all rewards are {scores[0]:.4f}, so none is good or bad; " if len(scores) == 1 < len(rewards.log) else ""
    return InputError(
        f"{equal}nothing is left to write ({counts})", path=rewards.log.source, allowed="other thresholds, or more log"
    )


def _correlations(rewards: LogRewards) -> dict[str, Estimate]:
    """Spearman's rho of the rewards with each other, with length in characters, and with any ratings."""
    log, rows = rewards.log, rewards.valid
    rated = rows & ~np.isnan(log.ratings)
    kinds = [kind for kind in get_args(By) if rows.any() and kind in rewards.by_kind]
    columns = {**rewards.by_kind, "length": log.lengths.astype(np.float64), "rating": log.ratings}
    compared = [*combinations(kinds, 2), *((kind, "length") for kind in kinds)]
    compared += [(kind, "rating") for kind in (*kinds, "length") if rated.any()]
    found = {}
    for one, other in compared:
        of = rated if other == "rating" else rows
        count = int(of.sum())
        few = Estimate(None, None, None, count, f"fewer than {FEWEST_ROWS} responses")
        x, y, talks = columns[one][of], columns[other][of], log.conversations[of]
        found[f"{one}, {other}"] = few if count < FEWEST_ROWS else rank_correlation(x, y, talks)
    return found
