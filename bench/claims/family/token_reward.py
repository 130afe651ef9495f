"""Does a token reward model find the faulty words of the town's answers, and a reward model of whole answers not?

All arms begin with the same model of the town and learn the same faulty answers with the oracle's minimal edits. The
oracle also says which words are faulty: these a model is to give the lowest rewards, in answers to held-out questions.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from claims.claim import Arm, Claim
from claims.family.sizes import SHRINK, sized
from claims.work.tokens import one_position, token_rewards

EDITS = sized(3456)
RATE = 1e-3
RATES = (2e-3, RATE)
# More and smaller steps than the demonstration's model took: what it does not know of the town, no edit shows it.
LEARN: Mapping[str, Any] = {"batch_size": 16, "lr": 3e-3} if SHRINK == 1 else {}
TRAINING = {"batch_size": 16, "epochs": 2, "weight_decay": 0.01, "warmup": 0.1}
# Labels from the start of an answer, as the oracle's are: a model that reads word by word can know no others.
TOKENS: Mapping[str, Any] = {"method": "token_reward_model", "settings": {**TRAINING, "from_start": True}}
SEQUENCE: Mapping[str, Any] = {"method": "reward_model", "settings": TRAINING}


def arm(name: str, how: Mapping[str, Any], **more: Any) -> Arm:
    candidates = tuple({"settings": {**how["settings"], "lr": rate}} for rate in RATES)
    options = {"method": how["method"], "edits": EDITS, "learn": LEARN, **more}
    return Arm(name, token_rewards, options, candidates, chosen_by="pair_sum" if how is SEQUENCE else "top1")


def claims() -> Sequence[Claim]:
    tokens, steps = arm("token rewards", TOKENS), arm("whole answers, steps of its head", SEQUENCE)
    shuffled = arm("token rewards, labels shuffled", TOKENS, shuffle=True)
    position = Arm("the best place for all answers", one_position, {"edits": EDITS, "learn": LEARN})
    beyond = "token rewards, with steps and candidates of a rate, find more than the one best place of all answers"
    return [
        Claim("the lowest reward of a faulty answer is at a faulty word in more than 90 %", tokens, 0.9, "top1"),
        Claim("over all words, the area under the curve is above 0.95", tokens, 0.95, "auroc"),
        Claim("token rewards find faulty words where labels in the wrong places do not", tokens, shuffled, "top1"),
        Claim(beyond, tokens, position, "top1", apart=("steps", "candidates")),
        Claim("and where the steps of a reward model of whole answers do not", tokens, steps, "top1"),
        Claim(
            "though that one ranks edit above answer nearly as often, within 0.1",
            steps,
            tokens,
            "pair_sum",
            margin=-0.1,
        ),
    ]
