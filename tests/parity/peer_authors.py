"""What the authors of papers compute by the code they released: `python tests/parity/peer_authors.py` writes
`peer_authors.json`.

Their repositories are no packages, and their trainers stand on libraries of years ago. So each function is read by
itself from a file of a named commit and runs on the tensors, models and options that it asks for. Left out are the code
of BPO, which is DPO's loss on a CUDA device, and of ExPO, which adds weights in bfloat16 and has no loss.
"""

import __future__

import ast
import subprocess
import sys
import typing
from collections.abc import Mapping
from contextlib import nullcontext, redirect_stdout
from hashlib import sha256
from io import StringIO
from pathlib import Path
from tempfile import TemporaryDirectory
from types import SimpleNamespace
from typing import Any

sys.path.insert(0, str(Path(__file__).parent.parent))

import torch
from parity.cases import (
    ALPHA,
    BETA,
    DOUBTED,
    MIX,
    SMOOTHING,
    TRUST,
    gradients,
    plain,
    response_logps,
    scored_records,
    trios,
    write_values,
)
from torch import Tensor
from torch.nn import functional
from tqdm import tqdm
from transformers import BatchEncoding, PreTrainedModel

CLONES = Path(".venv/authors")
SPIN = ("uclaml/SPIN", "a12ba80", "spin/alignment/trainer.py")
SELM = ("shenao-zhang/SELM", "0ba546a", "scripts/selm_trainer.py")
SPA = ("kingdy2002/SPA", "38553eb", "trl/trl/trainer/dpo_trainer.py")
SPA_PADS = (*SPA[:2], "trl/trl/trainer/utils.py")
MRPO = ("thaihungle/MRPO", "4171095", "src/llmtuner/train/dpo/trainer_mref.py")
OPENRLHF = ("OpenRLHF/OpenRLHF", "09f5acef", "openrlhf/utils/processor.py")

Source = tuple[str, str, str]


def text_of(source: Source) -> str:
    """A file of a commit, from a clone that is made where there is none."""
    repository, commit, path = source
    clone = CLONES / f"{repository.replace('/', '-')}.git"
    if not clone.exists():
        subprocess.run(["git", "clone", "--quiet", "--bare", f"https://github.com/{repository}", clone], check=True)
    done = subprocess.run(["git", "-C", clone, "show", f"{commit}:{path}"], check=True, capture_output=True, text=True)
    return done.stdout


def parts(source: Source, *names: str, **given: Any) -> list[Any]:
    """Functions, methods and constants of a file by name, without the rest of it; a static method is a function."""
    scope: dict[str, Any] = {**vars(typing), "torch": torch, "F": functional, "nn": torch.nn, "tqdm": tqdm, **given}
    found: dict[str, ast.stmt] = {}
    for each in ast.walk(ast.parse(text_of(source))):
        match each:
            case ast.FunctionDef(name=name):
                each.decorator_list.clear()
                found[name] = each
            case ast.Assign(targets=[ast.Name(id=name)]):
                found[name] = each
    for name in names:
        code = ast.Module([found[name]], type_ignores=[])
        exec(compile(code, source[2], "exec", __future__.annotations.compiler_flag), scope)
    return [scope[name] for name in names]


def loss_of(model: PreTrainedModel, losses: Tensor) -> list[float]:
    """The mean loss and the sketch of its gradients."""
    model.zero_grad()
    losses.mean().backward()
    return [losses.mean().item(), *gradients(model)]


def self_play(folder: Path, loss: str) -> list[float]:
    """SPIN's loss of pairs."""
    (spin_loss,) = parts(SPIN, "spin_loss")
    policy, opponent = plain(0, folder), plain(1, folder)
    logps = response_logps(policy)[:2]
    with torch.no_grad():
        others = response_logps(opponent)[:2]
    with redirect_stdout(StringIO()):  # it prints all that it is given
        losses, *_ = spin_loss(SimpleNamespace(beta=BETA, loss_type=loss), *logps, *others)
    return loss_of(policy, losses)


def optimistic(folder: Path) -> list[float]:
    """SELM's loss of pairs and of an answer beside each."""
    (optimistic_dpo_loss,) = parts(SELM, "optimistic_dpo_loss")
    policy, reference = plain(0, folder), plain(1, folder)
    logps = response_logps(policy)
    with torch.no_grad():
        others = response_logps(reference)
    on_cpu = SimpleNamespace(device="cpu")
    options = SimpleNamespace(beta=BETA, alpha=ALPHA, loss_type="sigmoid", accelerator=on_cpu)
    losses, *_ = optimistic_dpo_loss(options, *logps, *others)
    return loss_of(policy, losses)


