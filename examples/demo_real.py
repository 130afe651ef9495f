"""Uptake on a real model: can it judge, and does it learn from 64 human pairs?

    python examples/demo_real.py [runs/demo-real]

It takes about seven minutes beside two busy programs, four on two quiet cores.

SmolLM2-135M-Instruct, made by examples/smollm2.py where it is not there yet, answers three questions; is asked whether
it can judge 60 human pairs; learns from 64 others by DPO, through an adapter; and is measured on 64 more that it has
not seen. The pairs are short ones of Anthropic's HH-RLHF (helpful-base, MIT licence): a question, two answers.
What the numbers can tell is said with them: 64 pairs leave an interval of some twenty points.
"""

# ruff: noqa: E402 - what is imported after the call brings Torch
import json
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from uptake.support.threads import patient_threads

# As in every command: beside two busy programs it took more than twice as long without.
patient_threads()

import numpy as np

from uptake import ChatFormat, methods
from uptake.data import read, to_row
from uptake.data.convert import preferences, prompts
from uptake.evaluate.interval import share
from uptake.models import LanguageModel, load
from uptake.report import write_report
from uptake.rewards.base import Reward
from uptake.rewards.implicit import ImplicitReward
from uptake.rewards.length import Length
from uptake.rewards.likelihood import DirectLikelihood
from uptake.rollout import PolicySamples
from uptake.tasks.can_judge import can_judge
from uptake.tasks.run_config import RunConfig
from uptake.tasks.train import train
from uptake.train.loop import Options
from uptake.types import Answered, Preference, Prompt

HERE = Path(__file__).parent
PAIRS = HERE / "human_pairs.jsonl"
ASKED, LEARNED = slice(60), slice(60, 124)
HELD_OUT = slice(124, 188)
QUESTIONS = ("What is the capital of France?", "How do I boil an egg?", "Write a sentence about the sea.")
OPTIONS = {"lr": 2e-4, "batch_size": 8, "epochs": 2, "optimizer": "adamw"}
SHOWN = 8


def main() -> None:
    folder = Path(sys.argv[1] if len(sys.argv) > 1 else "runs/demo-real")
    folder.mkdir(parents=True, exist_ok=True)
    start = folder / "smollm2"
    if not start.is_dir():
        subprocess.run([sys.executable, str(HERE / "smollm2.py"), str(start)], check=True)
    rows, lm = preferences(read(PAIRS)), load(start)
    for question, answer in zip(QUESTIONS, answers(lm, asked(QUESTIONS)), strict=True):
        print(f"{question}\n    {answer}")

    print("\nCan this model judge?", flush=True)
    look = can_judge(rows[ASKED], lm)
    for way in look.ways:
        agreed = way.verdicts and way.verdicts.agreement
        orders = f", its orders agree in {agreed.rate:.0%} of {agreed.n}" if agreed else ""
        print(f"    {way.name}: {percent(way.estimate.value, way.estimate.low, way.estimate.high)}{orders}")
    print(look.sentence)

    print("\nDPO on 64 pairs of people, through an adapter", flush=True)
    data = folder / "pairs.jsonl"
    data.write_text("".join(PAIRS.read_text().splitlines(keepends=True)[LEARNED]))
    run = folder / "dpo"
    config = RunConfig(method="dpo", policy=str(start), data=str(data), options=OPTIONS, lora=16)
    recipe = methods.build("dpo", config.options)
    title = "SmolLM2 on 64 human pairs"
    train(recipe, config, run, Options(resume=run.is_dir(), title=title, method="dpo"))

    after, held_out = load(run / "model"), rows[HELD_OUT]
    print("\nHeld-out pairs in people's order")
    measured: dict[str, Reward] = {
        "length": Length(),
        "likelihood before": DirectLikelihood.from_pretrained(lm),
        "likelihood after": DirectLikelihood.from_pretrained(after),
        "what it has learned (implicit reward)": ImplicitReward(after, lm),
    }
    for name, reward in measured.items():
        print(f"    {name}: {accuracy(reward, held_out)}", flush=True)

    some = prompts(held_out[:SHOWN])
    pairs = zip(some, answers(lm, some), answers(after, some), strict=True)
    with (run / "samples.jsonl").open("w") as file:
        for prompt, before, now in pairs:
            print(f"\n{prompt.turns[-1].content}\n  before: {before}\n  after:  {now}")
            file.write(json.dumps(sample(prompt, before, now)) + "\n")
    print(f"\nmodel: {run / 'model'}\nreport: {write_report(run)}")


def asked(questions: Sequence[str]) -> list[Prompt]:
    return prompts([to_row({"prompt": question}) for question in questions])


def answers(lm: LanguageModel, some: Sequence[Prompt]) -> list[str]:
    """The likeliest answer to each prompt, up to 48 tokens."""
    greedy = PolicySamples(n=1, temperature=0.0, top_p=1.0, max_new_tokens=48)
    return [each.response.strip() for each in greedy.of(lm, some, ChatFormat.of(lm), seed=0, version=0)]


def accuracy(reward: Reward, rows: Sequence[Preference]) -> str:
    """The share of pairs whose chosen response has the higher reward, with Wilson's interval."""
    both = [Answered(row.prompt, text) for row in rows for text in (row.chosen, row.rejected)]
    scores = [each.score for each in reward.rate(both)]
    found = share(0.5 + 0.5 * np.sign(np.subtract(scores[::2], scores[1::2])))
    return f"{percent(found.rate, found.low, found.high)} of {found.n}"


def percent(value: float | None, low: float | None, high: float | None) -> str:
    return "undefined" if value is None or low is None or high is None else f"{value:.0%} ({low:.0%} to {high:.0%})"


def sample(prompt: Prompt, before: str, after: str) -> dict[str, Any]:
    """A line of samples.jsonl, of two answers that nobody has compared."""
    messages = [{"role": turn.role, "content": turn.content} for turn in prompt.turns]
    return {"prompt": messages, "before": {"response": before}, "after": {"response": after}}


if __name__ == "__main__":
    main()
