"""One DPO step against `trl`'s DPOTrainer: a shared prompt is computed once, and logits where they are asked for.

Both sides run forward, backward, clipping and AdamW on the same pairs with the same weights and the same reference, a
model of its own, so that the losses are not the constant of a fresh policy. All pairs are one batch on both sides.
Linear layers are computed by the same library, and where Uptake chooses another one than PyTorch, by PyTorch's in a
second line.
"""

import random
from collections.abc import Callable
from importlib import import_module
from typing import Any

import torch
from _harness import compare, multiplied, peak_bytes, peer_products, record
from _model import llama, text, tokenizer
from datasets import Dataset
from transformers import LlamaForCausalLM

from uptake.losses.pairwise import Logistic
from uptake.models import LanguageModel, prepare
from uptake.objective import Pairs
from uptake.reference.frozen import FrozenModel
from uptake.types import Pair
from uptake.update import Optimization, build_optimizer, optimizer_step, trainable

BATCH, PROMPT, ANSWER, BETA, LR = 8, 256, 96, 0.1, 1e-5


def model(seed: int) -> LlamaForCausalLM:
    """About 30 M parameters, half of them the vocabulary's."""
    ends = {"pad_token_id": 0, "eos_token_id": tokenizer().eos_token_id}
    return llama(384, 1024, 10, heads=6, seed=seed, max_position_embeddings=512, **ends)


def rows() -> list[dict[str, str]]:
    """Random words; an answer is one token short, since both sides close it with the end-of-turn token."""
    rng = random.Random(0)
    sides = {"prompt": PROMPT, "chosen": ANSWER - 1, "rejected": ANSWER - 1}
    made = [{name: text(rng, words) for name, words in sides.items()} for _ in range(BATCH)]
    return [{**row, "prompt": row["prompt"] + " "} for row in made]


def our_step() -> Callable[[], float]:
    policy = prepare(model(0), tokenizer())
    settings = Optimization(lr=LR, batch_size=BATCH, clip=1.0)
    optimizer = build_optimizer(settings, trainable(policy).values())
    reference = FrozenModel(prepare(model(1), tokenizer()))
    pairs = [pair(row, policy) for row in rows()]
    objective = Pairs(Logistic(BETA))
    return lambda: optimizer_step(policy, reference, objective, pairs, optimizer, settings)["loss"]


def pair(row: dict[str, str], policy: LanguageModel) -> Pair:
    end = policy.tokenizer.eos_token_id
    prompt_ids = tuple(policy.tokenizer(row["prompt"])["input_ids"])

    def ids(text: str) -> tuple[int, ...]:
        return (*policy.tokenizer(text)["input_ids"], end)

    return Pair(prompt_ids, ids(row["chosen"]), ids(row["rejected"]))


def peer_step() -> Callable[[], float]:
    trl: Any = import_module("trl")  # has no types
    arguments = trl.DPOConfig(
        output_dir="/tmp/uptake-bench-dpo",
        per_device_train_batch_size=BATCH,
        learning_rate=LR,
        beta=BETA,
        max_length=PROMPT + ANSWER,
        gradient_checkpointing=False,
        bf16=False,
        use_cpu=not torch.cuda.is_available(),
        report_to="none",
        disable_tqdm=True,
        save_strategy="no",
        logging_strategy="no",
        dataloader_pin_memory=False,
        seed=0,
    )
    trainer = trl.DPOTrainer(
        model=model(0),
        ref_model=model(1),
        args=arguments,
        train_dataset=Dataset.from_list(rows()),
        processing_class=tokenizer(),
    )
    trainer.create_optimizer()
    trainer.current_gradient_accumulation_steps = 1  # set by `train`, which would add logging to the time
    batch = next(iter(trainer.get_train_dataloader()))

    def step() -> float:
        loss = float(trainer.training_step(trainer.model, batch))
        torch.nn.utils.clip_grad_norm_(trainer.model.parameters(), 1.0)
        trainer.optimizer.step()
        trainer.optimizer.zero_grad()
        return loss

    return step


def main() -> None:
    ours, peer = our_step(), peer_step()
    losses = [(ours(), peer()) for _ in range(2)]
    for step, (mine, theirs) in enumerate(losses):
        print(f"loss of step {step}: uptake {mine:.6f}, trl {theirs:.6f}")
        if abs(mine - theirs) > 1e-4:
            raise SystemExit("the two sides do not compute the same loss")
    speeds = {  # both have taken two steps
        name: compare(ours, multiplied(peer, products), repeats=5, warmup=0)
        for name, products in peer_products().items()
    }
    memory = [peak_bytes(side)[0] for side in (our_step, peer_step)]
    record(
        "dpo",
        f"One DPO step, {BATCH} pairs of {PROMPT} + 2 x {ANSWER} tokens, 30 M parameters, fp32, against trl",
        [
            *(
                {
                    "measure": f"seconds a step, products: {name}",
                    "uptake": str(speed.ours),
                    "trl": str(speed.peer),
                    "ratio": str(speed.ratio),
                }
                for name, speed in speeds.items()
            ),
            {
                "measure": "peak memory, GiB",
                "uptake": f"{memory[0] / 2**30:.2f}",
                "trl": f"{memory[1] / 2**30:.2f}",
                "ratio": f"{memory[0] / memory[1]:.2f}",
            },
            {
                "measure": "loss of the second step",
                "uptake": f"{losses[1][0]:.6f}",
                "trl": f"{losses[1][1]:.6f}",
                "ratio": f"difference {abs(losses[1][0] - losses[1][1]):.1e}",
            },
        ],
    )


if __name__ == "__main__":
    main()
