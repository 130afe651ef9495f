"""Follow-up likelihood, which needs no label, against a reward model trained on a thousand of them, in the town.

    python bench/town_reward_model.py

Both start from the same model of the town and rank the same pairs, a right and a faulty answer to held-out questions.
The labels of the Bradley-Terry model are the oracle's, on other questions, another draw for every seed.
"""

from collections.abc import Sequence

from _harness import record
from _town import FOLDER, HELD_OUT, SEEDS, interval, preferences, starting_model

from uptake import ChatFormat, Options, Preference, Turn, World, load, methods, run
from uptake.evaluate import pairwise_accuracy
from uptake.follow_up.reward import FollowUpReward
from uptake.rewards.base import Reward
from uptake.rewards.classifier import Classifier
from uptake.rewards.length import Length
from uptake.rewards.likelihood import DirectLikelihood
from uptake.tasks.demo import town_followups

LABELED, TEST, QUESTIONS = 1000, 600, 432
# Follow-ups are to come within this much of the reward model.
LOSS = 0.03
TRAINING = {"lr": 1e-3, "batch_size": 32, "epochs": 3, "weight_decay": 0.01}


def reward_model(seed: int) -> Reward:
    """Trained on labels of its own draw, in a folder that is used again where it is finished."""
    folder = FOLDER / "reward-model" / str(seed)
    if not (folder / "model").is_dir():
        policy = load(starting_model())
        rows = preferences(LABELED, "train", QUESTIONS, seed)
        world = World(policy, ChatFormat.of(policy), rows, folder=folder, seed=seed)
        run(methods.build("reward_model", TRAINING), world, Options(resume=folder.exists(), save_every=0))
    return Classifier.from_pretrained(folder / "model")


def accuracy(reward: Reward, pairs: Sequence[Preference]) -> float:
    sides = [(*row.prompt.turns, Turn("assistant", text)) for row in pairs for text in (row.chosen, row.rejected)]
    scores = [judgement.score for judgement in reward.rate(sides)]
    lengths = [float(len(turns[-1].content)) for turns in sides]
    return pairwise_accuracy(scores[::2], scores[1::2], lengths[::2], lengths[1::2]).plain.rate


def main() -> None:
    pairs = preferences(TEST, "heldout", HELD_OUT, seed=0)
    base = load(starting_model())
    follow_up = accuracy(FollowUpReward.from_pretrained(base, town_followups()), pairs)
    trained = interval([accuracy(reward_model(seed), pairs) for seed in SEEDS])
    holds = "yes" if follow_up >= trained.mean - LOSS else "no"
    rows = [
        (
            "follow-up likelihood",
            0,
            f"{follow_up:.3f}",
            f"within {LOSS} of the reward model: {holds}",
        ),
        ("reward model (Bradley-Terry)", LABELED, str(trained), f"{len(SEEDS)} draws of labels"),
        ("likelihood of the answer", 0, f"{accuracy(DirectLikelihood.from_pretrained(base), pairs):.3f}", ""),
        ("length", 0, f"{accuracy(Length(), pairs):.3f}", "longer is better"),
    ]
    names = ("reward", "labels", "pairs ranked right", "note")
    claim = f"Rewards in the town: {TEST} pairs of a right and a faulty answer to held-out questions"
    record("town_reward_model", claim, [dict(zip(names, row, strict=True)) for row in rows])


if __name__ == "__main__":
    main()
