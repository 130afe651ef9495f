"""bfloat16 against fp32 on a CPU: speed, memory, and whether pairs of real answers are ranked alike.

    python bench/precision.py --model smollm2 --data data

The model is any instruct model's folder; docs/precision.md has the figures of SmolLM2-135M-Instruct. Pairs are the
first short ones of four sets. Both precisions take every pair in turn. Seconds are the processor's, of all threads,
since a shared machine stretches the others. Training is DPO on some of the pairs, with weights in fp32 either way;
memory is that of four pairs, or of the training, in a fresh process.
"""

from collections.abc import Callable
from dataclasses import replace
from itertools import islice
from pathlib import Path
from time import process_time
from typing import Annotated, Any

import torch
import typer
from _harness import peak_bytes, record

from uptake import ChatFormat, FollowUpReward, Turn, World, load
from uptake.datasets import Comparison, read_set
from uptake.examples.preferences import PreferenceRows
from uptake.follow_up.set import FollowUpSet
from uptake.losses.pairwise import Logistic
from uptake.models import LanguageModel
from uptake.models.products import has_bfloat16_units
from uptake.objective import Pairs
from uptake.reference import Frozen
from uptake.rewards.likelihood import DirectLikelihood
from uptake.types import Dialogue, Preference
from uptake.update import Optimization, build_optimizer, optimizer_step, trainable

SETS = ("hh_helpful_base", "pandalm", "alpacafarm", "llmbar")
PRECISIONS = ("float32", "bfloat16")
LONGEST = 1200  # characters of prompt and both answers
TRAINED, BATCH = 4, 4

LIKELIHOOD, FOLLOW_UPS = "likelihood of the answer", "24 follow-ups"

Pair = tuple[Dialogue, Dialogue]


