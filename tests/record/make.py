"""Make the record of what every command computes: `python tests/record/make.py [NAME ...]` writes `NAME.json` here.

A record says in words of its own what a command did: losses, sampled ids, judgements, rows, weights. So names in
`uptake` and formats on disk may change; then the lines below "What is read from disk" change with them, and no JSON
does. `tests/test_record.py` computes the same again and compares. Make a record again only where numbers are meant to
change, and say why in the commit.

Commands run through the command line on tiny random models and data with fixed seeds, in a folder of their own, on one
thread.
"""

import json
import os
import platform
import random
import sys
from collections.abc import Callable, Iterable, Mapping
from contextlib import chdir, redirect_stderr, redirect_stdout
from hashlib import sha256
from io import StringIO
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

# As a program this file finds its neighbours itself, and asks no server for models that lie in folders.
RECORDS = Path(__file__).parent
if __name__ == "__main__":
    sys.path.insert(0, str(RECORDS.parent))
    os.environ.update(HF_HUB_OFFLINE="1", OMP_NUM_THREADS="1")

import torch  # noqa: E402
from safetensors.torch import load_file  # noqa: E402
from tiny import (  # noqa: E402
    WORDS,
    answered_records,
    pair_records,
    prompt_records,
    read_jsonl,
    saved,
    tiny_llama,
    tiny_tokenizer,
    write_followups,
    write_jsonl,
)
from transformers import LlamaConfig, LlamaForTokenClassification  # noqa: E402

from uptake import cli  # noqa: E402
from uptake.town import Town  # noqa: E402

Record = dict[str, Any]
Options = Mapping[str, Any]

# Training of few and small steps: what another processor rounds otherwise stays below the tolerances.
UPDATE: Options = {"lr": 1e-3, "batch_size": 4, "warmup": 1, "micro_tokens": 60}
SAMPLING: Options = {"n": 4, "temperature": 1.0, "top_p": 0.9, "max_new_tokens": 8, "followups": "followups.yaml"}
# An untrained model seldom ends a sentence.
PAIRING: Options = {"keep_unfinished": True, "max_length_ratio": 100.0, "min_category_agreement": 0.6}
PPO: Options = {
    "prompts": 4, "n": 2, "max_new_tokens": 8, "rounds": 3, "epochs": 1, "minibatches": 2, "lr": 1e-3,
    "critic_lr": 3e-3, "micro_tokens": 60, "whiten": "population",
}  # fmt: skip
# The exact quality of both, without a temperature: the better one with certainty.
ORACLE = "{from_reward: {reward: oracle, temperature: null}}"
BRIEF = "when {prompt} 1 {first} 2 {second}\nbread ="


# --- Models and data --------------------------------------------------------------------------------------------------


def policy() -> Path:
    return saved(tiny_llama(), Path("policy"))


def user() -> Path:
    """The model that says what users would say, with its follow-ups."""
    write_followups(Path())
    return saved(tiny_llama(seed=1), Path("user"))


def judge() -> Path:
    """The model that is asked which of two responses is better, with its instructions."""
    Path("brief.txt").write_text(BRIEF)
    words = tiny_tokenizer((*WORDS, "1", "2", "="))
    return saved(tiny_llama(seed=2, tokenizer=words, max_position_embeddings=128), Path("judge"))


def townsman() -> Path:
    """A policy that has the words of the town, and answers of unequal length."""
    words = tiny_tokenizer(Town().vocabulary())
    return saved(tiny_llama(seed=1, tokenizer=words, initializer_range=0.7), Path("townsman"))


