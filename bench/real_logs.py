"""Real logs: do rewards from what users said next, and from what they might say, go with the users' own ratings?

    python bench/real_logs.py --model MODEL --data DATA [--sets NAME ...] [--responses N] [--pairs N]

`DATA` holds the folders of the data sets. Conversations are halved by line number: follow-ups are discovered in one
half by its ratings, and all figures are from conversations drawn from the other half, with about N responses. A rating
of a whole dialogue is compared with the mean over its responses. Rating regression reads users' words by the ratings
of the training half, without a model. Scores are kept in `--work`, and a call that was stopped goes on there.
"""

import argparse
import random
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from statistics import NormalDist, fmean

import numpy as np
from _harness import record
from claims.rule import ERROR, holm
from numpy.typing import NDArray
from scipy.special import expit, logit

from uptake import load
from uptake.data.exchanges import Reacted
from uptake.data.resumable import ResultJournal
from uptake.datasets import Rating, folder_of, read_set
from uptake.errors import InputError
from uptake.evaluate.bootstrap import Estimate, estimate
from uptake.evaluate.correlation import correlations
from uptake.follow_up.discovery import Discover
from uptake.follow_up.rating_regression import rating_regression
from uptake.follow_up.reward import FollowUpReward
from uptake.follow_up.set import Category, FollowUpSet
from uptake.models import LanguageModel
from uptake.support.keys import prompt_key
from uptake.tasks.log_rewards import read_reactions
from uptake.types import Dialogue, Prompt

# The rating of every data set, whether it rates turns, and the rating from which up a response is called good.
SETS: Mapping[str, tuple[str, bool, float]] = {
    "convai2": ("thumb", True, 1.0),
    "uss": ("satisfaction", True, 3.0),
    "topical_chat": ("overall", True, 4.0),
    "dialogue_eval": ("overall", False, 0.0),
}
AUC, CORRECTED = "AUC, good against bad", "AUC, interval corrected for all"
COLUMNS = ("data", "reward", "rho with the rating", AUC, "n", "note")
# Rows that put no form of reading users to the test.
CONTROLS = ("length of the response", "chance")
Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Case:
    """A rating with the responses it is about, each with what the user said next; `talk` numbers the conversation."""

    rating: float
    responses: tuple[tuple[Dialogue, str], ...]
    talk: int
    training: bool


def cases(name: str, data: Path) -> list[Case]:
    """The rated cases of a data set whose responses the user answers; none where the set is not there."""
    key, by_turn, _ = SETS[name]
    items = read_set(name, "ratings", data) if folder_of(name, data) is not None else ()
    of = [
        (each, (each.where.path, each.where.line))
        for each in items
        if isinstance(each, Rating) and each.where and key in each.ratings and (each.level == "turn") == by_turn
    ]
    talks = {place: number for number, place in enumerate(dict.fromkeys(place for _, place in of))}
    made = [Case(each.ratings[key], tuple(_responses(each)), talks[place], place[1] % 4 < 2) for each, place in of]
    return [case for case in made if case.responses]


def _responses(item: Rating) -> Iterator[tuple[Dialogue, str]]:
    if item.level == "turn" and item.follow_up:
        yield item.dialogue, item.follow_up
    for place, turn in enumerate(item.dialogue[:-1] if item.level == "dialogue" else ()):
        if turn.role == "assistant":
            yield item.dialogue[: place + 1], item.dialogue[place + 1].content


def discovered(train: Sequence[Case]) -> tuple[FollowUpSet | None, str]:
    """The follow-ups of the training half, and how many a side, or why there are none."""
    units = [(said, case.rating, case.talk) for case in train for _, said in case.responses]
    try:
        found = Discover(most=10)(*zip(*units, strict=True))
        positive, negative = (tuple(each.text for each in side) for side in (found.positive, found.negative))
        followups = FollowUpSet("discovered", 1, "en", (Category("reaction", 1.0, positive, negative),))
    except InputError as error:
        return None, str(error)
    return followups, f"{len(positive)} + {len(negative)} follow-ups"


def rewards(
    tests: Sequence[Case], lm: LanguageModel, sets: Mapping[str, FollowUpSet], work: Path
) -> dict[str, list[float | None]]:
    """The mean reward of every case by what was said and by the set, with each follow-up set."""
    heard = [
        Reacted(Prompt(turns[:-1], prompt_key(turns[:-1])), turns[-1].content, (said,), case.talk)
        for case in tests
        for turns, said in case.responses
    ]
    owners = [number for number, case in enumerate(tests) for _ in case.responses]
    found: dict[str, list[float | None]] = {}
    for name, followups in sets.items():
        with ResultJournal(work / f"{name}.jsonl") as journal:
            reward = FollowUpReward(lm, followups, prior="prompt_only")
            readings = [reading for _, reading in read_reactions(heard, reward, journal, len(heard))]
        for kind in ("actual_follow_up", "follow_up"):
            by_case: list[list[float]] = [[] for _ in tests]
            for owner, each in zip(owners, readings, strict=True):
                by_case[owner].extend([each.rewards[kind]] if kind in each.rewards else [])
            found[f"{kind}, {name}"] = [fmean(values) if values else None for values in by_case]
    return found


def by_rating_regression(train: Sequence[Case], tests: Sequence[Case]) -> list[float | None]:
    """The mean reward of every case by its users' words, fitted to the ratings of the training half."""
    known = [(said, case.rating, case.talk) for case in train for _, said in case.responses]
    asked = [(said, None, case.talk) for case in tests for _, said in case.responses]
    found = iter(rating_regression(*zip(*known, *asked, strict=True))[len(known) :].tolist())
    return [fmean([next(found) for _ in case.responses]) for case in tests]