def short_pairs(data: Path, count: int) -> list[Comparison]:
    """As many pairs of every set."""
    found: list[Comparison] = []
    for name in SETS:
        items = (item for item in read_set(name, "comparisons", data) if isinstance(item, Comparison))
        short = (item for item in items if len(item.prompt.turns) % 2 and all(item.responses) and size(item) <= LONGEST)
        found += islice(short, count // len(SETS))
    return found


def size(item: Comparison) -> int:
    return sum(len(turn.content) for turn in item.prompt.turns) + sum(map(len, item.responses))


def dialogues(item: Comparison) -> list[Dialogue]:
    return [(*item.prompt.turns, Turn("assistant", text)) for text in item.responses]


def margins(rewards: dict[str, Any], items: list[Comparison]) -> dict[str, tuple[list[float], float, int]]:
    """By precision, what the first answer of each pair gets more than the second, seconds, and distinct tokens."""
    found: dict[str, tuple[list[float], float, int]] = {name: ([], 0.0, 0) for name in rewards}
    for item in items:
        for name, reward in rewards.items():
            start = process_time()
            one, other = (each.score for each in reward.rate(dialogues(item)))
            before, seconds, tokens = found[name]
            found[name] = [*before, one - other], seconds + process_time() - start, tokens + distinct(reward, item)
    return found


def distinct(reward: Any, item: Comparison) -> int:
    """Distinct tokens of a pair under follow-ups; of the likelihood's own, prompt and answers."""
    if isinstance(reward, FollowUpReward):
        trees = [reward.chat.follow_ups(turns, reward.followups.sentences) for turns in dialogues(item)]
        return sum(len(stem) + sum(map(len, branches)) for stem, branches in trees)
    return len(reward.chat.prompt_ids(item.prompt.turns)) + sum(
        len(reward.chat.response_ids(item.prompt.turns, text)[1]) for text in item.responses
    )


def scoring(model: Path, data: Path, counts: dict[str, int]) -> list[dict[str, Any]]:
    lms = {name: load(model, dtype=name, device="cpu") for name in PRECISIONS}
    for name, lm in lms.items():
        print(f"{name}: {lm.attention} {lm.note}")
    kinds: dict[str, Callable[[LanguageModel], Any]] = {
        LIKELIHOOD: DirectLikelihood.from_pretrained,
        FOLLOW_UPS: by_follow_ups,
    }
    rows = []
    for kind, make in kinds.items():
        items = short_pairs(data, counts[kind])
        found = margins({name: make(lm) for name, lm in lms.items()}, items)
        exact, exact_seconds, _ = found[PRECISIONS[0]]
        for name, (own, seconds, tokens) in found.items():
            print(kind, name, f"{tokens / seconds:.0f} tokens/s", flush=True)
            alike = sum(one * other > 0 for one, other in zip(exact, own, strict=True))
            together = torch.tensor([exact, own], dtype=torch.float64).corrcoef()
            rows.append(
                {
                    "what": kind,
                    "precision": name,
                    "read in": f"{lms[name].attention}; {lms[name].note}".removesuffix("; "),
                    "tokens a second": f"{tokens / seconds:,.0f}",
                    "times fp32": f"{exact_seconds / seconds:.2f}",
                    "peak memory, GB": f"{peak_bytes(scored, model, data, name, make)[0] / 1e9:.2f}",
                    "pairs ranked as fp32": f"{alike} of {len(items)}",
                    "correlation of margins": f"{float(together[0, 1]):.3f}",
                }
            )
    return rows


def by_follow_ups(lm: LanguageModel) -> FollowUpReward:
    """The first two of each side and category: all 120 take five times as long."""
    whole = FollowUpSet.load()
    cut = [replace(each, positive=each.positive[:2], negative=each.negative[:2]) for each in whole.categories]
    return FollowUpReward.from_pretrained(lm, replace(whole, categories=tuple(cut)))


def scored(model: Path, data: Path, dtype: str, make: Callable[[LanguageModel], Any]) -> Callable[[], object]:
    reward = make(load(model, dtype=dtype, device="cpu"))
    return lambda: [reward.rate(dialogues(item)) for item in short_pairs(data, len(SETS))]


def training(model: Path, data: Path, dtype: str) -> Callable[[], float]:
    """Seconds of the processor for a token: DPO on a few pairs, reference and update together."""
    policy = load(model, dtype=dtype, device="cpu", fp32_weights=True)
    rows = [Preference(each.prompt, *each.responses) for each in short_pairs(data, TRAINED)]
    world = World(policy, ChatFormat.of(policy), rows)
    examples, objective = PreferenceRows()(world, 0).examples, Pairs(Logistic())
    settings = Optimization(lr=5e-7, optimizer="rmsprop", batch_size=BATCH)
    optimizer = build_optimizer(settings, trainable(policy).values())
    reference = Frozen().start(world)

    def work() -> float:
        start = process_time()
        for first in range(0, len(examples), BATCH):
            batch = examples[first : first + BATCH]
            optimizer_step(policy, reference, objective, batch, optimizer, settings)
        return (process_time() - start) / sum(len(objective.tree(each)) for each in examples)

    return work


def main(
    model: Annotated[Path, typer.Option(help="Folder of an instruct model.")],
    data: Annotated[Path, typer.Option(help="Folder of the data sets.")],
    pairs: Annotated[int, typer.Option(help="Pairs in all, by their likelihood.")] = 60,
    asked: Annotated[int, typer.Option(help="Pairs of which follow-ups are asked, which cost ten times as much.")] = 12,
) -> None:
    rows = scoring(model, data, {LIKELIHOOD: pairs, FOLLOW_UPS: asked})
    spent = {name: training(model, data, name)() for name in PRECISIONS}
    for name in PRECISIONS:
        peak = peak_bytes(training, model, data, name)[0]
        rows.append(
            dict.fromkeys(rows[0], "")
            | {
                "what": f"DPO, {BATCH} pairs a step",
                "precision": f"{name}, weights in float32",
                "tokens a second": f"{1 / spent[name]:,.0f}",
                "times fp32": f"{spent[PRECISIONS[0]] / spent[name]:.2f}",
                "peak memory, GB": f"{peak / 1e9:.2f}",
            }
        )
    units = "with" if has_bfloat16_units() else "without"
    record("precision", f"bfloat16 against fp32 on a processor {units} products in bfloat16", rows)


if __name__ == "__main__":
    typer.run(main)
