"""What contestants make of benchmarks: answers beside human judgements become figures, one cell for each of both."""

import re
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import product
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit

from uptake.datasets import Candidates, Comparison, Item, Rating
from uptake.datasets.items import Level
from uptake.errors import InputError
from uptake.evaluate.agreement import Agreement, agreement
from uptake.evaluate.best_of_n import BestOfN, best_of_n
from uptake.evaluate.correlation import FEWEST_ROWS, Correlations, correlations
from uptake.evaluate.reliability import Reliability, reliability
from uptake.evaluate.systems import SystemRanking, system_ranking
from uptake.follow_up.calibration import temperature

# A number, or why there is none.
Prediction = float | str

# The note of a cell none of whose rows could be judged: `invalid` says why.
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
class Cell:
    """What one contestant made of one benchmark.

    `figures` holds one record for comparisons and for candidates, one for every level, group and quality of ratings;
    where it is empty, `note` says why. `invalid` counts the rows that could not be judged, by reason: they are in no
    figure.
    """

    figures: tuple[Agreement, ...] | tuple[RatingCorrelations, ...] | tuple[BestOfN, ...]
    invalid: Mapping[str, int] = field(default_factory=dict)
    note: str = ""


@dataclass(frozen=True, slots=True)
class Confidence:
    """Whether margins mean probabilities: `sigma(margin / temperature)` against how often the margin is right.

    Each half of the prompts is read at the temperature of the other half; `temperature` is that of all. None where the
    contestant gives probabilities itself.
    """

    temperature: float | None
    reliability: Reliability


@dataclass(frozen=True, slots=True)
class Contestant:
    """Who took part; `note` says why there is no `confidence`."""

    kind: Literal["reward", "annotator"]
    fingerprint: str
    confidence: Confidence | None
    note: str = ""


@dataclass(frozen=True, slots=True)
class Subject:
    """A benchmark as it was used; `skipped` counts by reason the rows of its files that are no items."""

    about: str
    kind: Literal["comparisons", "ratings", "candidates"]
    items: int
    skipped: Mapping[str, int]


@dataclass(frozen=True, slots=True)
class Scoreboard:
    """All figures of a bench; `cells` by benchmark, then by contestant; `absent` says why a benchmark is not there."""

    version: str
    seed: int
    limit: int | None
    contestants: Mapping[str, Contestant]
    benchmarks: Mapping[str, Subject]
    cells: Mapping[str, Mapping[str, Cell]]
    absent: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Timing:
    """Where the seconds went: all of them, those inside each contestant, and the share of the latter.

    `answered` counts what each contestant was asked; what an earlier call had kept was not asked again.
    """

    seconds: float
    scoring: Mapping[str, float]
    answered: Mapping[str, int]
    share: float


def cell(items: Sequence[Item], answers: Sequence[Prediction | Sequence[float]], seed: int = 0) -> Cell:
    """The figures of items of one kind with one answer each, or the reason why they have none.

    Comparisons are answered by the margin of the first response over the second, ratings by a score, candidates by the
    scores of all; any of them by the reason why it could not be judged. Lengths are in characters. A part of a rating
    benchmark with fewer than three rows is left out.
    """
    invalid = dict(Counter(_alike(answer) for answer in answers if isinstance(answer, str)))
    kept = [(item, answer) for item, answer in zip(items, answers, strict=True) if not isinstance(answer, str)]
    if not kept:
        return Cell((), invalid, UNJUDGED)
    valid, numbers = (list(column) for column in zip(*kept, strict=True))
    kinds: dict[type[Any], Callable[..., Any]] = {Comparison: _compared, Rating: _rated, Candidates: _picked}
    try:
        return Cell(kinds[type(valid[0])](valid, numbers, clusters(valid).tolist(), seed), invalid)
    except InputError as error:
        return Cell((), invalid, str(error))


def confidence(items: Sequence[Comparison], margins: Sequence[Prediction], kind: str) -> Confidence:
    """How sure a contestant is against how often it is right, over all pairs where people prefer a response.

    Margins of annotators are probabilities less one half. Raises `InputError` where there are no such pairs, and where
    no temperature fits, since the margins are no better than chance.
    """
    kept = [
        (item, margin if item.preference > 0.5 else -margin)
        for item, margin in zip(items, margins, strict=True)
        if not isinstance(margin, str) and item.preference != 0.5
    ]
    toward = np.array([margin for _, margin in kept])
    if kind == "annotator":
        return Confidence(None, reliability((toward + 0.5).clip(0, 1).tolist()))
    half = clusters([item for item, _ in kept]) % 2
    if len(set(half.tolist())) < 2:
        raise InputError("fewer than two prompts where people prefer a response", allowed="more, to fit a temperature")
    fitted = np.array([temperature(toward[half != side]) for side in (0, 1)])
    return Confidence(temperature(toward), reliability(expit(toward / fitted[half]).tolist()))


def clusters(items: Sequence[Item]) -> NDArray[np.intp]:
    """A number for every item; those with equal numbers are not independent of one another.

    They are of one prompt or of one line of a file, whichever makes fewer numbers: a line may hold a conversation that
    is rated at every turn, and a prompt may have a line for every response.
    """
    prompts = [item.dialogue[:-1] if isinstance(item, Rating) else item.prompt.turns for item in items]
    places = [item.where or number for number, item in enumerate(items)]
    return min(_numbered(prompts), _numbered(places), key=lambda numbers: len(set(numbers.tolist())))


def _numbered(labels: Sequence[Any]) -> NDArray[np.intp]:
    number = {label: each for each, label in enumerate(dict.fromkeys(labels))}
    return np.array([number[label] for label in labels], dtype=np.intp)


def _alike(reason: str) -> str:
    """A reason without what differs from row to row: numbers, quoted text, and what would have been right."""
    plain = re.sub(r" \(allowed: .*", "", reason, flags=re.DOTALL)
    return re.sub(r"\d+", "N", re.sub(r"(['\"]).*\1", "…", plain, flags=re.DOTALL))


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
