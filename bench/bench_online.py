"""One online step against `trl`'s OnlineDPOTrainer: sample, ask an annotator in both orders, learn.

Both sides sample two answers of the same length to the same prompts, show the same annotator (a model of the policy's
size, in this process) the same questions, and take one optimizer step with a reference model. The peer's annotator is a
reward function that does it the plain way: one row per order, the logits at its end. Linear layers are computed by the
same library, and where Uptake chooses another one than PyTorch, by PyTorch's in a second line.
"""

import random
import tempfile
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any

import torch
from _harness import compare, multiplied, peer_products, record
from _model import llama, text, tokenizer
from datasets import Dataset
from transformers import LlamaForCausalLM

from uptake import ChatFormat, Prompt, Turn, World, methods
from uptake.annotators.llm import LLMJudge
from uptake.annotators.question import Instructions
from uptake.models import prepare
from uptake.support.keys import prompt_key
from uptake.train.loop import Learner
from uptake.train.rounds import collect
from uptake.train.run_folder import RunLog

PROMPTS, PROMPT, ANSWER, BETA, LR, REPEATS = 8, 256, 96, 0.1, 1e-5, 3
INSTRUCTIONS = Instructions("w1 w2 w3 {prompt} w4 {first} w5 {second} w6 ", cue="w7 ")


def model(seed: int) -> LlamaForCausalLM:
    """About 30 M parameters. No token ends an answer, so that all have the same length."""
    return llama(384, 1024, 10, heads=6, seed=seed, pad_token_id=0, eos_token_id=None)


def prompts() -> list[str]:
    rng = random.Random(0)
    return [text(rng, PROMPT) for _ in range(PROMPTS)]


def our_step(folder: Path) -> Callable[[], object]:
    policy = prepare(model(0), tokenizer())
    turns = [(Turn("user", said),) for said in prompts()]
    rows = [Prompt(each, prompt_key(each)) for each in turns]
    world = World(policy, ChatFormat.of(policy), rows, {"judge": prepare(model(2), tokenizer())}, folder)
    instructions = folder / "instructions.txt"
    instructions.write_text(f"{INSTRUCTIONS.text}\n{INSTRUCTIONS.cue}")
    options = {
        "judge": {"model": {"instructions": str(instructions), "min_share": 0.0}},
        "batch_size": PROMPTS,
        "max_new_tokens": ANSWER,
        "optimizer": "adamw",
        "lr": LR,
        "beta": BETA,
    }
    (stage,) = methods.build("online_ai_feedback", options).stages
    learner, log = Learner(stage, world), RunLog(folder, 0)
    rounds = iter(range(1000))

    def step() -> object:
        data = collect(stage, learner.world, log, (0, next(rounds)), version=0)
        return learner.step(data.examples, LR)

    return step


def peer_step(folder: Path) -> Callable[[], object]:
    trl: Any = import_module("trl.experimental.online_dpo")  # has no types
    arguments = trl.OnlineDPOConfig(
        output_dir=str(folder),
        per_device_train_batch_size=PROMPTS,
        learning_rate=LR,
        beta=BETA,
        max_new_tokens=ANSWER,
        max_length=PROMPT + ANSWER,
        temperature=0.9,
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
    trainer = trl.OnlineDPOTrainer(
        model=model(0),
        ref_model=model(1),
        reward_funcs=plain_annotator(),
        args=arguments,
        train_dataset=Dataset.from_list([{"prompt": said} for said in prompts()]),
        processing_class=tokenizer(),
    )
    trainer.create_optimizer()
    trainer.current_gradient_accumulation_steps = 1  # set by `train`, which would add logging to the time
    batch = next(iter(trainer.get_train_dataloader()))

    def step() -> object:
        loss = trainer.training_step(trainer.model, dict(batch))
        torch.nn.utils.clip_grad_norm_(trainer.model.parameters(), 1.0)
        trainer.optimizer.step()
        trainer.optimizer.zero_grad()
        return loss

    return step


def plain_annotator() -> Callable[..., list[float]]:
    """P(better) of every answer: one row per order, one batch an order, logits at the last position."""
    judge = model(2)
    one, two = map(tokenizer().convert_tokens_to_ids, ("1", "2"))

    @torch.no_grad()
    def shown_first(questions: list[str]) -> list[float]:
        batch = tokenizer()(questions, return_tensors="pt", padding=True)
        logits = judge(**batch, use_cache=False, logits_to_keep=1).logits[:, -1]
        found: list[float] = logits[:, [one, two]].softmax(-1)[:, 0].tolist()
        return found

    def annotate(prompts: list[str], completions: list[str], **_: object) -> list[float]:
        half = len(prompts) // 2
        compared = list(zip(prompts[:half], completions[:half], completions[half:], strict=True))
        filled = [[_filled(prompt, *order) for prompt, *order in each] for each in (compared, _swapped(compared))]
        first, second = map(shown_first, filled)
        ps = [(p + 1 - q) / 2 for p, q in zip(first, second, strict=True)]
        return ps + [1 - p for p in ps]

    return annotate


def _swapped(compared: list[tuple[str, str, str]]) -> list[tuple[str, str, str]]:
    return [(prompt, two, one) for prompt, one, two in compared]


def _filled(prompt: str, first: str, second: str) -> str:
    turns = (Turn("user", prompt),)
    return f"{INSTRUCTIONS(Prompt(turns, ''), first, second)}{INSTRUCTIONS.cue}"


def largest_difference() -> float:
    """Between the probabilities that the two annotators give the same compared."""
    rng = random.Random(1)
    compared = [(prompt, text(rng, ANSWER), text(rng, ANSWER)) for prompt in prompts()]
    judge = LLMJudge(prepare(model(2), tokenizer()), INSTRUCTIONS, min_share=0.0)
    asked = [Prompt((Turn("user", prompt),), "") for prompt, *_ in compared]
    ours = [verdict.p for verdict in judge.compare(asked, [(one, two) for _, one, two in compared])]
    both = [2 * [prompt for prompt, *_ in compared], [one for _, one, _ in compared] + [two for *_, two in compared]]
    theirs = plain_annotator()(*both)[: len(compared)]
    return max(abs(one - other) for one, other in zip(ours, theirs, strict=True))


def main() -> None:
    difference = largest_difference()
    if difference > 1e-4:
        raise SystemExit(f"the two annotators differ by {difference:.1e}")
    with tempfile.TemporaryDirectory() as folder:
        ours, peer = our_step(Path(folder)), peer_step(Path(folder) / "trl")
        speeds = {
            name: compare(ours, multiplied(peer, products), REPEATS) for name, products in peer_products().items()
        }
    record(
        "online",
        f"One online step, {PROMPTS} prompts of {PROMPT} tokens, 2 answers of {ANSWER}, 30 M parameters, against trl",
        [
            {
                "measure": f"seconds a step, products: {name}",
                "uptake": str(speed.ours),
                "trl": str(speed.peer),
                "trl / uptake": str(speed.ratio),
                "largest difference of a verdict": f"{difference:.1e}",
            }
            for name, speed in speeds.items()
        ],
    )


if __name__ == "__main__":
    main()
