"""What the PPOTrainer of trl 1.12 computes in one iteration: `python tests/parity/peer_trl_ppo.py` writes its values.

Sampling, scores, rewards with the KL penalty, advantages, and two passes of losses with an optimizer step each: by the
peer's own `train`, of which nothing is replaced. Kept are the answers it drew, its log, and the weights it ends with.
"""

import os
import sys
from importlib import import_module
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

sys.path.insert(0, str(Path(__file__).parent.parent))
os.environ["HF_HUB_OFFLINE"] = "1"

import torch
from datasets import Dataset
from parity.cases import (
    ANSWER,
    CLIP,
    PASSES,
    PPO_EPS,
    PPO_KL,
    PPO_LAM,
    PPO_RATE,
    SAMPLES,
    VALUE_CLIP,
    VALUE_COEF,
    asked,
    critic,
    plain,
    record,
    reward_classifier,
    sketch,
    tables,
)
from tiny import tiny_tokenizer
from transformers import TrainerCallback

peer: Any = import_module("trl.experimental.ppo.ppo_trainer")  # has no types


def iteration(folder: Path, temperature: float, estimator: str) -> dict[str, Any]:
    logged: dict[str, float] = {}
    seen: list[list[int]] = []

    class Keep(TrainerCallback):
        def on_log(self, *arguments: Any, logs: Any = None, **more: Any) -> None:
            logged.update(logs)

    generation = peer.batch_generation

    def watched(*arguments: Any) -> Any:
        found = generation(*arguments)
        seen.extend(found[0].tolist())
        return found

    peer.batch_generation = watched
    tokenizer = tiny_tokenizer()
    prompts = [tokenizer(said)["input_ids"] for said in asked()]
    rows = Dataset.from_list([{"input_ids": ids} for ids in prompts * SAMPLES])
    arguments = peer.PPOConfig(
        output_dir=str(folder),
        per_device_train_batch_size=len(rows),
        total_episodes=len(rows),
        num_sample_generations=0,
        num_ppo_epochs=PASSES,
        response_length=ANSWER,
        temperature=temperature,
        kl_coef=PPO_KL,
        kl_estimator=estimator,
        cliprange=CLIP,
        cliprange_value=VALUE_CLIP,
        vf_coef=VALUE_COEF,
        lam=PPO_LAM,
        learning_rate=PPO_RATE,
        adam_epsilon=PPO_EPS,
        gradient_checkpointing=False,
        bf16=False,
        use_cpu=True,
        report_to="none",
        disable_tqdm=True,
        save_strategy="no",
        logging_steps=1,
        dataloader_pin_memory=False,
        seed=1,
    )
    policy, values = plain(0, folder), critic(folder)
    trainer = peer.PPOTrainer(
        args=arguments,
        processing_class=tokenizer,
        model=policy,
        ref_model=plain(1, folder),
        reward_model=reward_classifier(),
        value_model=values,
        train_dataset=rows,
        eval_dataset=rows,
        callbacks=[Keep],
    )
    trainer.train()
    peer.batch_generation = generation
    if any(tokenizer.pad_token_id in ids for ids in seen):
        raise SystemExit("an answer holds the padding token, from which on the peer does not learn: take another seed")
    names = ("loss/policy_avg", "loss/value_avg", "policy/approxkl_avg", "objective/kl", "objective/scores")
    return {
        "answers": seen,
        "log": {name: logged[name] for name in names},
        "policy": sketch(weight for _, weight in sorted(policy.named_parameters())),
        "critic": sketch(weight for _, weight in sorted(values.model.named_parameters())),
        "head": sketch([values.score.weight]),
    }


def main() -> None:
    """Write the values."""
    with TemporaryDirectory() as name:
        values: dict[str, Any] = {
            "temperature 1, k1": iteration(Path(name), 1.0, "k1"),
            "temperature 0.7, k3": iteration(Path(name), 0.7, "k3"),
        }
    masked_whiten: Any = peer.masked_whiten
    given = tables()
    values["whitened"] = sketch([masked_whiten(given["advantages"], given["mask"]) * given["mask"]])
    record("peer_trl_ppo", "trl", values)


if __name__ == "__main__":
    torch.manual_seed(0)
    main()
