"""Compare rewards and annotators with human judgements, all under one protocol."""

import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from math import isfinite
from pathlib import Path
from time import perf_counter
from typing import Any, Generic, Literal, TypeVar

from pydantic import TypeAdapter

import uptake
from uptake.annotators.base import Annotator
from uptake.annotators.from_reward import refuse_comparing
from uptake.data.cache import Cache
from uptake.data.lock import locked
from uptake.data.resumable import digest, resumable_map
from uptake.data.write import disk_errors, write_json
from uptake.datasets import Absent, Benchmark, Candidates, Comparison, Item, Rating
from uptake.errors import InputError
from uptake.evaluate.annotator import AnnotatorStats, annotator_stats
from uptake.evaluate.bench_results import (
    BenchmarkSummary,
    BenchResults,
    Prediction,
    Result,
    ScorerSummary,
    Timing,
    Unjudged,
    confidence,
    result,
)
from uptake.report.bench import write_bench_report
from uptake.rewards.base import Reward
from uptake.support.keys import prompt_key, words
from uptake.support.progress import progress_bar
from uptake.support.stop import going_on
from uptake.types import Dialogue, Dropped, Judgement, Prompt, Turn, Verdict

T = TypeVar("T")

# A dialogue that ends with a response, for a reward; a prompt with two responses, for an annotator.
Query = tuple[Dialogue] | tuple[Dialogue, tuple[str, str]]

# Questions between two writes to the cache: what a kill can cost, and how often one sees that the work goes on. A
# response and its follow-ups take a real model seconds, and more of them at once make it no faster.
CHUNK = 16

KINDS: Mapping[type[Item], Literal["comparisons", "ratings", "candidates"]] = {
    Comparison: "comparisons",
    Rating: "ratings",
    Candidates: "candidates",
}


@dataclass(frozen=True)
class _Judged:
    """What a reward or an annotator said of every item of the benchmarks it takes part in, and what that took."""

    kind: Literal["reward", "annotator"]
    fingerprint: str
    answers: Mapping[str, Sequence[Prediction | Sequence[float]]]
    verdicts: Mapping[str, AnnotatorStats]
    questions: int
    seconds: float


def bench(
    scorers: Mapping[str, Reward | Annotator],
    benchmarks: Sequence[Benchmark | Absent],
    folder: str | Path,
    *,
    cache: str | Path | None = None,
    limit: int | None = None,
    seed: int = 0,
) -> tuple[BenchResults, Timing]:
    """Let every scorer judge every benchmark that is at hand, and write the figures to a folder.

    results.json and results.md are functions of the input; page.html and timing.json also say how long it took. A
    dialogue is scored once by each scorer, in whatever benchmarks it stands, and scores are kept in `cache`
    (default: scores.sqlite in the folder) as they come: a call that was killed goes on where it stopped. `limit` draws
    so many items of each benchmark by `seed`. Annotators take part in comparisons only. Raises InputError where there
    is no scorer or no benchmark with items, for a reward that compares responses, and for a limit below 1.
    """
    start, folder = perf_counter(), Path(folder)
    check_limit(limit)
    held = [_drawn(each, limit, seed) for each in benchmarks if isinstance(each, Benchmark) and each.items]
    absent = {each.name: each.reason if isinstance(each, Absent) else "it has no items" for each in benchmarks}
    absent = {name: reason for name, reason in absent.items() if name not in {each.name for each in held}}
    if not scorers or not held:
        problem = "; ".join(f"{name}: {reason}" for name, reason in absent.items())
        raise InputError(f"nothing to compare: {problem}", allowed="one scorer and one benchmark, or more")
    for scorer in scorers.values():
        if scorer.kind == "reward":
            refuse_comparing(scorer)
    with disk_errors(folder):
        folder.mkdir(parents=True, exist_ok=True)
    with (
        locked(folder, inside=True),
        going_on(lambda: f"{folder}: the same command goes on from the scores that are kept"),
    ):
        store = Cache(folder / "scores.sqlite" if cache is None else cache)
        judged = {name: _judged(name, scorer, held, store) for name, scorer in scorers.items()}
        results = BenchResults(
            version=uptake.__version__,
            seed=seed,
            limit=limit,
            scorers={name: _scorer(each, held) for name, each in judged.items()},
            benchmarks={each.name: _benchmark(each) for each in held},
            by_benchmark=_results(judged, held, seed),
            absent=absent,
        )
        timing = _timing(judged, perf_counter() - start)
        _write(results, timing, folder)
    return results, timing


