"""A run folder laid out for the template: sentences, charts and scales beside the records they came from."""

from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import groupby

from uptake.data import TokenView
from uptake.evaluate import Share
from uptake.report.charts import (
    Axis,
    HistogramChart,
    LineChart,
    Series,
    histogram_chart,
    line_chart,
)
from uptake.report.folder import (
    Categories,
    CurvePoint,
    Evaluation,
    Facts,
    MetricRow,
    Mined,
    Phase,
    RewardModel,
    RunFolder,
    Sample,
)
from uptake.report.headline import Figure, figures, headline
from uptake.report.heat import HeatMap, heat_map
from uptake.report.text import words

OPEN_SAMPLES, MOST_SAMPLES = 5, 40
OPEN_VIEWS, MOST_VIEWS = 3, 12
METRICS = {
    "loss": "Loss",
    "accuracy": "Accuracy",
    "margin": "Margin",
    "kl": "KL to the reference",
    "grad_norm": "Gradient norm",
    "advantage_std": "Spread of advantages",
    "policy_loss": "Policy loss",
    "value_loss": "Value loss",
    "explained_variance": "Variance that the critic explains",
    "clip_fraction": "Share of clipped tokens",
    "approx_kl": "KL to the sampling policy",
    "skipped": "Steps skipped at the target",
}
# What a round is known by; a column that no round fills is left out.
COLUMNS = {
    "prompts": "Prompts",
    "samples": "Responses",
    "pairs": "Pairs",
    "dropped": "Dropped",
    "mean_length_chosen": "Tokens, chosen",
    "mean_length_rejected": "rejected",
    "longer_wins": "Longer wins",
}
SHARES = ("accuracy", "clip_fraction")
# Written only where it is not 0.
RARE = ("skipped",)
NOT_DRAWN_ALONE = {"step", "stage", "round", "tokens", "lr", "chosen_reward", "rejected_reward"}


@dataclass(frozen=True, slots=True)
class Cost:
    """A phase summed over all its runs; `share` is its part of all seconds."""

    phase: str
    seconds: float
    share: float
    tokens: int


@dataclass(frozen=True, slots=True)
class Rate:
    """A named share of `n` rows with its interval, as far as they are known."""

    name: str
    rate: float
    low: float | None = None
    high: float | None = None
    n: int | None = None


@dataclass(frozen=True, slots=True)
class RateGroup:
    """Rates that are read against each other."""

    title: str
    rates: tuple[Rate, ...]


@dataclass(frozen=True, slots=True)
class Page:
    """What the template prints, top to bottom; `reaction_axis` is the scale of all categories of all samples."""

    run: RunFolder
    title: str
    headline: str
    figures: tuple[Figure, ...]
    curves: tuple[LineChart, ...]
    category_axis: Axis | None
    reaction_axis: Axis | None
    open_samples: tuple[Sample, ...]
    folded_samples: tuple[Sample, ...]
    scorer: tuple[RateGroup, ...]
    pairs: bool
    columns: tuple[tuple[str, str], ...]
    dropped: tuple[tuple[str, int], ...]
    tokens: HeatMap | None
    open_views: int
    agreement: RateGroup | None
    margins: tuple[HistogramChart, ...]
    training: tuple[LineChart, ...]
    costs: tuple[Cost, ...]
    setting: tuple[tuple[str, str], ...]
    absent: tuple[str, ...]


