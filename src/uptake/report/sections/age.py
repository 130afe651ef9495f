"""Age: how old the samples were that each step learned from, and how far the policy has gone since it drew them."""

from uptake.report.charts import LineChart, Series, line_chart
from uptake.report.folder import RunFolder
from uptake.report.section import Section

ABOUT = (
    "Samples of a round wait for the steps that learn from them: by how many steps the policy has moved on since it "
    "drew them."
)
BEHAVIOUR = (
    " The reference is the policy that drew them: gray is the log-ratio to it, which begins anew with every round, "
    "green the one to the policy of the start, which nothing holds."
)


def build(run: RunFolder) -> Section | None:
    """Age by step, and both log-ratios where the reference is the policy that sampled; none where all are fresh."""
    rows = run.metrics
    steps = [row["step"] for row in rows]
    if not any(row.get("age") for row in rows):
        return None
    ages = Series("age", steps, [row.get("age") for row in rows], smooth=False)
    age = line_chart("Age of samples, in steps", [ages])
    far = _log_ratios(run)
    charts = tuple(chart for chart in (age, far) if chart is not None)
    return Section("Age of samples", ABOUT + BEHAVIOUR * (far is not None), charts)


def _log_ratios(run: RunFolder) -> LineChart | None:
    rows = [row for row in run.metrics if row.get("initial_log_ratio") is not None]
    names = {"log_ratio": ("sampler", "before"), "initial_log_ratio": ("start", "after")}
    steps = [row["step"] for row in rows]
    series = [
        Series(name, steps, [row.get(key) for row in rows], tone, smooth=False) for key, (name, tone) in names.items()
    ]
    return line_chart("Log-ratio to", series)
