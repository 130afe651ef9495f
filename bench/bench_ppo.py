"""One PPO iteration against `trl`'s PPOTrainer: sample, score, look up the reference, and four passes of updates.

Both sides have a policy, a reference and a separate critic of about 30 M parameters and the same small reward model;
no token ends an answer. First both learn from the very same answers, and their losses are compared.
PPOTrainer has left trl; this needs the last release that has it, without the rest of its needs:

    pip install --no-deps --target trl-1.12 trl==1.12.0
    PYTHONPATH=trl-1.12 python bench/bench_ppo.py
    PYTHONPATH=trl-1.12 PROMPTS=4 SAMPLES=4 python bench/bench_ppo.py

All answers to a prompt share its tokens here, where the peer repeats it. Both sides learn from four answers at a time.
They are measured in turn, each time in a process of its own, in seconds by the clock and in CPU seconds of all threads:
the first count, and mean something on a machine without other work only. Linear layers are computed by the same
library, and where Uptake chooses another one than PyTorch, by PyTorch's in further lines.
"""

import os
import random
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from importlib import import_module
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import torch
from _harness import multiplied, peer_products, record, spread
from _model import llama, text, tokenizer
from datasets import Dataset
from transformers import LlamaConfig, LlamaForCausalLM, LlamaForSequenceClassification, TrainerCallback

from uptake import ChatFormat, Prompt, Turn, World, methods
from uptake.methods import ppo
from uptake.models import prepare
from uptake.rewards.function import FromFunction
from uptake.support.keys import prompt_key
from uptake.support.memory import peak_memory
from uptake.train.checkpoint import Cursor
from uptake.train.loop import Learner
from uptake.train.rounds import collect, prepare_round
from uptake.train.run_folder import RunLog
from uptake.types import Rollout

PROMPTS = int(os.environ.get("PROMPTS", "32"))
# Answers to each prompt; the peer gets the prompt as often.
SAMPLES = int(os.environ.get("SAMPLES", "1"))
REPEATS = int(os.environ.get("REPEATS", "3"))
TEMPERATURE = float(os.environ.get("TEMPERATURE", "1"))
PROMPT, ANSWER, EPOCHS, LR = 128, 64, 4, 1e-5
# Answers of a micro-batch, each with its prompt on the peer's side.
MICRO = 4
# Of the peer, whose answers must not hold its padding token.
SEED = int(os.environ.get("SEED", "1"))
# What the peer cannot choose: one lambda, a clipped value loss in the policy's own optimizer, no clip of gradients.
OPTIONS: Mapping[str, Any] = {
    "prompts": PROMPTS,
    "n": SAMPLES,
    "temperature": TEMPERATURE,
    "max_new_tokens": ANSWER,
    "epochs": EPOCHS,
    "center_scores": False,
    "penalty": 0.0,
    "reference": "given",
    "value_lam": 0.95,
    "value_clip": 0.2,
    "value_coef": 0.1,
    "critic_warmup": 0,
    "lr": LR,
    "critic_lr": None,
    "eps": 1e-8,
    "clip": None,
    "micro_tokens": MICRO * (PROMPT + ANSWER) if SAMPLES == 1 else MICRO // SAMPLES * (PROMPT + SAMPLES * ANSWER),
}


def model(seed: int) -> LlamaForCausalLM:
    return llama(384, 1024, 10, heads=6, seed=seed, pad_token_id=0, eos_token_id=None)


def critic() -> LlamaForSequenceClassification:
    """The policy's backbone under a zero head."""
    start = model(0)
    start.config.num_labels = 1
    made = LlamaForSequenceClassification(start.config)
    made.model.load_state_dict(start.model.state_dict())
    torch.nn.init.zeros_(made.score.weight)
    return made


def reward_model() -> LlamaForSequenceClassification:
    torch.manual_seed(3)
    config = LlamaConfig(
        vocab_size=32_000,
        hidden_size=64,
        intermediate_size=64,
        num_hidden_layers=1,
        num_attention_heads=1,
        pad_token_id=0,
    )
    config.num_labels = 1
    made = LlamaForSequenceClassification(config)
    made.eval()
    return made


def prompts() -> list[str]:
    rng = random.Random(0)
    return [text(rng, PROMPT) for _ in range(PROMPTS)]


def learner(folder: Path) -> tuple[Learner, RunLog]:
    """Our side of the iteration, ready to go."""
    policy = prepare(model(0), tokenizer())
    turns = [(Turn("user", said),) for said in prompts()]
    rows = [Prompt(each, prompt_key(each)) for each in turns]
    world = World(policy, ChatFormat.of(policy), rows, {"reference": prepare(model(1), tokenizer())}, folder)
    rewards = reward_model()

    @torch.no_grad()
    def score(rollout: Rollout) -> float:
        return float(rewards(torch.tensor([[*rollout.prompt_ids, *rollout.response_ids]])).logits)

    config: Any = methods.configure("ppo", OPTIONS)
    (stage,) = ppo.build(config, FromFunction(score)).stages
    return Learner(stage, world), RunLog(folder, 0)


def passes(side: Learner, log: RunLog, examples: Sequence[Any]) -> tuple[float, float]:
    """All epochs on some examples; the mean losses of policy and critic."""
    prepared, _ = prepare_round(side.stage, side.world, side.reference, log, Cursor(), examples)
    steps = [side.step(prepared, LR) for _ in range(EPOCHS)]
    policy, value = (sum(step[name] for step in steps) / EPOCHS for name in ("policy_loss", "value_loss"))
    return policy, value


def our_iteration(folder: Path) -> Callable[[], object]:
    side, log = learner(folder)
    return lambda: passes(side, log, collect(side.stage, side.world, log, (0, 0), version=0).examples)