def check_limit(limit: int | None) -> None:
    """Raise InputError for a limit below 1."""
    if limit is not None and limit < 1:
        raise InputError(f"{limit}", field="limit", allowed="a whole number from 1")


def _drawn(benchmark: Benchmark, limit: int | None, seed: int) -> Benchmark:
    """A benchmark with at most `limit` of its items, in their order."""
    if limit is None or len(benchmark.items) <= limit:
        return benchmark
    places = sorted(random.Random(seed).sample(range(len(benchmark.items)), limit))
    return replace(benchmark, items=[benchmark.items[index] for index in places])


def _judged(name: str, scorer: Reward | Annotator, held: Sequence[Benchmark], cache: Cache) -> _Judged:
    is_annotator = scorer.kind == "annotator"
    taken = [each for each in held if not is_annotator or isinstance(each.items[0], Comparison)]
    to_questions = _pair if is_annotator else _dialogues
    questions = {each.name: [to_questions(item) for item in each.items] for each in taken}
    distinct = dict.fromkeys(question for rows in questions.values() for row in rows for question in row)
    if scorer.kind == "annotator":
        verdicts, count, seconds = _ask(name, scorer.fingerprint, list(distinct), _verdicts(scorer), cache)
        known = {question: _number(verdict, verdict.p - 0.5) for question, verdict in verdicts.items()}
        stats = {
            each.name: _stats(each, [verdicts[question] for (question,) in questions[each.name]]) for each in taken
        }
    else:
        known, count, seconds = _ask(name, scorer.fingerprint, list(distinct), _scores(scorer), cache)
        stats = {}
    answers = {
        each.name: [
            _answer(item, [known[question] for question in row])
            for item, row in zip(each.items, questions[each.name], strict=True)
        ]
        for each in taken
    }
    return _Judged(scorer.kind, scorer.fingerprint, answers, stats, count, seconds)


@dataclass(frozen=True)
class _Asking(Generic[T]):
    """How questions are put and answers kept; one that is not `final` is asked again by the next call."""

    kind: str
    ask: Callable[[Sequence[Query]], Sequence[T]]
    adapter: TypeAdapter[T]
    final: Callable[[T], bool]


def _scores(reward: Reward) -> _Asking[Prediction]:
    """Scores, or why there is none."""

    def ask(questions: Sequence[Query]) -> list[Prediction]:
        return [_number(each, each.score) for each in reward.rate([question[0] for question in questions])]

    return _Asking("bench", ask, TypeAdapter(Prediction), lambda answer: not isinstance(answer, Unjudged))


def _verdicts(annotator: Annotator) -> _Asking[Verdict]:
    def ask(questions: Sequence[Query]) -> Sequence[Verdict]:
        turns, pairs = zip(*questions, strict=True)
        return annotator.compare([Prompt(each, prompt_key(each)) for each in turns], pairs)

    return _Asking("bench verdict", ask, TypeAdapter(Verdict), lambda verdict: verdict.valid)


