"""Results of a bench: the figures of each scorer on each benchmark, from its scores and the judgements of people."""

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import product
from typing import Any, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit

from uptake.datasets import Candidates, Comparison, Item, Rating
from uptake.datasets.items import Level
from uptake.errors import InputError
from uptake.evaluate.agreement import Agreement, agreement
from uptake.evaluate.annotator import AnnotatorStats
from uptake.evaluate.best_of_n import BestOfN, best_of_n
from uptake.evaluate.correlation import FEWEST_ROWS, Correlations, correlations
from uptake.evaluate.reliability import Reliability, reliability
from uptake.evaluate.systems import SystemRanking, system_ranking
from uptake.follow_up.calibration import temperature
from uptake.types import Dropped


class Unjudged(NamedTuple):
    """Question that has no answer: the reason, and what else is known of it."""

    reason: Dropped
    detail: str = ""


# Prediction of what people say: a score, or why there is none.
Prediction = float | Unjudged

# The note of a result none of whose rows could be judged: `invalid` says why.
UNJUDGED = "no row could be judged"


@dataclass(frozen=True, slots=True)
class RatingCorrelations:
    """Correlations with one quality, at one level, in one group (empty: in all); systems where there are three."""

    level: Level
    group: str
    quality: str
    correlations: Correlations
    systems: SystemRanking | None


@dataclass(frozen=True, slots=True)
class Result:
    """Result of one scorer on one benchmark.

    `figures` holds one record for comparisons and for candidates, one for every level, group and quality of ratings;
    where it is empty, `note` says why. `invalid` counts the rows that could not be judged, by reason: they are in no
    figure. `details` tells what else is known of the first row of a reason. `verdicts` has the statistics of an
    annotator's, over all rows.
    """

    figures: tuple[Agreement, ...] | tuple[RatingCorrelations, ...] | tuple[BestOfN, ...]
    invalid: Mapping[Dropped, int] = field(default_factory=dict)
    details: Mapping[Dropped, str] = field(default_factory=dict)
    note: str = ""
    verdicts: AnnotatorStats | None = None


@dataclass(frozen=True, slots=True)
class Confidence:
    """Confidence of a scorer: `sigma(margin / temperature)` against how often the margin is right.

    Each half of the prompts is read at the temperature of the other half; `temperature` is that of all. None where the
    scorer gives probabilities itself.
    """

    temperature: float | None
    reliability: Reliability


@dataclass(frozen=True, slots=True)
class ScorerSummary:
    """Scorer that took part; `note` says why there is no `confidence`."""

    kind: Literal["reward", "annotator"]
    fingerprint: str
    confidence: Confidence | None
    note: str = ""


@dataclass(frozen=True, slots=True)
class BenchmarkSummary:
    """Benchmark as it was used; `skipped` counts by reason the rows of its files that are no items."""

    about: str
    kind: Literal["comparisons", "ratings", "candidates"]
    items: int
    skipped: Mapping[str, int]


@dataclass(frozen=True, slots=True)
class BenchResults:
    """Results of a bench by benchmark, then by scorer; `absent` says why a benchmark is not there."""

    version: str
    seed: int
    limit: int | None
    scorers: Mapping[str, ScorerSummary]
    benchmarks: Mapping[str, BenchmarkSummary]
    by_benchmark: Mapping[str, Mapping[str, Result]]
    absent: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Timing:
    """Seconds of a bench: all of them, those inside each scorer, and the share of the latter.

    `answered` counts what each scorer was asked; what an earlier call had kept was not asked again.
    """

    seconds: float
    scoring: Mapping[str, float]
    answered: Mapping[str, int]
    share: float


def result(items: Sequence[Item], scores: Sequence[Prediction | Sequence[float]], seed: int = 0) -> Result:
    """Result of a scorer on items of one kind: the figures, or the reason why there are none.

    `scores` holds, for a comparison, the margin of the first response over the second; for a rating, a score; for
    candidates, the scores of all; for any of them, the reason why it could not be judged. Lengths are in characters. A
    part of a rating benchmark with fewer than three rows is left out.
    """
    unjudged = [score for score in scores if isinstance(score, Unjudged)]
    invalid = dict(Counter(reason for reason, _ in unjudged))
    details = {reason: detail for reason, detail in reversed(unjudged) if detail}
    scored = [(item, score) for item, score in zip(items, scores, strict=True) if not isinstance(score, Unjudged)]
    if not scored:
        return Result((), invalid, details, UNJUDGED)
    valid, numbers = (list(column) for column in zip(*scored, strict=True))
    kinds: dict[type[Any], Callable[..., Any]] = {Comparison: _compared, Rating: _rated, Candidates: _picked}
    try:
        return Result(kinds[type(valid[0])](valid, numbers, clusters(valid).tolist(), seed), invalid, details)
    except InputError as error:
        return Result((), invalid, details, str(error))


