"""Three head-to-heads on prompts of people, by a gold reward model that plays the person.

The model is the project's own small dialogue model, a folder named by `CLAIMS_MODEL`; `CLAIMS_DATA` is the folder of
the data sets. Half of the human preferences make the gold model, the other half give prompts: 200 held out, 100 for
choosing rates, the rest for training. Labels, prompts, samples and steps are the same for all, but for what a sentence
names.
"""

import os
from collections.abc import Sequence
from dataclasses import replace
from hashlib import sha256
from pathlib import Path
from typing import Any

from claims.claim import Arm, Claim
from claims.family.sizes import sized
from claims.work.person import agreement, aligned
from uptake.errors import InputError

SEEDS, DEVELOPMENT = (0, 1, 2), (100,)
STEPS, BATCH, TOKENS = sized(24, 4), 32, 64
LABELS = STEPS * BATCH
# Two answers a prompt and round, one round for four steps.
ROUNDS, EPOCHS = STEPS // 4, 4
GOLD = {"lr": 1e-4, "epochs": sized(3), "batch_size": 32, "weight_decay": 0.01, "schedule": "cosine"}
LEARNED = {"lr": 1e-4, "batch_size": 16, "epochs": 1, "weight_decay": 0.01}
PAIRS = {"beta": 0.1, "optimizer": "adamw", "warmup": 2, "clip": 1.0}
SAMPLED = {"temperature": 1.0, "max_new_tokens": TOKENS}
PPO = {
    "prompts": 4 * BATCH,
    "n": 2,
    "rounds": ROUNDS,
    "epochs": EPOCHS,
    "beta": 0.02,
    "critic_lr": 1e-4,
    "max_new_tokens": TOKENS,
}
RATES = (3e-4, 1e-4)


def given() -> dict[str, Any]:
    """What every arm needs to know: the model, the data, and how the gold model is trained."""
    model, data = os.environ.get("CLAIMS_MODEL", ""), os.environ.get("CLAIMS_DATA", "")
    weights = Path(model) / "model.safetensors"
    if not model or not weights.exists() or not Path(data).is_dir():
        raise InputError(f"CLAIMS_MODEL is {model!r}, CLAIMS_DATA is {data!r}", allowed="a model's and a data folder")
    digest = sha256(weights.read_bytes()).hexdigest()[:16]
    return {"model": model, "data": data, "weights": digest, "gold": GOLD, "prompts": LABELS // 2, "tokens": TOKENS}


def arm(name: str, method: str, settings: dict[str, Any], **more: Any) -> Arm:
    candidates = tuple({"settings": {**settings, "lr": rate}} for rate in RATES)
    return Arm(
        name,
        aligned,
        {**given(), "method": method, "steps": STEPS, **more},
        candidates,
        chosen_by="wins",
        development=DEVELOPMENT,
    )


def dpo(by: str) -> Arm:
    return arm(f"offline DPO, pairs by {by.replace('_', '-')}", "dpo", PAIRS, by=by, labels=LABELS)


def ppo(name: str, method: str, reward: str, trained: str, **more: Any) -> Arm:
    model = {"method": trained, "settings": LEARNED, "reward": reward}
    return arm(name, method, {**PPO, **more}, by="gold", labels=LABELS, reward_model=model)


def claims() -> Sequence[Claim]:
    online = arm("OAIF", "online_ai_feedback", {**PAIRS, **SAMPLED, "batch_size": BATCH, "steps": STEPS})
    whole = ppo("PPO, reward model", "ppo", "classifier", "reward_model")
    token = ppo("fine-grained PPO", "fine_grained_ppo", "token_reward", "token_reward_model", lam=0.95)
    gold, mined, coin = dpo("gold"), dpo("follow_up"), dpo("coin")
    person = Arm("gold reward model", agreement, given())
    apart = ("samples", "reward steps")
    cost = "with as many samples again and reward steps"
    found = [
        Claim("the gold model agrees with people on the other half more often than a coin", person, 0.5, "accuracy"),
        Claim("online AI feedback beats offline DPO on the start's pairs", online, gold, "wins"),
        Claim(f"online AI feedback beats PPO with as many labels, {cost}", online, whole, "wins", apart=apart),
        Claim(f"PPO with a reward model {cost} beats offline DPO on the same labels", whole, gold, "wins", apart=apart),
        Claim("a reward per token beats one per response, both learned from the same pairs", token, whole, "wins"),
        Claim("pairs by gold labels beat pairs by a coin", gold, coin, "wins"),
        Claim("pairs mined by follow-ups beat pairs by a coin", mined, coin, "wins"),
        Claim("pairs mined by follow-ups come within 0.1 of gold labels", mined, gold, "wins", margin=-0.1),
    ]
    return [replace(each, seeds=SEEDS) for each in found]
