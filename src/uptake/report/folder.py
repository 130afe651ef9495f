"""Run folder read into records: every file is optional, and a broken one is an error that names it."""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

from pydantic import AfterValidator, Field, TypeAdapter, ValidationError

from uptake.data import TokenView
from uptake.errors import InputError
from uptake.evaluate import Accuracy, Lengths, WinRate
from uptake.support.texts import json_of
from uptake.types import Turn

T = TypeVar("T")


def _has_step(row: Mapping[str, float | None]) -> Mapping[str, float | None]:
    if row.get("step") is None:
        raise ValueError("no step")
    return row


# A longer time is of no run; it is damage.
Seconds = Annotated[float, Field(ge=0, le=1e9, allow_inf_nan=False)]
MetricRow = Annotated[Mapping[str, float | None], AfterValidator(_has_step)]


@dataclass(frozen=True, slots=True)
class RunFacts:
    """`run.json`: method, models, machine and versions."""

    title: str = ""
    method: str = ""
    uptake_version: str = ""
    torch_version: str = ""
    transformers_version: str = ""
    seed: int | None = None
    models: Mapping[str, str] = field(default_factory=dict)
    device: str = ""
    threads: int | None = None


@dataclass(frozen=True, slots=True)
class Phase:
    """One line of `timing.jsonl`: a phase that ran once, for `seconds`."""

    phase: str
    seconds: Seconds
    tokens: int | None = None
    count: int | None = None


@dataclass(frozen=True, slots=True)
class Histogram:
    """Histogram as it was counted: `len(edges) == len(counts) + 1`."""

    edges: tuple[float, ...]
    counts: tuple[int, ...]

    def __post_init__(self) -> None:
        if len(self.edges) != len(self.counts) + 1:
            raise ValueError(f"{len(self.edges)} edges around {len(self.counts)} counts")
        if any(left >= right for left, right in pairwise(self.edges)):
            raise ValueError("edges do not rise")


@dataclass(frozen=True, slots=True)
class RoundSummary:
    """Figures of a round, `rounds/<stage>-<round>/summary.json`: pairs made, responses dropped, lengths in tokens.

    `rows` are those that examples were read from, None where responses were sampled. Where responses were learned
    behind their rewards, `condition` has the lowest, the median, the highest, and the one that is asked for.
    """

    rows: int | None = None
    prompts: int | None = None
    samples: int | None = None
    pairs: int | None = None
    dropped: Mapping[str, int] = field(default_factory=dict)
    margin_histogram: Histogram | None = None
    mean_length_chosen: float | None = None
    mean_length_rejected: float | None = None
    longer_wins: float | None = None
    orders_agree: float | None = None
    category_agreement: Mapping[str, float | None] = field(default_factory=dict)
    condition: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class MeanChange:
    """Mean before and after training."""

    before: float
    after: float


@dataclass(frozen=True, slots=True)
class CategoryScores:
    """Mean follow-up score per category, before and after."""

    before: Mapping[str, float]
    after: Mapping[str, float]

    def __post_init__(self) -> None:
        if self.before.keys() != self.after.keys():
            raise ValueError("other categories before than after")


@dataclass(frozen=True, slots=True)
class CurvePoint:
    """Figures of the held-out prompts at one optimizer step; `low` and `high` belong to the win rate.

    A line of `curve.jsonl`, or an item of the evaluation's own `curve`, which then takes its place.
    """

    step: int
    quality: float | None = None
    follow_up_reward: float | None = None
    win_rate: float | None = None
    low: float | None = None
    high: float | None = None


@dataclass(frozen=True, slots=True)
class AlphaPoint:
    """One line of `alphas.jsonl`: a model beyond an aligned one, compared with it; `tokens` is the mean of its answers.

    `length_controlled` is the win rate at equal lengths, where one could be had.
    """

    alpha: float
    tokens: float
    win_rate: float
    low: float
    high: float
    length_controlled: float | None = None
    follow_up_reward: float | None = None


@dataclass(frozen=True, slots=True)
class RewardModel:
    """Accuracy of the reward: how often it prefers the better of two responses.

    `direct` is that of the likelihood of the response itself, under the same model.
    """

    accuracy: Accuracy | None = None
    direct: Accuracy | None = None
    by_category: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Evaluation:
    """`evaluation.json`: held-out prompts, before against after."""

    judge: str = ""
    prompts: int | None = None
    win_rate: WinRate | None = None
    quality: MeanChange | None = None
    lengths: Lengths | None = None
    follow_up_reward: MeanChange | None = None
    categories: CategoryScores | None = None
    curve: tuple[CurvePoint, ...] = ()
    reward_model: RewardModel | None = None