def _ask(
    name: str, fingerprint: str, questions: Sequence[Query], asking: _Asking[T], cache: Cache
) -> tuple[dict[Query, T], int, float]:
    """The answer to every question, from the cache as far as it is there; how many were asked, in how many seconds."""
    count, seconds = 0, 0.0

    def timed(new: Sequence[Query]) -> Sequence[T]:
        nonlocal count, seconds
        began = perf_counter()
        answers = asking.ask(new)
        count, seconds = count + len(new), seconds + perf_counter() - began
        return answers

    keys = (digest(asking.kind, fingerprint, _spelled(question)) for question in questions)
    settings: dict[str, Any] = {"chunk": CHUNK, "label": name, "final": asking.final}
    answers = resumable_map(questions, keys, timed, cache, asking.adapter, **settings)
    return dict(zip(questions, answers, strict=True)), count, seconds


def _dialogues(item: Item) -> list[Query]:
    if isinstance(item, Rating):
        return [(item.dialogue,)]
    return [((*item.prompt.turns, Turn("assistant", text)),) for text in item.responses]


def _pair(item: Item) -> list[Query]:
    return [(item.prompt.turns, item.responses)] if isinstance(item, Comparison) else []


def _spelled(question: Query) -> list[Any]:
    turns, *pair = question
    return [list(map(words, turns)), *pair]


def _stats(benchmark: Benchmark, verdicts: Sequence[Verdict]) -> AnnotatorStats:
    """Statistics of the verdicts on a benchmark's pairs, lengths in characters."""
    pairs = [item.responses for item in benchmark.items if isinstance(item, Comparison)]
    return annotator_stats(verdicts, *([len(pair[side]) for pair in pairs] for side in (0, 1)))


def _number(verdict: Judgement | Verdict, number: float) -> Prediction:
    if verdict.reason is not None:
        return Unjudged(verdict.reason, verdict.detail)
    return number if isfinite(number) else Unjudged(Dropped.NOT_FINITE)


def _answer(item: Item, numbers: Sequence[Prediction]) -> Prediction | list[float]:
    """One item's answer from those to its questions, or the first reason why one is missing."""
    given = [number for number in numbers if not isinstance(number, Unjudged)]
    if len(given) < len(numbers):
        return next(number for number in numbers if isinstance(number, Unjudged))
    if isinstance(item, Candidates):
        return given
    return given[0] - given[1] if len(given) == 2 else given[0]


def _results(judged: Mapping[str, _Judged], held: Sequence[Benchmark], seed: int) -> dict[str, dict[str, Result]]:
    with progress_bar("figures", len(held)) as bar:
        results: dict[str, dict[str, Result]] = {}
        for each in held:
            given = {name: every.answers[each.name] for name, every in judged.items() if each.name in every.answers}
            results[each.name] = {
                name: replace(result(each.items, answers, seed), verdicts=judged[name].verdicts.get(each.name))
                for name, answers in given.items()
            }
            bar.advance()
    return results


def _scorer(judged: _Judged, held: Sequence[Benchmark]) -> ScorerSummary:
    taken = [each for each in held if each.name in judged.answers and isinstance(each.items[0], Comparison)]
    pairs: list[Any] = [item for each in taken for item in each.items]
    margins: list[Any] = [answer for each in taken for answer in judged.answers[each.name]]
    try:
        found = confidence(pairs, margins, judged.kind)
    except InputError as error:
        return ScorerSummary(judged.kind, judged.fingerprint, None, str(error))
    return ScorerSummary(judged.kind, judged.fingerprint, found)


def _benchmark(benchmark: Benchmark) -> BenchmarkSummary:
    kind = KINDS[type(benchmark.items[0])]
    return BenchmarkSummary(benchmark.about, kind, len(benchmark.items), benchmark.skipped)


def _timing(judged: Mapping[str, _Judged], seconds: float) -> Timing:
    scoring = {name: each.seconds for name, each in judged.items()}
    return Timing(
        seconds, scoring, {name: each.questions for name, each in judged.items()}, sum(scoring.values()) / seconds
    )


def _write(results: BenchResults, timing: Timing, folder: Path) -> None:
    """Write the figures last: they are what a program looks for."""
    write_json(folder / "timing.json", asdict(timing))
    write_bench_report(results, timing, folder)
    write_json(folder / "results.json", asdict(results))