def our_losses(folder: Path, answered: Sequence[Sequence[int]]) -> tuple[float, float]:
    """The losses of our side on answers that are given, prompts and all."""
    side, log = learner(folder)
    _, judge, signal = side.stage.sampling
    groups = [
        (Rollout(Prompt((), str(ids[:PROMPT])), tuple(ids[:PROMPT]), tuple(ids[PROMPT:]), "", finished=False),)
        for ids in answered
    ]
    return passes(side, log, signal(groups, judge.start(side.world)(groups)).examples)


def peer_iteration(folder: Path, products: str) -> Callable[[], object]:
    trl: Any = import_module("trl.experimental.ppo.ppo_trainer")  # has no types
    logged: dict[str, float] = {}
    seen: list[list[int]] = []

    class Keep(TrainerCallback):
        def on_log(self, *arguments: Any, logs: Any = None, **more: Any) -> None:
            logged.update(logs)

    generation = trl.batch_generation

    def watched(*arguments: Any) -> Any:
        found = generation(*arguments)
        seen.extend(found[0].tolist())
        return found

    trl.batch_generation = watched
    rows = Dataset.from_list([{"input_ids": tokenizer()(said)["input_ids"]} for said in prompts() * SAMPLES])
    arguments = trl.PPOConfig(
        output_dir=str(folder),
        per_device_train_batch_size=MICRO,
        gradient_accumulation_steps=PROMPTS * SAMPLES // MICRO,
        total_episodes=PROMPTS * SAMPLES,
        num_sample_generations=0,
        num_ppo_epochs=EPOCHS,
        response_length=ANSWER,
        temperature=TEMPERATURE,
        learning_rate=LR,
        gradient_checkpointing=False,
        bf16=False,
        use_cpu=not torch.cuda.is_available(),
        report_to="none",
        disable_tqdm=True,
        save_strategy="no",
        logging_steps=1,
        dataloader_pin_memory=False,
        seed=SEED,
    )
    trainer = trl.PPOTrainer(
        args=arguments,
        processing_class=tokenizer(),
        model=model(0),
        ref_model=model(1),
        reward_model=reward_model(),
        value_model=critic(),
        train_dataset=rows,
        eval_dataset=rows,
        callbacks=[Keep],
    )
    # Else its one batch, which is the last of its loader, has the optimizer step after every micro-batch.
    trainer.accelerator.gradient_state.plugin_kwargs["sync_with_dataloader"] = False

    def iteration() -> object:
        trainer.train()
        return logged["loss/policy_avg"], logged["loss/value_avg"], seen

    return multiplied(iteration, peer_products()[products])


def measured(side: Callable[..., Callable[[], object]], *how: str) -> tuple[float, float, float, Any]:
    """Seconds, CPU seconds, peak resident GiB and the result of one iteration."""
    with tempfile.TemporaryDirectory() as folder:
        iteration = side(Path(folder), *how)
        Path("/proc/self/clear_refs").write_text("5")
        begin, spent = time.perf_counter(), time.process_time()
        result = iteration()
        return time.perf_counter() - begin, time.process_time() - spent, peak_memory() / 2**30, result


def alone(function: Callable[..., Any], *arguments: Any) -> Any:
    """A call in a process of its own."""
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        return pool.submit(function, *arguments).result()


def losses_on(answered: Sequence[Sequence[int]]) -> tuple[float, float]:
    """Our losses on the peer's answers."""
    if any(0 in ids for ids in answered):
        raise SystemExit("an answer holds the peer's padding token, from which on it does not learn")
    with tempfile.TemporaryDirectory() as folder:
        found: tuple[float, float] = alone(our_losses, Path(folder), answered)
    return found


def main() -> None:
    *_, (policy, value, answered) = alone(measured, peer_iteration, next(iter(peer_products())))
    losses = losses_on(answered)
    print(f"policy loss {losses[0]:.6f}, trl {policy:.6f}; value loss {losses[1]:.6f}, trl {value:.6f}")
    difference = max(abs(losses[0] - policy), abs(losses[1] - value))
    if difference > 1e-5:
        raise SystemExit("the two sides do not compute the same losses")
    rows = []
    for name in peer_products():
        rounds = [(alone(measured, our_iteration), alone(measured, peer_iteration, name)) for _ in range(REPEATS)]
        rows += [
            {
                "measure": f"{measure}, products: {name}",
                "uptake": spread([ours[place] for ours, _ in rounds]),
                "trl": spread([peer[place] for _, peer in rounds]),
                "trl / uptake": spread([peer[place] / ours[place] for ours, peer in rounds]),
            }
            for place, measure in enumerate(("seconds", "CPU seconds", "peak memory, GiB"))
        ]
    rows.append(
        {
            "measure": "losses of policy and critic on the same answers, largest difference",
            "uptake": f"{losses[0]:.6f}, {losses[1]:.6f}",
            "trl": f"{policy:.6f}, {value:.6f}",
            "trl / uptake": f"{difference:.1e}",
        }
    )
    setting = ("" if SAMPLES == 1 else f"_{SAMPLES}_samples") + ("" if TEMPERATURE == 1 else f"_at_{TEMPERATURE}")
    each = "one answer" if SAMPLES == 1 else f"{SAMPLES} answers"
    record(
        f"ppo{setting}",
        f"One PPO iteration, {PROMPTS} prompts of {PROMPT} tokens, {each} of {ANSWER} to each, {EPOCHS} passes, "
        f"temperature {TEMPERATURE:g}, policy, reference and critic of 30 M parameters, fp32, against trl 1.12",
        rows,
    )


if __name__ == "__main__":
    main()
