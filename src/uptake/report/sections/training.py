"""Training: every metric by optimizer step, but for those that few methods have and other sections draw."""

from collections.abc import Iterator, Sequence
from itertools import groupby

from uptake.report.charts import LineChart, Series, line_chart
from uptake.report.folder import MetricRow, RunFolder
from uptake.report.section import LeftOut, Section
from uptake.report.text import words

ABOUT = "Strong lines are means of neighboring steps, faint ones the steps themselves."

# Lines between rounds that can still be told apart.
MOST_MARKS = 40

# In this order, before all others.
METRICS = {
    "loss": "Loss",
    "accuracy": "Accuracy",
    "margin": "Margin",
    "log_ratio": "Log-ratio to the reference, mean of both responses",
    "reference_point": "Reference point: log-ratio of mismatched responses, at least 0",
    "kl": "KL to the reference",
    "grad_norm": "Gradient norm",
    "advantage_std": "Spread of advantages",
    "policy_loss": "Policy loss",
    "value_loss": "Value loss",
    "explained_variance": "Variance that the critic explains",
    "clip_fraction": "Share of clipped tokens",
    "approx_kl": "KL to the sampling policy",
    "skipped": "Steps skipped at the target",
    "initial_log_ratio": "Log-ratio to the policy of the start, mean of both responses",
}
SHARES = ("accuracy", "clip_fraction")
# Written only where it is not 0.
RARE = ("skipped",)
NOT_DRAWN_ALONE = {"step", "stage", "round", "tokens", "lr", "chosen_reward", "rejected_reward"}
# In sections of their own.
DRAWN_ELSEWHERE = ("age", "doubted", "weight_", "clipped_")


def build(run: RunFolder) -> Section | LeftOut:
    """A chart for every metric that the run wrote and no other section draws."""
    starts = _round_starts(run.metrics)
    every = -(-len(starts) // MOST_MARKS) or 1
    marks = starts[every - 1 :: every]
    charts = tuple(chart for chart in _charts(run.metrics, marks) if chart is not None)
    if not charts:
        return LeftOut.no("metric in metrics.jsonl", "Training")
    drawn = f"Vertical lines: {'a new round starts' if every == 1 else f'{every} more rounds are over'}."
    return Section("Training", f"{ABOUT} {drawn}" if marks else ABOUT, charts)


def _charts(rows: Sequence[MetricRow], marks: Sequence[float]) -> Iterator[LineChart | None]:
    drawn = (
        key
        for row in rows
        for key in row
        if key not in NOT_DRAWN_ALONE and "_member_" not in key and not key.startswith(DRAWN_ELSEWHERE)
    )
    keys = dict.fromkeys([*METRICS, *drawn])
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
