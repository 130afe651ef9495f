"""The demonstration's road on three seeds: does it win in the oracle's eyes, and which reward ranks the town's pairs?

    python bench/demo.py

A seed draws the weights that the model of the town begins with, the conversations it learns from, what is sampled and
the order of the questions; all report on the same held-out questions. The interval of the mean is that of the rule of
claims: seeds and questions both count. `python bench/demo.py development`, by which settings are chosen, runs another
seed, reports on other questions, and keeps no record. What is on disk is not run again.
"""

import sys
from pathlib import Path

from _harness import record
from claims.rule import difference

from uptake.tasks.demo import DemoResult, DemoSettings, demo

FOLDER = Path("runs/experiments/demo")
SEEDS = (0, 1, 2)
DEVELOPMENT = 7


def result(settings: DemoSettings) -> DemoResult:
    folder = FOLDER / f"{settings.split}-{settings.seed}"
    return demo(folder, settings, resume=folder.exists())


def row(seed: int, found: DemoResult) -> dict[str, str]:
    wins, quality = found.evaluation["win_rate"], found.evaluation["quality"]
    return {
        "seed": str(seed),
        "win rate, interval over questions": f"{wins['rate']:.3f} [{wins['low']:.3f}, {wins['high']:.3f}]",
        "quality before": f"{quality['before']:.3f}",
        "quality after": f"{quality['after']:.3f}",
        "length ratio": f"{found.evaluation['lengths']['ratio']:.2f}",
        "pairs ranked right by follow-ups": f"{found.accuracy.plain.rate:.3f}",
        "by the likelihood of the answer": f"{found.direct.plain.rate:.3f}",
    }


def main() -> None:
    if sys.argv[1:] == ["development"]:
        print(row(DEVELOPMENT, result(DemoSettings(seed=DEVELOPMENT, split="development"))))
        return
    found = {seed: result(DemoSettings(seed=seed)) for seed in SEEDS}
    gain = difference([each.won for each in found.values()], 0.5)
    low, high = (0.5 + end for end in gain.interval(0.05))
    claim = (
        "The demonstration on three seeds: win rate of the aligned model over its start in the oracle's eyes "
        f"{0.5 + gain.mean:.3f}, 95 % interval over seeds and questions {low:.3f} to {high:.3f}"
    )
    record("demo", claim, [row(seed, each) for seed, each in found.items()])


if __name__ == "__main__":
    main()
