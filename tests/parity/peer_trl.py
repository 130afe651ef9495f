"""What trl's trainers compute of the tiny models: `python tests/parity/peer_trl.py` writes `peer_trl.json`.

The losses of DPOTrainer, KTOTrainer and RewardTrainer on one batch, and the gradients they give.
"""

import json
import os
import sys
from importlib import import_module
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

sys.path.insert(0, str(Path(__file__).parent.parent))
os.environ["HF_HUB_OFFLINE"] = "1"

from datasets import Dataset
from parity.cases import (
    BAD_WEIGHT,
    BETA,
    CENTER,
    GOOD_WEIGHT,
    KTO_BETA,
    SMOOTHING,
    fill_adapter,
    gradients,
    plain,
    rated_records,
    record,
    scored_pairs,
    scorer_folder,
)
from peft import LoraConfig, get_peft_model
from test_agent_logs import PAIRS, parity_models
from tiny import pair_records, tiny_tokenizer
from transformers import AutoModelForSequenceClassification, AutoTokenizer

trl: Any = import_module("trl")  # has no types

SETTINGS: dict[str, Any] = {
    "use_cpu": True,
    "bf16": False,
    "report_to": "none",
    "disable_tqdm": True,
    "gradient_checkpointing": False,
    "dataloader_pin_memory": False,
    "train_sampling_strategy": "sequential",
}
LOSSES: dict[str, dict[str, Any]] = {
    "dpo": {"loss_type": "sigmoid"},
    "robust": {"loss_type": "robust", "label_smoothing": SMOOTHING},
    "ipo of token means": {"loss_type": "ipo"},
    "hinge": {"loss_type": "hinge"},
}


def loss_and_gradients(trainer: Any) -> list[float]:
    """The loss of the first batch, and the sketch of its gradients."""
    loss = trainer.compute_loss(trainer.model, next(iter(trainer.get_train_dataloader())))
    loss.backward()
    return [loss.item(), *gradients(trainer.model)]


def preference_loss(options: dict[str, Any], adapter: bool, folder: Path) -> tuple[list[float], list[Any]]:
    """The loss with its gradients, and the ids that it is of: the peer renders them itself."""
    rows = [{**row, "prompt": row["prompt"] + " "} for row in pair_records(6)]
    model: Any = plain(0, folder)
    if adapter:
        lora = LoraConfig(r=2, lora_alpha=4, target_modules="all-linear", lora_dropout=0.0, task_type="CAUSAL_LM")
        model = get_peft_model(model, lora)
    arguments = trl.DPOConfig(
        str(folder), per_device_train_batch_size=len(rows), beta=BETA, max_length=None, **options, **SETTINGS
    )
    trainer = trl.DPOTrainer(
        model,
        None if adapter else plain(1, folder),
        args=arguments,
        train_dataset=Dataset.from_list(rows),
        processing_class=tiny_tokenizer(),
    )
    if adapter:
        fill_adapter(trainer.model)
    return loss_and_gradients(trainer), pair_ids(trainer)


def pair_ids(trainer: Any) -> list[Any]:
    """Prompt, chosen and rejected of every pair of a trainer."""
    columns = (trainer.train_dataset[f"{name}_ids"] for name in ("prompt", "chosen", "rejected"))
    return [list(row) for row in zip(*columns, strict=True)]


def kto_loss(seeds: tuple[int, int], folder: Path) -> dict[str, Any]:
    """The loss, and the ids that it is of: the peer renders them itself."""
    policy, reference = (plain(seed, folder) for seed in seeds)
    arguments = trl.KTOConfig(
        str(folder),
        per_device_train_batch_size=6,
        beta=KTO_BETA,
        desirable_weight=GOOD_WEIGHT,
        undesirable_weight=BAD_WEIGHT,
        **SETTINGS,
    )
    rows = [{**row, "prompt": row["prompt"] + " "} for row in rated_records()]
    trainer = trl.KTOTrainer(
        policy,
        reference,
        args=arguments,
        train_dataset=Dataset.from_list(rows),
        processing_class=tiny_tokenizer(),
    )
    values = loss_and_gradients(trainer)
    ids = [[row["prompt_ids"], row["completion_ids"], row["label"]] for row in trainer.train_dataset]
    return {"loss": values, "divergence": trainer._metrics["eval"]["kl"], "ids": ids}


def reward_loss(folder: Path) -> list[float]:
    path, batch = scorer_folder(folder / "scorer"), scored_pairs()
    rows = [
        {
            "chosen_ids": [*pair.prompt_ids, *pair.chosen_ids],
            "rejected_ids": [*pair.prompt_ids, *pair.rejected_ids],
            "margin": pair.margin,
        }
        for pair in batch
    ]
    arguments = trl.RewardConfig(
        str(folder), per_device_train_batch_size=len(batch), center_rewards_coefficient=CENTER, **SETTINGS
    )
    trainer = trl.RewardTrainer(
        AutoModelForSequenceClassification.from_pretrained(path, num_labels=1),
        args=arguments,
        train_dataset=Dataset.from_list(rows),
        processing_class=AutoTokenizer.from_pretrained(path),
    )
    return loss_and_gradients(trainer)


def agents_loss(folder: Path) -> dict[str, Any]:
    """The DPO loss of rows with tools, calls, results and thoughts, and their ids.

    Elsewhere the peer's ids go on to the line break that a template writes after the end of a turn, which nobody
    samples; the template of these rows writes none.
    """
    policy, reference = parity_models()
    *rows, last = PAIRS
    chosen, rejected = last["chosen"], last["rejected"]
    rows.append({**last, "prompt": chosen[:-1], "chosen": chosen[-1:], "rejected": rejected[-1:]})
    data = Dataset.from_list([{**row, "tools": json.dumps(row["tools"])} for row in rows])
    arguments = trl.DPOConfig(
        str(folder), per_device_train_batch_size=len(rows), beta=BETA, max_length=None, **SETTINGS
    )
    trainer = trl.DPOTrainer(
        policy.base, reference.base, args=arguments, train_dataset=data, processing_class=policy.tokenizer
    )
    return {"loss": loss_and_gradients(trainer)[:1], "ids": pair_ids(trainer)}


def main() -> None:
    """Write the values."""
    values: dict[str, Any] = {}
    with TemporaryDirectory() as name:
        folder = Path(name)
        for loss, options in LOSSES.items():
            values[loss], values["pairs"] = preference_loss(options, False, folder)
            values[f"{loss}, adapter"], _ = preference_loss(options, True, folder)
        values["kto"] = kto_loss((0, 1), folder)
        values["kto, swapped"] = kto_loss((1, 0), folder)
        values["reward model"] = reward_loss(folder)
        values["agents' logs, dpo"] = agents_loss(folder)
    record("peer_trl", "trl", values)


if __name__ == "__main__":
    main()