@dataclass(frozen=True, slots=True)
class SampledAnswer:
    """Response to a held-out prompt with the follow-up score it got, in total and per category."""

    response: str
    reward: float | None = None
    parts: Mapping[str, float] = field(default_factory=dict)
    quality: float | None = None


@dataclass(frozen=True, slots=True)
class Sample:
    """One line of `samples.jsonl`: a prompt with its answer before and after."""

    prompt: tuple[Turn, ...]
    before: SampledAnswer | None = None
    after: SampledAnswer | None = None
    winner: Literal["before", "after", "tie"] | None = None


@dataclass(frozen=True, slots=True)
class RunFolder:
    """Contents of a run folder; what is not there is None or empty."""

    path: Path
    recipe: str | None = None
    facts: RunFacts | None = None
    metrics: tuple[MetricRow, ...] = ()
    timing: tuple[Phase, ...] = ()
    rounds: Mapping[str, RoundSummary] = field(default_factory=dict)
    evaluation: Evaluation | None = None
    curve: tuple[CurvePoint, ...] = ()
    samples: tuple[Sample, ...] = ()
    alphas: tuple[AlphaPoint, ...] = ()
    tokens: tuple[TokenView, ...] = ()

    @property
    def title(self) -> str:
        """Title of the run, or else the name of its folder."""
        return (self.facts.title if self.facts else "") or self.path.resolve().name


FILES = (
    "recipe.yaml, run.json, metrics.jsonl, timing.jsonl, curve.jsonl, rounds/*/summary.json, evaluation.json, "
    "samples.jsonl, alphas.jsonl, tokens.jsonl"
)


def read_run(path: Path) -> RunFolder:
    """Run folder at a path.

    Raises `InputError` for a folder that holds none of the files a run writes, and for a broken file, naming the file,
    the line and the field.
    """
    recipe = path / "recipe.yaml"
    run = RunFolder(
        path=path,
        recipe=_text(recipe) if recipe.is_file() else None,
        facts=_record(RunFacts, path / "run.json"),
        metrics=_lines(MetricRow, path / "metrics.jsonl"),
        timing=_lines(Phase, path / "timing.jsonl"),
        rounds=_rounds(path),
        evaluation=_record(Evaluation, path / "evaluation.json"),
        curve=_lines(CurvePoint, path / "curve.jsonl"),
        samples=_lines(Sample, path / "samples.jsonl"),
        alphas=_lines(AlphaPoint, path / "alphas.jsonl"),
        tokens=_lines(TokenView, path / "tokens.jsonl"),
    )
    if run == RunFolder(path):
        raise InputError("no run here", path=path, allowed=f"a folder with at least one of {FILES}")
    return run


def _rounds(path: Path) -> dict[str, RoundSummary]:
    files = sorted(path.glob("rounds/*/summary.json"), key=lambda file: _natural(file.parent.name))
    adapter = TypeAdapter(RoundSummary)  # it takes longer to make than a summary to read
    return {file.parent.name: _parse(adapter, _text(file), file) for file in files if file.is_file()}


def _natural(name: str) -> list[int]:
    return [int(number) for number in re.findall(r"\d+", name)]


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise InputError(f"byte {error.start} is not UTF-8", path=path, allowed="UTF-8 text") from error


def _record(kind: type[T], path: Path) -> T | None:
    return _parse(TypeAdapter(kind), _text(path), path) if path.is_file() else None


def _lines(kind: Any, path: Path) -> tuple[Any, ...]:
    adapter = TypeAdapter(kind)
    lines = _text(path).split("\n") if path.is_file() else []
    return tuple(_parse(adapter, line, path, number) for number, line in enumerate(lines, 1) if line.strip())


def _parse(adapter: TypeAdapter[T], text: str, path: Path, line: int | None = None) -> T:
    try:
        return adapter.validate_python(json_of(text))
    except json.JSONDecodeError as error:
        raise InputError(f"not JSON: {error.msg}", path=path, line=line or error.lineno) from error
    except ValidationError as error:
        first = error.errors()[0]
        field = ".".join(str(part) for part in first["loc"])
        problem = f"{first['msg']}, given {str(first['input'])[:100]!r}"
        raise InputError(problem, path=path, line=line, field=field or None) from error
    except ValueError as error:
        raise InputError(f"not JSON: {error}", path=path, line=line) from error