def auc(scores: Floats, good: NDArray[np.bool_], weights: Floats) -> Floats:
    """The probability that a good row has the higher score, ties half, by resample."""
    wins = np.sign(scores[good][:, None] - scores[~good]) / 2 + 0.5
    up, down = weights[:, good], weights[:, ~good]
    total = up.sum(axis=1) * down.sum(axis=1)
    right = np.einsum("rp,pn,rn->r", up, wins, down, optimize=True)
    return np.where(total > 0, right / np.where(total > 0, total, 1), np.nan)


def measure(
    name: str, reward: str, tests: Sequence[Case], values: Sequence[float | None], note: str
) -> dict[str, object]:
    """How the scores of the cases that have one go with the ratings."""
    kept = [(value, case) for value, case in zip(values, tests, strict=True) if value is not None]
    scores, ratings = [value for value, _ in kept], [case.rating for _, case in kept]
    talks = np.array([case.talk for _, case in kept])
    good = np.array(ratings) >= SETS[name][2]
    rho = correlations(scores, ratings, talks.tolist()).spearman
    area = estimate(partial(auc, np.array(scores), good), talks)
    n = f"{len(kept)}, {good.mean():.0%} good"
    return dict(zip(COLUMNS, (name, reward, _spelled(rho), _spelled(area), n, note), strict=True))


def _spelled(of: Estimate) -> str:
    if of.value is None:
        return f"undefined: {of.reason}"
    return f"{of.value:.3f}" + ("" if of.low is None else f" ({of.low:.3f} to {of.high:.3f})")


def corrected(table: Sequence[Mapping[str, object]]) -> list[dict[str, object]]:
    """The table with a column of intervals that are wide enough for all forms on all logs together, by Holm's rule.

    An interval of 95 % is stretched on the scale of log-odds, each side by itself, as if estimates were normal there.
    """
    tested = [row for row in table if row["reward"] not in CONTROLS and "(" in str(row[AUC])]
    spread = [logit([float(text.strip("()")) for text in str(row[AUC]).split() if text != "to"]) for row in tested]
    normal = NormalDist()
    usual = normal.inv_cdf(1 - ERROR / 2)
    errors = [abs(value - (low if value > 0 else high)) / usual for value, low, high in spread]
    levels = holm([2 * normal.cdf(-abs(value[0]) / error) for value, error in zip(spread, errors, strict=True)])
    said = {}
    for row, (value, *sides), level in zip(tested, spread, levels, strict=True):
        factor = normal.inv_cdf(1 - level / 2) / usual
        low, high = (expit(value + factor * (side - value)) for side in sides)
        said[id(row)] = f"{low:.3f} to {high:.3f}"
    return [{**row, CORRECTED: said.get(id(row), "")} for row in table]


def draw(found: Sequence[Case], count: int) -> list[Case]:
    """The cases of random conversations outside the training half, until they have `count` responses."""
    talks = sorted({case.talk for case in found if not case.training})
    random.Random(0).shuffle(talks)
    drawn: list[Case] = []
    for talk in talks:
        if sum(len(case.responses) for case in drawn) < count:
            drawn.extend(case for case in found if case.talk == talk)
    return drawn


def smaller(followups: FollowUpSet, pairs: int) -> FollowUpSet:
    """The set with the first follow-ups of both sides of every category only."""
    cut = (
        replace(each, positive=each.positive[:pairs], negative=each.negative[:pairs]) for each in followups.categories
    )
    return replace(followups, categories=tuple(cut))


def rows(name: str, lm: LanguageModel, given: argparse.Namespace) -> Iterator[Mapping[str, object]]:
    """The table of one data set."""
    found = cases(name, given.data)
    train, tests = [case for case in found if case.training], draw(found, given.responses)
    if not tests:
        return
    ours, note = discovered(train)
    sets = {"default set": smaller(FollowUpSet.load(), given.pairs)} | ({"discovered set": ours} if ours else {})
    for reward, values in rewards(tests, lm, sets, given.work / name).items():
        yield measure(name, reward, tests, values, note if "discovered" in reward else "")
    yield measure(name, "rating regression, without a model", tests, by_rating_regression(train, tests), "")
    lengths = [fmean(len(turns[-1].content) for turns, _ in case.responses) for case in tests]
    yield measure(name, "length of the response", tests, lengths, "")
    rng = random.Random(0)
    yield measure(name, "chance", tests, [rng.random() for _ in tests], "")
    if not ours:
        yield dict.fromkeys(COLUMNS, "") | {"data": name, "reward": "discovered set", "note": note}


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--model", required=True)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--sets", nargs="+", choices=SETS, default=list(SETS))
    parser.add_argument("--responses", type=int, default=400, help="responses of every data set, about")
    parser.add_argument("--pairs", type=int, default=2, help="follow-ups a side and category of the default set")
    parser.add_argument("--name", default="the dialogue model", help="what the table calls the model")
    parser.add_argument("--work", type=Path, default=Path("runs/real-logs"))
    given = parser.parse_args()
    lm = load(given.model)
    table = [row for name in given.sets for row in rows(name, lm, given)]
    claim = f"Rewards from real logs against users' ratings: {given.name}, {given.pairs} default pairs a category"
    record("real_logs", claim, corrected(table))


if __name__ == "__main__":
    main()