def build_page(run: RunFolder) -> Page:
    """Lay out a run for the template."""
    evaluation = run.evaluation or Evaluation()
    categories, scorer = evaluation.categories or Categories({}, {}), evaluation.reward_model
    return Page(
        run=run,
        title=(run.facts.title if run.facts else "") or run.path.resolve().name,
        headline=headline(run),
        figures=figures(evaluation),
        curves=_drawn(_curves(evaluation.curve or run.curve)),
        category_axis=_axis_through_zero((*categories.before.values(), *categories.after.values())),
        reaction_axis=_axis_through_zero(_reactions(run.samples[:MOST_SAMPLES])),
        open_samples=run.samples[:OPEN_SAMPLES],
        folded_samples=run.samples[OPEN_SAMPLES:MOST_SAMPLES],
        scorer=tuple(_scorer(scorer)) if scorer else (),
        pairs=any(mined.pairs is not None for mined in run.rounds.values()),
        columns=tuple(_columns(run.rounds.values())),
        dropped=_dropped(run.rounds.values()),
        tokens=_tokens(run.tokens),
        open_views=OPEN_VIEWS,
        agreement=_agreement(run.rounds),
        margins=_margins(run.rounds),
        training=_drawn(_training(run.metrics)),
        costs=_costs(run.timing),
        setting=tuple(_setting(run.facts)) if run.facts else (),
        absent=tuple(_absent(run)),
    )


def _drawn(charts: Iterable[LineChart | None]) -> tuple[LineChart, ...]:
    return tuple(chart for chart in charts if chart is not None)


def _axis_through_zero(values: Iterable[float]) -> Axis | None:
    known = tuple(values)
    low, high = min((0.0, *known)), max((0.0, *known))
    return Axis(low, high if high > low else low + 1) if known else None


def _reactions(samples: Iterable[Sample]) -> Iterator[float]:
    for sample in samples:
        for answer in (sample.before, sample.after):
            yield from answer.parts.values() if answer else ()


def _curves(curve: Sequence[CurvePoint]) -> Iterator[LineChart | None]:
    steps = [point.step for point in curve]
    interval = ([point.low for point in curve], [point.high for point in curve])
    wins = Series("win rate", steps, [point.win_rate for point in curve], band=interval)
    yield line_chart("Win rate", [wins], reference=0.5, shares=True)
    yield line_chart("Quality", [Series("quality", steps, [point.quality for point in curve])])
    rewards = [point.follow_up_reward for point in curve]
    yield line_chart("Follow-up score", [Series("follow-up score", steps, rewards)])


def _training(rows: Sequence[MetricRow]) -> Iterator[LineChart | None]:
    marks = _round_starts(rows)
    keys = dict.fromkeys([*METRICS, *(key for row in rows for key in row if key not in NOT_DRAWN_ALONE)])
    for key in keys:
        yield line_chart(METRICS.get(key, words(key)), [_metric(rows, key)], marks=marks, shares=key in SHARES)
        if key == "margin":
            rewards = [_metric(rows, "chosen_reward"), _metric(rows, "rejected_reward", "before")]
            yield line_chart("Reward", rewards, marks=marks)


def _metric(rows: Sequence[MetricRow], key: str, tone: str = "after") -> Series:
    missing = 0.0 if key in RARE and any(key in row for row in rows) else None
    return Series(words(key), [row["step"] for row in rows], [row.get(key, missing) for row in rows], tone)


def _round_starts(rows: Sequence[MetricRow]) -> list[float]:
    """Steps at which a new stage or round starts, without the first."""
    groups = groupby(rows, key=lambda row: (row.get("stage"), row.get("round")))
    return [next(group)["step"] or 0 for _, group in groups][1:]


def _tokens(views: Sequence[TokenView]) -> HeatMap | None:
    """The newest responses first, each headed by the step that it is from."""
    newest = sorted(views, key=lambda view: -(view.step or 0))[:MOST_VIEWS]
    headed = [replace(view, title=", ".join(filter(None, (_step(view), view.title)))) for view in newest]
    return heat_map(headed) if headed else None


def _step(view: TokenView) -> str:
    return "" if view.step is None else f"after {view.step:,} steps"


def _scorer(scorer: RewardModel) -> Iterator[RateGroup]:
    accuracy = scorer.accuracy
    if accuracy:
        matched = [("lengths matched", accuracy.length_matched)] if accuracy.length_matched else []
        shares = [("follow-up score", accuracy.plain), *matched, ("longer wins", accuracy.longer_wins)]
        yield RateGroup("All pairs", tuple(_rate(name, share) for name, share in shares))
        count = len(accuracy.by_margin)
        names = ["smallest", *([""] * (count - 2)), "largest"] if count > 1 else ["all"]
        rates = (_rate(name, share) for name, share in zip(names, accuracy.by_margin, strict=True))
        yield RateGroup("By margin, in fifths", tuple(rates))
    if scorer.by_category:
        yield RateGroup("By category", tuple(Rate(words(name), rate) for name, rate in scorer.by_category.items()))