def noise_aware(folder: Path, mix: float) -> dict[str, list[float]]:
    """SPA's loss, pair by pair as its recipe has it, and what doubts are told by: margins under the mixture."""
    (pad,) = parts(SPA_PADS, "pad_to_length")
    names = ("concatenated_inputs", "concatenated_forward", "get_batch_logps", "dpo_loss", "get_batch_loss_metrics")
    inputs, forward, batch_logps, dpo_loss, metrics_of = parts(SPA, *names, pad_to_length=pad)
    policy, reference = plain(0, folder), plain(1, folder)
    trainer = SimpleNamespace(
        accelerator=SimpleNamespace(device="cpu"),
        ref_model=reference,
        is_encoder_decoder=False,
        label_pad_token_id=-100,
        padding_value=0,
        loss_type="distill",
        beta=BETA,
        alpha=SMOOTHING,
        mix=mix,
        state=SimpleNamespace(global_step=8, max_steps=10),
        confidence=torch.tensor(-torch.inf),
        concatenated_inputs=inputs,
        get_batch_logps=batch_logps,
    )
    trainer.concatenated_forward = lambda *given: forward(trainer, *given)
    trainer.dpo_loss = lambda *given: dpo_loss(trainer, *given)
    batches = []
    for pair in trios():
        batch = {}
        for side, ids in (("chosen", pair.chosen_ids), ("rejected", pair.rejected_ids)):
            row = torch.tensor([[*pair.prompt_ids, *ids]])
            labels = row.clone()
            labels[:, : len(pair.prompt_ids)] = -100
            batch |= {
                f"{side}_input_ids": row,
                f"{side}_labels": labels,
                f"{side}_attention_mask": row.new_ones(row.shape),
            }
        batches.append(batch)
    margins = [metrics_of(trainer, policy, each)[1]["rewards/mix_margin"] for each in batches]
    trainer.confidence = torch.stack(margins).quantile(DOUBTED)
    losses = torch.stack([metrics_of(trainer, policy, each)[0] for each in batches])
    return {"margins": torch.stack(margins).tolist(), "loss": loss_of(policy, losses)}


def several_references(folder: Path, alpha: float, eta: float) -> dict[str, list[list[float]]]:
    """MRPO's virtual reference of chosen and rejected, of a primary model and another; it counts the primary second."""
    (metrics_of,) = parts(MRPO, "get_batch_loss_metrics", nullcontext=nullcontext, BatchEncoding=BatchEncoding)
    models = [plain(seed, folder) for seed in (0, 1, 2)]
    policy, primary, other = models
    seen: list[tuple[Tensor, ...]] = []

    def forward(model: PreTrainedModel, batch: Mapping[str, Any]) -> tuple[Tensor, ...]:
        chosen, rejected, _ = (each.detach() for each in response_logps(model))
        return chosen, rejected, chosen, rejected

    def dpo_loss(*logps: Tensor) -> tuple[Tensor, ...]:
        seen.append(logps)
        return logps[0], logps[0], logps[1]

    trainer = SimpleNamespace(
        ref_model=other,
        ref_model2=primary,
        step_train=0,
        eta=eta,
        alpha=alpha,
        mref_naive=False,
        ftx_gamma=0.0,
        concatenated_forward=forward,
        dpo_loss=dpo_loss,
    )
    metrics_of(trainer, policy, {})
    ((_, _, chosen, rejected),) = seen
    return {"virtual": [chosen.tolist(), rejected.tolist()]}


def processed() -> dict[str, Any]:
    """What OpenRLHF makes of scored responses for learning by a prompt, and for learning from the best."""
    wanted = ("reward_normalization", "conditional_sft_processor", "rejection_sampling_processor")
    _, normalize, conditional, best = parts(OPENRLHF, "DEFAULT_REWARD_PROMPT", *wanted)
    rows = [
        {"input": each["prompt"], "output": each["completion"], "reward": each["reward"]} for each in scored_records()
    ]
    settings = Options(normalize_reward=True, reward_template=None)
    conditioned = conditional(settings, [dict(row) for row in rows])
    standard = [dict(row) for row in rows]
    normalize(standard)
    return {
        "rewards": [row["reward"] for row in standard],
        "conditioned": [row["input"] for row in conditioned],
        "best": [[row["input"], row["output"]] for row in best(settings, rows)],
    }


class Options(SimpleNamespace):
    """Options as argparse has them, which know what is among them."""

    def __contains__(self, name: str) -> bool:
        return name in vars(self)


def main() -> None:
    """Write the values, with the commit of each file and the digest of what it holds."""
    with TemporaryDirectory() as name:
        folder = Path(name)
        values: dict[str, Any] = {
            "spin, logistic": self_play(folder, "sigmoid"),
            "spin, hinge": self_play(folder, "hinge"),
            "selm": optimistic(folder),
            "spa, mix 1": noise_aware(folder, 1.0),
            "spa, mix beyond 1": noise_aware(folder, MIX),
            "mrpo, clip by size": several_references(folder, 0.5, TRUST),
            "mrpo, one clip": several_references(folder, 0.5, -TRUST),
            "mrpo, adaptive": several_references(folder, -1.0, TRUST),
            "scored responses": processed(),
        }
    sources = (SPIN, SELM, SPA, SPA_PADS, MRPO, OPENRLHF)
    files = {"{}@{}:{}".format(*each): sha256(text_of(each).encode()).hexdigest() for each in sources}
    write_values("peer_authors", {"files_sha256": files}, values)


if __name__ == "__main__":
    main()
