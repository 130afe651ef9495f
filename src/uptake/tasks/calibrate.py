"""Calibrate a follow-up set on a file of preferences."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from time import perf_counter

import numpy as np
from scipy.special import expit

from uptake.data.convert import response_turns
from uptake.data.lock import locked
from uptake.data.role_swap import FormatName
from uptake.data.write import may_write, write_json
from uptake.evaluate import Accuracy, Share, pairwise_accuracy
from uptake.evaluate.interval import share
from uptake.evaluate.item_analysis import FollowUpItem, item_analysis
from uptake.evaluate.reliability import Reliability, reliability
from uptake.follow_up.calibration import Calibrate, Calibrated, Floats, LabeledPairs
from uptake.follow_up.reward import FollowUpReward
from uptake.follow_up.set import Calibration, FollowUpSet
from uptake.models import LanguageModel
from uptake.rewards.fingerprint import model_fingerprint
from uptake.support.progress import progress_bar
from uptake.types import Dialogue, Preference

# Responses that the time of both sets is taken on, and how often.
TIMED, ROUNDS = 16, 3


@dataclass(frozen=True, slots=True)
class Cost:
    """Cost of scoring one response by `count` follow-ups: tokens, the conversation's included, and seconds."""

    count: int
    tokens: float
    seconds: float


@dataclass(frozen=True, slots=True)
class Labels:
    """Labels by a threshold: the share of all responses, and how many of those rightly; None where it labels none."""

    labeled: float
    right: Share | None


@dataclass(frozen=True)
class CalibrationReport:
    """Report of a calibration, measured on held-out prompts but for the items, which need no fit.

    `followups` is the fingerprint of the calibrated set. `accuracy` is by way of counting: "as given", "weighted" and
    "pruned"; `by_size` the share of pairs in order by how many follow-ups are left. `before` is the reliability of the
    set as it came at temperature 1, `after` that of the pruned set at its own. `good` and `bad` say what the thresholds
    label.
    """

    followups: str
    calibration: Calibration
    accuracy: Mapping[str, Accuracy]
    by_size: Mapping[int, float]
    before: Reliability
    after: Reliability
    good: Labels
    bad: Labels
    cost: tuple[Cost, Cost]
    items: tuple[FollowUpItem, ...]


def calibrate_file(
    rows: Sequence[Preference],
    lm: LanguageModel,
    followups: FollowUpSet,
    out: str | Path,
    *,
    calibrate: Calibrate = Calibrate(),
    format: FormatName | None = None,
    overwrite: bool = False,
) -> CalibrationReport:
    """Fit the set to preferences, write it to `out`, and the report beside it as `.report.json`.

    `format` is that of `FollowUpReward`. Raises InputError for a row that cannot be scored, for what `Calibrate`
    refuses, and for an `out` that exists, unless `overwrite`.
    """
    out = Path(out)
    beside = out.with_suffix(".report.json")
    with locked(out, beside):
        may_write(out, overwrite=overwrite)
        reward = FollowUpReward(lm, followups, format=format)
        pairs = label(rows, reward)
        result = calibrate(pairs)
        costs = _costs(rows, reward, FollowUpReward(lm, result.followups, format=format))
        report = _report(rows, pairs, result, costs)
        write_json(beside, asdict(report))
        result.followups.save(out, overwrite=overwrite)
    return report


def label(rows: Sequence[Preference], reward: FollowUpReward) -> LabeledPairs:
    """Score both responses of every row; raises as `FollowUpReward.score` does."""
    with progress_bar("score", 2 * len(rows)) as bar:
        where = [row.prompt.where for row in rows for _ in "ab"]
        logps = reward.score(_dialogues(rows), where=where, on_progress=bar.advance).logps.double().numpy()
    keys = tuple(row.prompt.key for row in rows)
    sides = logps.reshape(len(rows), 2, -1)
    return LabeledPairs(reward.followups, sides[:, 0], sides[:, 1], keys, model_fingerprint(reward.lm.model))


def _dialogues(rows: Sequence[Preference]) -> list[Dialogue]:
    return [(*row.prompt.turns, turn) for row in rows for turn in response_turns(row)]


def _report(
    rows: Sequence[Preference], pairs: LabeledPairs, result: Calibrated, cost: tuple[Cost, Cost]
) -> CalibrationReport:
    given = result.rewards["as given"]
    told = [result.calibration.label(reward) for reward in result.rewards["pruned"].reshape(-1)]
    return CalibrationReport(
        followups=result.followups.fingerprint,
        calibration=result.calibration,
        accuracy={name: _accuracy(rows, each) for name, each in result.rewards.items()},
        by_size=result.accuracy,
        before=reliability(expit(given[:, 0] - given[:, 1]).tolist()),
        after=reliability(result.p.tolist()),
        good=_labels(told, True),
        bad=_labels(told, False),
        cost=cost,
        items=item_analysis(pairs),
    )


def _accuracy(rows: Sequence[Preference], rewards: Floats) -> Accuracy:
    """How often the chosen response has the higher of (pairs, 2) rewards, lengths in characters."""
    return pairwise_accuracy(
        rewards[:, 0].tolist(),
        rewards[:, 1].tolist(),
        [len(row.chosen) for row in rows],
        [len(row.rejected) for row in rows],
    )


def _labels(told: Sequence[bool | None], wanted: bool) -> Labels:
    """What a threshold labels: responses are chosen and rejected in turn."""
    right = [(index % 2 == 0) == wanted for index, each in enumerate(told) if each is wanted]
    return Labels(len(right) / len(told), share(np.array(right, dtype=np.float64)) if right else None)


def _costs(rows: Sequence[Preference], *rewards: FollowUpReward) -> tuple[Cost, Cost]:
    """What both rewards take, in turn on the same responses; the quickest of some rounds, after one to warm up."""
    dialogues = _dialogues(rows)[:TIMED]
    times = [[_seconds(reward, dialogues) for reward in rewards] for _ in range(ROUNDS + 1)][1:]
    before, after = (
        Cost(len(reward.followups.sentences), _tokens(reward, dialogues), min(taken) / len(dialogues))
        for reward, taken in zip(rewards, zip(*times, strict=True), strict=True)
    )
    return before, after


def _seconds(reward: FollowUpReward, dialogues: Sequence[Dialogue]) -> float:
    start = perf_counter()
    reward.score(dialogues)
    return perf_counter() - start


def _tokens(reward: FollowUpReward, dialogues: Sequence[Dialogue]) -> float:
    shaped, speaker = map(reward.format, dialogues), reward.format.speaker
    trees = [reward.chat.follow_ups(turns, reward.followups.sentences, speaker=speaker) for turns in shaped]
    return sum(len(stem) + sum(map(len, branches)) for stem, branches in trees) / len(trees)