def _rate(name: str, share: Share) -> Rate:
    return Rate(name, share.rate, share.low, share.high, share.n)


def _columns(rounds: Collection[Mined]) -> Iterator[tuple[str, str]]:
    """Fields and names of the columns; none for rounds without pairs that have dropped nothing."""
    if any(mined.pairs is not None or any(mined.dropped.values()) for mined in rounds):
        for key, name in COLUMNS.items():
            if any(getattr(mined, key) is not None for mined in rounds):
                yield key, name


def _dropped(rounds: Iterable[Mined]) -> tuple[tuple[str, int], ...]:
    total: Counter[str] = sum((Counter(mined.dropped) for mined in rounds), Counter())
    return tuple(total.most_common())


def _agreement(rounds: Mapping[str, Mined]) -> RateGroup | None:
    """How often each category prefers the response that the total prefers, in the last round."""
    name = max(rounds, key=list(rounds).index, default="")
    agreement = rounds[name].category_agreement if name else {}
    rates = tuple(Rate(words(key), rate) for key, rate in agreement.items() if rate is not None)
    return RateGroup(f"Agrees with the total, round {name}", rates) if rates else None


def _margins(rounds: Mapping[str, Mined]) -> tuple[HistogramChart, ...]:
    drawn = [(name, mined.margin_histogram) for name, mined in rounds.items() if mined.margin_histogram]
    ends = drawn if len(drawn) <= 2 else [drawn[0], drawn[-1]]
    return tuple(
        histogram_chart("Margin" if len(drawn) == 1 else f"Margin, round {name}", histogram) for name, histogram in ends
    )


def _costs(timing: Sequence[Phase]) -> tuple[Cost, ...]:
    # Who waits for a judge does no work of its own.
    work = [phase for phase in timing if phase.phase != "wait"]
    total = sum(phase.seconds for phase in work) or 1.0
    names = dict.fromkeys(phase.phase for phase in work)
    runs = {name: [phase for phase in work if phase.phase == name] for name in names}
    return tuple(_cost(name, phases, total) for name, phases in runs.items())


def _cost(name: str, phases: Sequence[Phase], total: float) -> Cost:
    seconds = sum(phase.seconds for phase in phases)
    return Cost(name, seconds, seconds / total, sum(phase.tokens or 0 for phase in phases))


def _setting(facts: Facts) -> Iterator[tuple[str, str]]:
    yield from ((f"{words(role)} model", name) for role, name in facts.models.items())
    names = ("method", "seed", "device", "threads", "uptake_version", "torch_version", "transformers_version")
    for name in names:
        value = getattr(facts, name)
        if value not in ("", None):
            yield words(name.removesuffix("_version")), str(value)


def _absent(run: RunFolder) -> Iterator[str]:
    """One line for each section that has nothing to show, with the reason."""
    evaluation = run.evaluation
    if evaluation is None:
        yield "Headline figures, categories and accuracy: there is no evaluation.json."
    else:
        keys = ("win_rate", "quality", "lengths", "follow_up_reward", "categories", "reward_model")
        missing = [words(key) for key in keys if not getattr(evaluation, key)]
        if missing:
            yield f"{', '.join(missing).capitalize()}: not in evaluation.json."
    files = {
        "Progress": (run.curve or (evaluation and evaluation.curve), "curve.jsonl"),
        "Samples": (run.samples, "samples.jsonl"),
        "Mining": (run.rounds, "rounds/*/summary.json"),
        "Training": (run.metrics, "metrics.jsonl"),
        "Cost": (run.timing, "timing.jsonl"),
        "Recipe": (run.recipe, "recipe.yaml"),
        "Setting and versions": (run.facts, "run.json"),
    }
    for section, (content, file) in files.items():
        if not content:
            yield f"{section}: there is no {file}."
