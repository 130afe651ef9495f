"""A reward for every token against one at the end (arXiv 2406.02756): what position is worth.

The oracle says which words are faulty (-1 each, none for a right answer); in the last claims, reward models do that
were trained on its edits. All arms draw as many samples and take as many optimizer steps; lambda is chosen for each.
"""

from collections.abc import Sequence
from typing import Any

from claims.claim import Arm, Claim
from claims.family.sizes import sized
from claims.family.token_reward import EDITS, LEARN, RATE, SEQUENCE, TOKENS
from claims.work.policy import policy

PROMPTS, SAMPLES, ROUNDS, EPOCHS = 64, 2, sized(12, 2), 4
LAMBDAS = (0.5, 0.95, 1.0)
COMMON = {
    "prompts": PROMPTS,
    "n": SAMPLES,
    "max_new_tokens": 48,
    "epochs": EPOCHS,
    "lr": 1e-3,
    "critic_lr": 1e-3,
    "beta": 0.02,
    "clip": 1.0,
}


def arm(name: str, *, rounds: int = ROUNDS, method: str = "fine_grained_ppo", model: Any = None, **changes: Any) -> Arm:
    reward = {} if model else {"reward": "oracle_tokens"}
    settings = {**COMMON, **reward, "rounds": rounds, **changes}
    options = {"method": method, "steps": rounds * EPOCHS, **({"reward_model": model} if model else {})}
    candidates = tuple({"settings": {**settings, "lam": lam}} for lam in LAMBDAS)
    return Arm(name, policy, options, candidates, chosen_by="area")


def trained(kind: str, how: Any) -> dict[str, Any]:
    """A reward model to train first."""
    return {"reward": kind, **how, "settings": {**how["settings"], "lr": RATE}, "edits": EDITS, "learn": LEARN}


def claims() -> Sequence[Claim]:
    token, end = arm("a reward per token", credit="token"), arm("its sum at the end", credit="end")
    half = arm("a reward per token, half the samples", credit="token", rounds=ROUNDS // 2)
    uniform = arm("its sum spread evenly", credit="uniform")
    shuffled = arm("its values at random places", credit="token", reward={"oracle_tokens": {"shuffled": True}})
    free = arm("a reward per token, not centered", credit="token", center="none")
    return [
        Claim("a reward per token beats the same sum at the end, over the whole run", token, end, "area"),
        Claim("and ends higher", token, end, "quality"),
        Claim(
            "half the labels, samples and steps reach what the sum at the end does, but for 0.02",
            *(half, end, "quality"),
            margin=-0.02,
            apart=("labels", "samples", "steps"),
        ),
        Claim("the same values at random places are worse than in theirs", shuffled, token, "area", "less"),
        Claim("the same values at random places are worse than their sum at the end", shuffled, end, "area", "less"),
        Claim("spreading the sum evenly is worse than a reward per token", uniform, token, "area", "less"),
        Claim("centered, answers get no more than 30 % shorter", token, 0.7, "length_ratio"),
        Claim("centered, answers get no more than 30 % longer", token, 1.3, "length_ratio", "less"),
        Claim("not centered, answers get shorter than centered ones", free, token, "words", "less"),
        *from_models(),
    ]


def from_models() -> list[Claim]:
    tokens, whole = trained("token_reward", TOKENS), trained("classifier", SEQUENCE)
    token = arm("a token reward model", model=tokens, credit="token")
    end = arm("a token reward model, its sum at the end", model=tokens, credit="end")
    sequence = arm("a reward model of whole answers", model=whole, method="ppo")
    return [
        Claim("from a token reward model, a reward per token beats its own sum at the end", token, end, "area"),
        Claim("and it beats a reward model of whole answers that learned the same edits", token, sequence, "area"),
    ]
