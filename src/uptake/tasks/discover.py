"""Discover follow-ups in real conversations, and write them as a set that a person can edit."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from uptake.data.chat_log import Log
from uptake.data.exchanges import Exchange
from uptake.data.language import language_of
from uptake.data.resumable import Store, resumable_output
from uptake.data.write import disk_errors, replacing, write_json
from uptake.errors import InputError
from uptake.follow_up.discovery import Discover, Discovered, ProposedFollowUp
from uptake.follow_up.set import Category, FollowUpSet
from uptake.support.keys import prompt_key
from uptake.tasks.log_rewards import read_reactions

if TYPE_CHECKING:
    from uptake.follow_up.reward import FollowUpReward

# The category that proposals stand in, until a person sorts them.
CATEGORY = "reaction"
FORMATS = (".yaml", ".yml")

# What a user said, its signal, the number of the conversation, and all that was said before.
Heard = tuple[str, float, int, str]


@dataclass(frozen=True)
class DiscoverySummary:
    """Summary of a discovery: follow-ups, turns of users, and where their signal comes from: "ratings" or "reward"."""

    followups: FollowUpSet
    found: Discovered
    turns: int
    signal: str
    dropped: Mapping[str, int]


def discover(
    log: Log,
    out: str | Path,
    *,
    reward: "FollowUpReward | None" = None,
    how: Discover = Discover(),
    language: str | None = None,
    overwrite: bool = False,
) -> DiscoverySummary:
    """Write the follow-ups that users in a log use to approve or complain to `out`, a set in YAML.

    What a turn says for the response before it is the user's rating, where the log has ratings, else how the turn reads
    to a model by the set of `reward`. All figures stand as comments, and beside it in `.report.json`. A set that is
    replaced passes its version on, plus one. Raises InputError where neither ratings nor reward are given, where
    nothing telling is found, and for an `out` that exists, unless `overwrite`.
    """
    out = Path(out)
    if out.suffix not in FORMATS:
        allowed = f"{', '.join(FORMATS)}: the evidence stands in comments"
        raise InputError(f"a set in {out.suffix!r}", path=out, allowed=allowed)
    if reward is None and not log.rated:
        raise InputError("nothing says which turns approve", field="ratings", allowed="a column of ratings, or a model")
    report, kind = out.with_suffix(".report.json"), "ratings" if log.rated else "reward"
    with resumable_output(out, report, overwrite=overwrite) as journal:
        version = FollowUpSet.load(out).version + 1 if overwrite and out.exists() else 1
        units = _rated(log) if reward is None or log.rated else _read(log, reward, journal)
        found = _found(log, units, how)
        code = language or language_of(log.follow_ups) or "und"
        followups = FollowUpSet(f"discovered-{code}", version, code, (_category(found),))
        dropped = {**log.dropped, **found.dropped, "turns without a signal": len(log.follow_ups) - len(units)}
        with replacing(out, overwrite=overwrite, resumes=journal.resumes) as temporary, disk_errors(out):
            basis = f"{len(units)} turns of users; signal: {kind}"
            temporary.write_text(spelled(followups, found, basis), encoding="utf-8")
            figures = {**asdict(found), "signal": kind, "turns": len(units), "dropped": dropped}
            write_json(report, figures, overwrite=not journal.is_finished)
    return DiscoverySummary(followups, found, len(units), kind, dropped)


def _found(log: Log, units: Sequence[Heard], how: Discover) -> Discovered:
    """What the turns of users tell; raises InputError where that is nothing."""
    if not units:
        raise InputError("no turn of a user has a signal", path=log.source, allowed="ratings of answered responses")
    try:
        found = how(*zip(*units, strict=True))
    except InputError as error:
        raise InputError(error.problem, path=log.source, field=error.field, allowed=error.allowed) from None
    if not found.positive and not found.negative:
        counts = ", ".join(f"{reason}: {count}" for reason, count in found.dropped.items() if count)
        problem = f"no follow-up tells anything ({counts})"
        raise InputError(problem, path=log.source, allowed="more log, or a larger --wrong")
    return found


def spelled(followups: FollowUpSet, found: Discovered, basis: str) -> str:
    """The YAML text of a set, each follow-up with its evidence as a comment."""
    lines = [
        f"# Proposed from {basis}. Read it, delete what is about one topic only, and sort the rest into categories.",
        f"name: {json.dumps(followups.name)}",
        f"version: {followups.version}",
        f"language: {json.dumps(followups.language)}",
        "categories:",
        f"  {CATEGORY}:",
    ]
    for name, side in (("positive", found.positive), ("negative", found.negative)):
        lines += [f"    {name}:", *(line for each in side for line in _evidence(each))] if side else []
    return "\n".join((*lines, ""))


def _evidence(each: ProposedFollowUp) -> Sequence[str]:
    others = "; ".join(each.examples)
    # JSON's way to write a text is YAML's too, whatever is in it.
    return [
        f"      - {json.dumps(each.text, ensure_ascii=False)}",
        f"        # {each.turns} turns in {each.conversations} conversations, {each.above:+.3f}, p {each.p:.1g}",
        *([f"        # like: {others}"] if others else []),
    ]


def _category(found: Discovered) -> Category:
    positive, negative = (tuple(each.text for each in side) for side in (found.positive, found.negative))
    return Category(CATEGORY, 1.0, positive, negative)


def _rated(log: Log) -> list[Heard]:
    """Turns after responses that have a rating, which is the signal."""
    return [_heard(each, each.rating) for each in log.exchanges() if each.rating is not None]


def _heard(each: Exchange, signal: float) -> Heard:
    before = "\n".join((*(turn.content for turn in each.prompt.turns), each.response))
    return each.follow_up, signal, each.conversation, before


def _read(log: Log, reward: "FollowUpReward", store: Store) -> list[Heard]:
    """Turns that the model could read; the signal is how they read."""
    read = {
        (prompt_key(each.dialogue), text): value
        for each, reading in read_reactions(log.responses(), reward, store, len(log))
        for text, value in zip(each.follow_ups, reading.each, strict=not reading.reason)
        if value is not None
    }
    keyed = [(each, read.get((prompt_key(each.dialogue), each.follow_up))) for each in log.exchanges()]
    return [_heard(each, value) for each, value in keyed if value is not None]
