"""Parity of the DPO loss with TRL on rows with tools, calls, results and thoughts; prints both.

What TRL says is kept in tests/test_agent_logs.py, which compares with it in every run. Its ids go on to the line break
that a template writes after the end of a turn, which nobody samples; the template of this comparison writes none.
"""

import json
import sys
from importlib import import_module
from pathlib import Path
from tempfile import mkdtemp
from typing import Any

from datasets import Dataset

sys.path.insert(0, str(Path(__file__).parent.parent / "tests"))


def main() -> None:
    """Print the loss of both on one batch, and whether the ids are the same."""
    trl: Any = import_module("trl")  # has no types
    logs: Any = import_module("test_agent_logs")
    policy, reference = logs.parity_models()
    settings: dict[str, Any] = {"max_length": None, "beta": 0.1, "learning_rate": 0.0, "max_steps": 1}
    settings |= {"use_cpu": True, "bf16": False, "report_to": [], "gradient_checkpointing": False}
    arguments = trl.DPOConfig(mkdtemp(), per_device_train_batch_size=len(logs.PAIRS), **settings)
    *rows, last = logs.PAIRS
    chosen, rejected = last["chosen"], last["rejected"]
    rows.append({**last, "prompt": chosen[:-1], "chosen": chosen[-1:], "rejected": rejected[-1:]})
    data = Dataset.from_list([{**row, "tools": json.dumps(row["tools"])} for row in rows])
    trainer = trl.DPOTrainer(
        policy.base, reference.base, args=arguments, train_dataset=data, processing_class=policy.tokenizer
    )
    loss, pairs = logs.dpo_loss(policy, reference)
    theirs = zip(*(trainer.train_dataset[f"{name}_ids"] for name in ("prompt", "chosen", "rejected")), strict=True)
    same = [tuple(map(list, (each.prompt_ids, each.chosen_ids, each.rejected_ids))) for each in pairs] == list(theirs)
    batch = next(iter(trainer.get_train_dataloader()))
    print(f"TRL {float(trainer.compute_loss(trainer.model, batch)):.10f}, Uptake {loss:.10f}, ids equal: {same}")


if __name__ == "__main__":
    main()
