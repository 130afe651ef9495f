"""Draw the README's picture from what was measured and stands in `bench/results/*.json`.

python bench/first_screen.py
"""

import json
import re
from pathlib import Path
from typing import Any

import matplotlib as mpl
from matplotlib import pyplot as plt
from matplotlib.axes import Axes

ROOT = Path(__file__).parents[1]
# Results, the ratio in their first row (of a model where there are several), and what it is called.
SPEED = (
    ("growth", "SmolLM2-135M-Instruct", "dense row / trees", "120 follow-ups, SmolLM2, to a dense row"),
    ("sampling", None, "generate / uptake", "8 x 8 answers, to generate"),
    ("dpo", None, "ratio", "one DPO step, to trl"),
)
INK, ACCENT, PALE = "#24292f", "#0f7b6c", "#b9c4c2"


def main() -> None:
    mpl.rcParams |= {"svg.fonttype": "none", "svg.hashsalt": "uptake", "font.family": "sans-serif", "font.size": 10}
    mpl.rcParams["text.color"] = INK
    figure, (left, right) = plt.subplots(1, 2, figsize=(12, 2.7), width_ratios=(1, 1.7))
    _speed(left)
    _quality(right, _result("demo"))
    figure.tight_layout(w_pad=3)
    target = ROOT / "docs" / "images" / "first-screen.svg"
    figure.savefig(target, facecolor="white", metadata={"Date": None})
    print(target.relative_to(ROOT))


def _result(name: str) -> Any:
    return json.loads((ROOT / "bench" / "results" / f"{name}.json").read_text())


def _speed(axes: Axes) -> None:
    labels, ratios = zip(*((label, _ratio(*ratio)) for *ratio, label in SPEED), strict=True)
    bars = axes.barh(labels, ratios, color=ACCENT, height=0.55)
    axes.bar_label(bars, labels=[f"{ratio:.3g}x" for ratio in ratios], padding=4)
    axes.set_title("Times as fast", loc="left", fontsize=10, fontweight="bold")
    axes.set_xlim(0, max(ratios) * 1.2)
    axes.set_ylim(len(labels) - 0.4, -0.6)
    _bare(axes)


def _ratio(name: str, model: str | None, key: str) -> float:
    ratio = next(row for row in _result(name)["rows"] if row.get("model") == model)[key]
    return float(ratio["median"] if isinstance(ratio, dict) else str(ratio).split()[0])


def _quality(axes: Axes, demo: dict[str, Any]) -> None:
    """Win rates of the aligned model over its start in the oracle's eyes, with their intervals, seed by seed."""
    numbers = re.compile(r"0\.\d+")
    lines = [
        (
            f"seed {row['seed']}, mean quality {row['quality before']} to {row['quality after']}",
            [float(each) for each in numbers.findall(row["win rate, interval over questions"])],
        )
        for row in demo["rows"]
    ]
    lines.append(("all, over seeds and questions", [float(each) for each in numbers.findall(demo["claim"])]))
    for place, (_, (rate, low, high)) in enumerate(lines):
        axes.plot([low, high], [place, place], color=PALE, linewidth=6, solid_capstyle="round")
        axes.plot([rate], [place], "o", color=ACCENT)
        axes.text(0.69, place, f"{rate:.3f} ({low:.3f} to {high:.3f})", va="center")
    axes.axvline(0.5, color=INK, linewidth=0.8, linestyle=":")
    axes.set_title("Held-out answers won after alignment", loc="left", fontsize=10, fontweight="bold")
    axes.set_xlim(0.48, 0.9)
    axes.set_ylim(len(lines) - 0.4, -0.6)
    _bare(axes)
    axes.set_yticks(range(len(lines)), [label for label, _ in lines])


def _bare(axes: Axes) -> None:
    axes.set_xticks([])
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)


if __name__ == "__main__":
    main()
