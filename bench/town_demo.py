"""The demonstration's road on three seeds: does it win in the oracle's eyes, and which reward ranks the town's pairs?

    python bench/town_demo.py

A seed draws the weights that the model of the town begins with, the conversations it learns from, what is sampled, the
order of the questions, and which held-out questions are reported on. The settings of the demonstration were chosen with
`python bench/town_demo.py development`, which runs another seed and reports on other questions, and keeps no record. A
seed that is on disk is not run again.
"""

import sys
from collections.abc import Mapping
from typing import Any

from _harness import record
from _town import FOLDER, interval

from uptake.tasks.demo import DemoSettings, demo

SEEDS = (0, 1, 2)
DEVELOPMENT = 7


def figures(settings: DemoSettings) -> Mapping[str, Any]:
    """Figures of `evaluation.json` for one seed."""
    folder = FOLDER / "demo" / f"{settings.split}-{settings.seed}"
    return demo(folder, settings, resume=folder.exists()).evaluation


def row(name: str, found: Mapping[str, Any]) -> dict[str, object]:
    wins, ranked, quality = found["win_rate"], found["reward_model"], found["quality"]
    return {
        "seed": name,
        "win rate": wins["rate"],
        "95 % interval over questions": f"{wins['low']:.3f} to {wins['high']:.3f}",
        "answers": wins["n"],
        "quality before": quality["before"],
        "quality after": quality["after"],
        "length ratio": found["lengths"]["ratio"],
        "pairs ranked right by follow-ups": ranked["accuracy"]["plain"]["rate"],
        "by likelihood of the answer": ranked["direct"]["plain"]["rate"],
    }


def main() -> None:
    if sys.argv[1:] == ["development"]:
        print(row("development", figures(DemoSettings(seed=DEVELOPMENT, split="development"))))
        return
    rows = [row(str(seed), figures(DemoSettings(seed=seed))) for seed in SEEDS]
    means = {key: interval([float(str(each[key])) for each in rows]) for key in rows[0] if _measured(rows[0][key])}
    shown = [{key: f"{value:.3f}" if _measured(value) else str(value) for key, value in each.items()} for each in rows]
    last = {key: str(means.get(key, "")) for key in rows[0]}
    shown.append(last | {"seed": "mean over seeds, 95 % interval (t)"})
    claim = "The demonstration on three seeds: win rate after alignment over before, in the oracle's eyes"
    record("demo", claim, shown)


def _measured(value: object) -> bool:
    return isinstance(value, float)


if __name__ == "__main__":
    main()