def confidence(items: Sequence[Comparison], margins: Sequence[Prediction], kind: str) -> Confidence:
    """Confidence of a scorer against how often it is right, over all pairs where people prefer a response.

    Margins of annotators are probabilities less one half. Raises `InputError` where there are no such pairs, and where
    no temperature fits, since the margins are no better than chance.
    """
    usable = [
        (item, margin if item.preference > 0.5 else -margin)
        for item, margin in zip(items, margins, strict=True)
        if not isinstance(margin, Unjudged) and item.preference != 0.5
    ]
    toward = np.array([margin for _, margin in usable])
    if kind == "annotator":
        return Confidence(None, reliability((toward + 0.5).clip(0, 1).tolist()))
    half = clusters([item for item, _ in usable]) % 2
    if len(set(half.tolist())) < 2:
        raise InputError("fewer than two prompts where people prefer a response", allowed="more, to fit a temperature")
    fitted = np.array([temperature(toward[half != side]) for side in (0, 1)])
    return Confidence(temperature(toward), reliability(expit(toward / fitted[half]).tolist()))


def clusters(items: Sequence[Item]) -> NDArray[np.intp]:
    """Cluster numbers of items; those with equal numbers are not independent of one another.

    They are of one prompt or of one line of a file, whichever makes fewer numbers: a line may hold a conversation that
    is rated at every turn, and a prompt may have a line for every response.
    """
    prompts = [item.dialogue[:-1] if isinstance(item, Rating) else item.prompt.turns for item in items]
    places = [item.where or number for number, item in enumerate(items)]
    return min(_numbered(prompts), _numbered(places), key=lambda numbers: len(set(numbers.tolist())))


def _numbered(labels: Sequence[Any]) -> NDArray[np.intp]:
    number = {label: each for each, label in enumerate(dict.fromkeys(labels))}
    return np.array([number[label] for label in labels], dtype=np.intp)


def _compared(
    items: Sequence[Comparison], margins: Sequence[float], together: Sequence[int], seed: int
) -> tuple[Agreement, ...]:
    firsts, seconds = zip(*(item.responses for item in items), strict=True)
    preferences, groups = [item.preference for item in items], [item.group for item in items]
    lengths = [*map(len, firsts)], [*map(len, seconds)]
    return (agreement(margins, preferences, *lengths, groups=groups, clusters=together),)


def _picked(
    items: Sequence[Candidates], scores: Sequence[Sequence[float]], together: Sequence[int], seed: int
) -> tuple[BestOfN, ...]:
    qualities, groups = [item.qualities for item in items], [item.group for item in items]
    return (best_of_n(scores, qualities, groups=groups, clusters=together, seed=seed),)


def _rated(
    items: Sequence[Rating], scores: Sequence[float], together: Sequence[int], seed: int
) -> tuple[RatingCorrelations, ...]:
    rows = list(zip(items, scores, together, strict=True))
    groups = _distinct(item.group for item in items)
    parts = product(
        _distinct(item.level for item in items),
        ("", *groups) if len(groups) > 1 else ("",),
        _distinct(quality for item in items for quality in item.ratings),
    )
    found = []
    for level, group, quality in parts:
        part = [
            row for row in rows if row[0].level == level and group in ("", row[0].group) and quality in row[0].ratings
        ]
        if len(part) >= FEWEST_ROWS:
            found.append(RatingCorrelations(level, group, quality, *_correlated(part, quality, seed)))
    if not found:
        raise InputError("fewer than three rows", allowed="more, for a correlation")
    return tuple(found)


def _correlated(
    rows: Sequence[tuple[Rating, float, int]], quality: str, seed: int
) -> tuple[Correlations, SystemRanking | None]:
    items, scores, together = zip(*rows, strict=True)
    ratings, systems = [item.ratings[quality] for item in items], [item.system for item in items]
    ranked = len(set(systems)) >= FEWEST_ROWS
    return (
        correlations(scores, ratings, together, seed=seed),
        system_ranking(scores, ratings, systems, together, seed=seed) if ranked else None,
    )


def _distinct(labels: Iterable[Any]) -> tuple[Any, ...]:
    return tuple(dict.fromkeys(labels))