def token_rater() -> Path:
    """A token classifier of plain Transformers that rates by one number."""
    tokenizer = tiny_tokenizer()
    shape = {"hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 1, "num_attention_heads": 2}
    ends = {"bos_token_id": None, "eos_token_id": tokenizer.eos_token_id, "pad_token_id": tokenizer.pad_token_id}
    config = LlamaConfig(
        vocab_size=len(tokenizer), num_labels=1, max_position_embeddings=96, initializer_range=0.4, **shape, **ends
    )
    with torch.random.fork_rng():
        torch.manual_seed(3)
        model: Any = LlamaForTokenClassification(config)
    folder = Path("recorded-token-rater")
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def town_records(count: int) -> list[Record]:
    """Questions of the town with a right and a faulty answer, of which every fourth has no fault."""
    town, rng = Town(), random.Random(0)
    return [
        {
            "prompt": asked.text,
            "chosen": town.answer(asked, None, rng),
            "rejected": town.answer(asked, rng.choice(town.faults(asked)) if place % 4 else None, rng),
        }
        for place, asked in enumerate(town.questions(count, seed=2, split="train"))
    ]


def edited_records(count: int) -> list[Record]:
    """Answers with one word dropped, and every third one with a marked word in its place."""
    records = answered_records(count, seed=4)
    for place, record in enumerate(records):
        first, *rest = record["completion"].split()
        if place % 3:
            record["edited"] = " ".join(rest) or "bread"
        else:
            record["spans"] = [{"start": 0, "end": len(first), "label": "bad"}]
    return records


def reactions(count: int) -> list[Record]:
    """Conversations that end with a user's words about a response."""
    said = ("thanks .", "wrong .", "it helped .")
    return [
        {
            "messages": [
                {"role": "user", "content": record["prompt"]},
                {"role": "assistant", "content": record["completion"]},
                {"role": "user", "content": said[place % 3]},
            ]
        }
        for place, record in enumerate(answered_records(count))
    ]


# --- How commands are called ------------------------------------------------------------------------------------------


def uptake(*arguments: object, code: int = 0) -> None:
    """Run the command line in this process; an error where it ends with another code."""
    before, said = sys.argv, StringIO()
    sys.argv = ["uptake", *map(str, arguments)]
    found: object = 0
    try:
        with redirect_stdout(said), redirect_stderr(said):
            cli.main()
    except SystemExit as end:
        found = end.code or 0
    finally:
        sys.argv = before
    if found != code:
        raise RuntimeError(f"uptake {' '.join(map(str, arguments))} ended with code {found}:\n{said.getvalue()}")


def train(
    method: str, model: Path, rows: Iterable[Record], options: Options, *more: object, samples: bool = False
) -> Record:
    """A training run: its steps, its samples with their judgements where it makes any, and the weights at its end."""
    data, run = write_jsonl(Path("rows.jsonl"), rows), Path("run")
    sets = (f"--set={name}={value}" for name, value in options.items())
    uptake("train", method, "--policy", model, "--data", data, "--out", run, *more, *sets)
    return {**steps(run), **({"samples": sampled(run)} if samples else {}), **weighed(trained(run))}


# --- What is read from disk -------------------------------------------------------------------------------------------


def steps(run: Path) -> Record:
    """What a run says of its optimizer steps."""
    lines = read_jsonl(run / "metrics.jsonl")
    names = {
        "rounds": "round",
        "losses": "loss",
        "gradient_norms": "grad_norm",
        "critic_gradient_norms": "module_grad_norm",
        "learning_rates": "lr",
        "token_counts": "tokens",
        "divergences": next((name for name in ("log_ratio", "reference_point") if name in lines[0]), "kl"),
    }
    return {ours: [line[name] for line in lines] for ours, name in names.items() if name in lines[0]}


def sampled(run: Path) -> list[Record]:
    """Every response that a run has sampled, in order, with its judgement."""
    rounds = sorted((run / "rounds").iterdir(), key=lambda folder: [*map(int, folder.name.split("-"))])
    lines = [(place, line) for place, folder in enumerate(rounds) for line in read_jsonl(folder / "judged.jsonl")]
    return [
        {
            "round": place,
            "prompt": rollout["prompt"]["turns"][-1]["content"],
            "ids": rollout["response_ids"],
            "text": rollout["response"],
            "finished": rollout["finished"],
            "logps": rollout["logps"],
            "valid": judgement["valid"],
            "score": judgement["score"],
            "parts": judgement["parts"],
            "token_scores": judgement["tokens"],
        }
        for place, line in lines
        for group, said_of in zip(line["groups"], line["assessments"], strict=True)
        for rollout, judgement in zip(group, by_response(said_of), strict=True)
    ]


def by_response(assessment: Any) -> list[Record]:
    """What was said of every response of a group: of a verdict, each side as it was shown in both orders."""
    if isinstance(assessment, list):
        return assessment
    (one, two), p = assessment["by_order"], assessment["p"]
    paid = {"tokens": float(assessment["tokens"]), "cost": assessment["cost"]}
    sides = (
        (p, {"shown_first": one, "shown_second": two} | paid),
        (1 - p, {"shown_first": 1 - two, "shown_second": 1 - one}),
    )
    return [{"valid": assessment["valid"], "score": score, "parts": parts, "tokens": []} for score, parts in sides]


def trained(run: Path) -> dict[str, torch.Tensor]:
    """The weights at the end: those of the model's folder, which is Transformers', and those of a critic beside it."""
    weights = {
        name: weight for path in (run / "model").glob("*.safetensors") for name, weight in load_file(path).items()
    }
    last = max((run / "checkpoints").iterdir())
    beside = load_file(last / "weights.safetensors")
    prefix = "heads.value."
    return weights | {
        f"critic.{name.removeprefix(prefix)}": weight for name, weight in beside.items() if name.startswith(prefix)
    }


def rated(row: Record, side: str = "") -> Record:
    """The columns that `score` adds for one response."""
    names = {"score": "reward", "by_category": "by_category", "follow_up_logps": "logps", "spans": "reward_spans"}
    return {ours: row[f"{side}{name}"] for ours, name in names.items() if f"{side}{name}" in row}


def said(messages: list[Record]) -> str:
    """The text of a conversation's last turn."""
    return str(messages[-1]["content"])


def scored(row: Record) -> Record:
    if "chosen" in row:
        return {
            "prompt": said(row["prompt"]),
            "chosen": {"text": said(row["chosen"]), **rated(row, "chosen_")},
            "rejected": {"text": said(row["rejected"]), **rated(row, "rejected_")},
        }
    return {"prompt": said(row["prompt"]), "response": {"text": said(row["completion"]), **rated(row)}}


def paired(row: Record) -> Record:
    ids = row["token_ids"]
    return {
        "prompt": said(row["prompt"]),
        "prompt_ids": ids["prompt"],
        "chosen": {"text": said(row["chosen"]), "ids": ids["chosen"]},
        "rejected": {"text": said(row["rejected"]), "ids": ids["rejected"]},
        "margin": row["margin"],
        "margin_by_category": row["margin_by_category"],
    }


def judged(row: Record) -> Record:
    return {
        "prompt": said(row["prompt"]),
        "chosen": said(row["chosen"]),
        "rejected": said(row["rejected"]),
        "swapped": row["swapped"],
        "p": row["p"],
        "p_by_order": row["p_by_order"],
    }


def edited(row: Record) -> Record:
    """What `edit` writes for a response, taken or rejected; None where a column is not there."""
    return {
        "prompt": said(row["prompt"]),
        "response": said(row["completion"]),
        "status": row["status"],
        "reason": row.get("reason"),
        "edited": row.get("edited", row.get("proposal")),
        "answer": row.get("answer"),
        "edit_ratio": row.get("edit_ratio"),
        "p_by_order": row.get("edit_p_by_order"),
        "weight": row.get("weight", 1.0),
    }


# --- The commands -----------------------------------------------------------------------------------------------------


def dpo() -> Record:
    return train("dpo", policy(), pair_records(8), {**UPDATE, "epochs": 2})


def dpo_adapter() -> Record:
    return train("dpo", policy(), pair_records(8), {**UPDATE, "epochs": 2}, "--lora", 2)


def kto() -> Record:
    rows = [{**row, "label": place % 3 > 0} for place, row in enumerate(answered_records(8))]
    return train("kto", policy(), rows, {**UPDATE, "epochs": 2, "desirable_weight": 1.5})


def supervised() -> Record:
    return train("supervised", policy(), answered_records(8), UPDATE)


def follow_up_tuning() -> Record:
    return train("follow_up_tuning", policy(), reactions(8), {**UPDATE, "request": "when ?"})


def reward_model() -> Record:
    return train("reward_model", policy(), pair_records(8), {**UPDATE, "epochs": 2, "head_std": 0.5, "center": 0.01})


def token_reward_model() -> Record:
    return train("token_reward_model", policy(), edited_records(8), UPDATE)


def token_reward_model_ranked() -> Record:
    return train("token_reward_model", policy(), edited_records(8), {**UPDATE, "loss": "soft_ce", "consistency": 0.5})


def follow_up_likelihood() -> Record:
    options = {**UPDATE, **SAMPLING, **PAIRING, "rounds": 2, "epochs": 1, "batch_size": 2}
    return train(
        "follow_up_likelihood", policy(), prompt_records(6), options, "--model", f"follow_up={user()}", samples=True
    )


def follow_up_kto() -> Record:
    options = {**UPDATE, **SAMPLING, "keep_unfinished": True, "rounds": 2}
    return train("follow_up_kto", policy(), prompt_records(4), options, "--model", f"follow_up={user()}", samples=True)


def online_ai_feedback_oracle() -> Record:
    """The oracle finds all that an untrained model says equally wrong, but for its length."""
    options = {**UPDATE, "judge": {"oracle": {"shorter": 0.01}}, "steps": 3, "max_new_tokens": 8}
    rows = [{"prompt": record["prompt"]} for record in town_records(6)]
    return train("online_ai_feedback", townsman(), rows, options, samples=True)


def online_ai_feedback_model() -> Record:
    annotator = {"model": {"instructions": "brief.txt", "min_share": 0}}
    options = {**UPDATE, "judge": annotator, "label": "soft", "steps": 3, "ahead": 1, "max_new_tokens": 8}
    options |= {"allow_position_bias": True}
    return train(
        "online_ai_feedback", policy(), prompt_records(6), options, "--model", f"judge={judge()}", samples=True
    )


def ppo_length() -> Record:
    return train("ppo", policy(), prompt_records(8), {**PPO, "reward": "length", "epochs": 2}, samples=True)


def ppo_follow_up() -> Record:
    options = {**PPO, "reward": {"follow_up": {"followups": "followups.yaml"}}, "critic": "shared"}
    return train("ppo", policy(), prompt_records(8), options, "--model", f"follow_up={user()}", samples=True)


def fine_grained_ppo() -> Record:
    options = {**PPO, "reward": {"token_reward": {"path": str(token_rater())}}}
    return train("fine_grained_ppo", policy(), prompt_records(8), options, samples=True)


def score_follow_up() -> Record:
    rows = write_jsonl(Path("rows.jsonl"), [*answered_records(4), *pair_records(4)])
    uptake("score", rows, "--model", user(), "--followups", "followups.yaml", "--logps", "--out", "out.jsonl")
    return {"rows": [scored(row) for row in read_jsonl(Path("out.jsonl"))]}


def score_length() -> Record:
    rows = write_jsonl(Path("rows.jsonl"), [*answered_records(4), *pair_records(4)])
    uptake("score", rows, "--reward", "length", "--out", "out.jsonl")
    return {"rows": [scored(row) for row in read_jsonl(Path("out.jsonl"))]}


def score_token_reward() -> Record:
    rows = write_jsonl(Path("rows.jsonl"), answered_records(6))
    uptake("score", rows, "--reward", f"token_reward:{token_rater()}", "--tokens", "--out", "out.jsonl")
    return {"rows": [scored(row) for row in read_jsonl(Path("out.jsonl"))]}


def mine() -> Record:
    rows = write_jsonl(Path("rows.jsonl"), prompt_records(8))
    sets = [f"--set={name}={value}" for name, value in {**SAMPLING, **PAIRING}.items()]
    uptake("mine", rows, "--policy", policy(), "--model", f"follow_up={user()}", "--out", "out.jsonl", *sets)
    counts = json.loads(Path("out.jsonl.summary.json").read_text())
    counted = {name: counts[name] for name in ("prompts", "samples", "pairs", "dropped")}
    return {"rows": [paired(row) for row in read_jsonl(Path("out.jsonl"))], "counts": counted}


def judge_pairs() -> Record:
    rows = write_jsonl(Path("rows.jsonl"), pair_records(8))
    asking = [
        "--judge",
        "model",
        "--model",
        judge(),
        "--judge-set",
        "min_share=0",
        "--judge-set",
        "instructions=brief.txt",
    ]
    uptake("judge", rows, *asking, "--out", "out.jsonl")
    return {"rows": [judged(row) for row in read_jsonl(Path("out.jsonl"))]}


def edit_oracle() -> Record:
    rows = write_jsonl(Path("rows.jsonl"), town_records(12))
    asking = ["--editor", "oracle", "--judge", ORACLE, "--max-edit-ratio", 0.2]
    uptake("edit", rows, *asking, "--out", "out.jsonl")
    rejects = Path("out.rejects.jsonl")
    return {
        "rows": [edited(row) for row in read_jsonl(Path("out.jsonl"))],
        "rejects": [edited(row) for row in read_jsonl(rejects)] if rejects.exists() else [],
    }


def edit_model() -> Record:
    """An untrained model writes no edit: every answer of it is a reject, and the command fails."""
    rows = write_jsonl(Path("rows.jsonl"), answered_records(3))
    editor = saved(tiny_llama(max_position_embeddings=1024), Path("editor"))
    asking = ["--editor", "model", "--model", f"editor={editor}", "--editor-set", "max_new_tokens=8", "--judge", "none"]
    uptake("edit", rows, *asking, "--out", "out.jsonl", code=2)
    return {"rows": [], "rejects": [edited(row) for row in read_jsonl(Path("out.rejects.jsonl"))]}


COMMANDS: Mapping[str, Callable[[], Record]] = {
    command.__name__: command
    for command in (
        dpo, dpo_adapter, kto, supervised, follow_up_tuning, reward_model, token_reward_model,
        token_reward_model_ranked, follow_up_likelihood, follow_up_kto, online_ai_feedback_oracle,
        online_ai_feedback_model, ppo_length, ppo_follow_up, fine_grained_ppo, score_follow_up, score_length,
        score_token_reward, mine, judge_pairs, edit_oracle, edit_model,
    )
}  # fmt: skip


# --- Records ----------------------------------------------------------------------------------------------------------


def compute(name: str) -> Record:
    """What a command does now, as plain JSON data."""
    with TemporaryDirectory() as folder, chdir(folder), redirect_stdout(StringIO()), redirect_stderr(StringIO()):
        found: Record = json.loads(json.dumps(COMMANDS[name]()))
    return found


def weighed(weights: Mapping[str, torch.Tensor]) -> Record:
    """Every tensor as three numbers, and a hash over the bytes of all."""
    seen = sha256()
    for name in sorted(weights):
        seen.update(name.encode() + weights[name].contiguous().numpy().tobytes())
    return {
        "weights": {name: projected(weight) for name, weight in weights.items()},
        "weights_sha256": seen.hexdigest(),
    }


def projected(weight: torch.Tensor) -> Record:
    """A tensor as its shape, sum, norm and product with a fixed vector: what moves an entry moves one of them."""
    flat, rng = weight.double().flatten(), random.Random(0)
    fixed = torch.tensor([rng.uniform(-1, 1) for _ in range(len(flat))], dtype=torch.float64)
    return {
        "shape": list(weight.shape),
        "sum": float(flat.sum()),
        "norm": float(flat.norm()),
        "projection": float(flat @ fixed),
    }


def machine() -> Record:
    """What the last bit of a sum depends on."""
    lines = Path("/proc/cpuinfo").read_text().splitlines() if Path("/proc/cpuinfo").exists() else []
    cpu = dict(reversed([[part.strip() for part in line.split(":", 1)] for line in lines if ":" in line]))
    names = ("model name", "cpu family", "model", "stepping")
    return {
        "cpu": ", ".join(cpu[name] for name in names if name in cpu) or platform.machine(),
        "vectors": torch.backends.cpu.get_cpu_capability(),
        "torch": torch.__version__,
        "python": platform.python_version(),
    }


def spelled(value: Any, indent: str = "") -> str:
    """JSON with sorted keys and a line for what fits on one."""
    line = json.dumps(value, sort_keys=True, ensure_ascii=False)
    if not isinstance(value, dict | list) or len(indent) + len(line) <= 118:
        return line
    inner = f"{indent} "
    if isinstance(value, dict):
        parts = [f"{json.dumps(name)}: {spelled(value[name], inner)}" for name in sorted(value)]
        return "{\n" + ",\n".join(inner + part for part in parts) + f"\n{indent}}}"
    if not any(isinstance(part, dict | list) for part in value):
        return line
    return "[\n" + ",\n".join(inner + spelled(part, inner) for part in value) + f"\n{indent}]"


def main() -> None:
    torch.set_num_threads(1)
    for name in sys.argv[1:] or COMMANDS:
        record = {"machine": machine(), **compute(name)}
        (RECORDS / f"{name}.json").write_text(spelled(record) + "\n")
        print(name)


if __name__ == "__main__":
    main()
