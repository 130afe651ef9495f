"""Token rewards on what people marked: do they find inventions, errors and slips in held-out answers?

    python bench/real_token_reward.py --model ./dialogue-model --data ./data

One model learns from the edits of three sets at once: HaluEval's marks (with as many answers without a mark),
FineGrainedRLHF's errors and JFLEG's four corrections of every sentence. It is measured by set on answers to other
questions in which something was marked, beside the same training with labels in the wrong places, a sequence reward
model trained on the pairs that the sets hold, and chance.
"""

import argparse
import random
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from _harness import record
from _tokens import Arm, figures, one_thread

from uptake import ChatFormat, World, load
from uptake.datasets import names, read_set
from uptake.support.progress import progress_bar
from uptake.types import Edited

FOLDER = Path("runs/experiments")
# Responses of one set to measure.
TEST = 300
TRAINING = {"lr": 3e-4, "batch_size": 16, "epochs": 2, "weight_decay": 0.01, "warmup": 0.05}
MAX_TOKENS = 256
ARMS = (
    Arm("token rewards", "token_reward_model", TRAINING, max_tokens=MAX_TOKENS),
    Arm("token rewards, labels shuffled", "token_reward_model", TRAINING, shuffle=True, max_tokens=MAX_TOKENS),
    Arm("sequence reward, steps of its head", "reward_model", TRAINING, max_tokens=MAX_TOKENS),
)


def rows_of(name: str, data: Path, split: str) -> list[Edited]:
    rows = read_set(name, "edits", data)
    return [row for row in rows if isinstance(row, Edited) and row.prompt.extra["split"] == split]


def marked(row: Edited) -> bool:
    """Whether anybody found something."""
    return bool(row.spans) if row.edited is None else row.edited != row.response


def training_rows(data: Path, limit: int | None) -> list[Edited]:
    """All marked rows and all edits, and of HaluEval's other rows as many."""
    found: list[Edited] = []
    for name in names("edits"):
        rows = rows_of(name, data, "train")
        if name == "halueval":
            plain = [row for row in rows if not marked(row)]
            rows = [row for row in rows if marked(row)]
            rows += random.Random(0).sample(plain, min(len(rows), len(plain)))
        found += rows[:limit]
    return found


def test_rows(data: Path, limit: int | None) -> dict[str, Sequence[Edited]]:
    """Held-out rows with something to find, by set; of a sentence with several corrections, all."""
    tests: dict[str, Sequence[Edited]] = {}
    for name in names("edits"):
        groups: dict[str, list[Edited]] = {}
        for place, row in enumerate(rows_of(name, data, "heldout")):
            groups.setdefault(row.group or str(place), []).append(row)
        kept = [rows for rows in groups.values() if any(marked(row) and not row.demoted for row in rows)]
        tests[name] = [row for rows in kept[: limit or TEST] for row in rows if not row.demoted]
    return tests


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=Path, required=True, help="a small dialogue model")
    parser.add_argument("--data", type=Path, required=True, help="the folder of data sets")
    parser.add_argument("--limit", type=int, help="rows of every set, for a trial")
    given = parser.parse_args()
    one_thread()
    train, tests = training_rows(given.data, given.limit), test_rows(given.data, given.limit)
    found: dict[str, dict[str, Any]] = {}
    with progress_bar("token rewards", len(ARMS)) as bar:
        for arm in ARMS:
            found[arm.name] = measure(arm, given.model, train, tests, given.limit)
            bar.advance()
    rows = [_row(set_, name, run[set_]) for set_ in tests for name, run in found.items()]
    rows += [_chance(set_, found[ARMS[0].name][set_]) for set_ in tests]
    sizes = ", ".join(f"{set_} {len(rows)}" for set_, rows in tests.items())
    claim = f"Faults that people marked: {len(train)} rows to learn from, held-out rows with a fault: {sizes}"
    record("real_token_reward", claim, sorted(rows, key=lambda row: str(row["set"])))


def measure(
    arm: Arm, model: Path, train: Sequence[Edited], tests: Mapping[str, Sequence[Edited]], limit: int | None
) -> dict[str, Any]:
    policy = load(model)
    folder = FOLDER / "real-token-rewards" / f"{arm.name.replace(' ', '-')}-{limit or 'all'}"
    return figures(arm, World(policy, ChatFormat.of(policy), folder=folder), train, tests)


def _row(set_: str, name: str, run: Mapping[str, Any]) -> dict[str, str]:
    return {
        "set": set_,
        "reward": name,
        "AUROC": _number(run["auroc"]),
        "average precision": _number(run["average_precision"]),
        "top-1": _share(run["top1"]),
        "edit over answer, by sum": _share(run["pair_sum"]),
        "by mean": _share(run["pair_mean"]),
    }


def _chance(set_: str, run: Mapping[str, Any]) -> dict[str, str]:
    chance = {"auroc": 0.5, "average_precision": run["faulty"], "top1": None, "pair_sum": None, "pair_mean": None}
    return {**_row(set_, "chance", chance), "top-1": _number(run["top1_chance"])}


def _share(share: Mapping[str, float] | None) -> str:
    return f"{share['rate']:.3f} [{share['low']:.3f}, {share['high']:.3f}]" if share else "-"


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"


if __name__ == "__main__":
    main()
