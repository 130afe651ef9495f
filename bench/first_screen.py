"""Draw the README's picture from what was measured: `bench/results/*.json` and a finished demonstration.

python bench/first_screen.py runs/demo
"""

import json
import sys
from pathlib import Path
from typing import Any

import matplotlib as mpl
from matplotlib import pyplot as plt
from matplotlib.axes import Axes

ROOT = Path(__file__).parents[1]
# Results, the ratio in their first row, and what it is called.
SPEED = (
    ("growth", "cache / trees", "120 follow-ups, to a key-value cache"),
    ("sampling", "generate / uptake", "sample 8 x 8 answers"),
    ("dpo", "ratio", "one DPO step, to trl"),
)
INK, ACCENT, PALE = "#24292f", "#0f7b6c", "#b9c4c2"


def main(demo: Path) -> None:
    mpl.rcParams |= {"svg.fonttype": "none", "font.family": "sans-serif", "font.size": 10, "text.color": INK}
    figure, (left, right) = plt.subplots(1, 2, figsize=(10, 2.7), width_ratios=(1, 1.6))
    _speed(left)
    _quality(right, json.loads((demo / "aligned" / "evaluation.json").read_text()))
    figure.tight_layout(w_pad=3)
    target = ROOT / "docs" / "images" / "first-screen.svg"
    figure.savefig(target, facecolor="white", metadata={"Date": None})
    print(target.relative_to(ROOT))


def _speed(axes: Axes) -> None:
    labels, ratios = zip(*((label, _ratio(name, key)) for name, key, label in SPEED), strict=True)
    bars = axes.barh(labels, ratios, color=ACCENT, height=0.55)
    axes.bar_label(bars, labels=[f"{ratio:.3g}x" for ratio in ratios], padding=4)
    axes.set_title("Times as fast", loc="left", fontsize=10, fontweight="bold")
    axes.set_xlim(0, max(ratios) * 1.2)
    axes.set_ylim(len(labels) - 0.4, -0.6)
    _bare(axes)


def _ratio(name: str, key: str) -> float:
    ratio = json.loads((ROOT / "bench" / "results" / f"{name}.json").read_text())["rows"][0][key]
    return float(ratio["median"] if isinstance(ratio, dict) else str(ratio).split()[0])


def _quality(axes: Axes, figures: dict[str, Any]) -> None:
    """Wins, ties and losses of the aligned model on held-out questions, in the oracle's eyes."""
    wins = figures["win_rate"]
    parts = (("better", wins["wins"], ACCENT), ("as good", wins["ties"], PALE), ("worse", wins["losses"], "#d98c5f"))
    start = 0
    for label, count, color in parts:
        axes.barh([0], [count], left=start, color=color, height=0.35)
        axes.text(start + count / 2, 0.3, f"{label}\n{count}", ha="center", va="bottom")
        start += count
    quality, ratio = figures["quality"], figures["lengths"]["ratio"]
    axes.text(
        0,
        -0.32,
        f"mean quality {quality['before']:.2f} to {quality['after']:.2f}, length x {ratio:.2f}, "
        f"win rate {wins['rate']:.0%}",
        va="top",
    )
    title = f"{wins['n']} held-out answers, after alignment"
    axes.set_title(title, loc="left", fontsize=10, fontweight="bold")
    axes.set_ylim(-0.9, 0.95)
    axes.set_yticks([])
    _bare(axes)


def _bare(axes: Axes) -> None:
    axes.set_xticks([])
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
