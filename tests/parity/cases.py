"""Cases of parity: what a peer's own functions and ours are given alike, and what is kept of a peer's answer.

Numbers of tables come from Python's generator, whose course no library changes; models and rows are the tiny ones of
the tests. Of a gradient four products with fixed vectors are kept: `sketch`.
"""

import copy
import json
import random
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from hashlib import sha256
from importlib.metadata import distribution
from pathlib import Path
from typing import Any

import torch
from tiny import answered_records, pair_records, saved, tiny_llama, tiny_tokenizer, tiny_world
from torch import Tensor, nn
from transformers import AutoModelForCausalLM, LlamaConfig, LlamaForSequenceClassification, PreTrainedModel

from uptake.examples.preferences import PreferenceRows
from uptake.models import LanguageModel, save_model
from uptake.models.heads import AddHead
from uptake.town import CHAT_TEMPLATE
from uptake.types import Pair

HERE = Path(__file__).parent
BETA, SMOOTHING = 0.1, 0.1
CLIP, DUAL_CLIP, VALUE_CLIP = 0.2, 3.0, 0.2
GAMMA, LAM = 0.97, 0.9
CENTER = 0.2
ALPHA, MIX, DOUBTED, TRUST = 0.2, 1.5, 0.5, 0.1
KTO_BETA, GOOD_WEIGHT, BAD_WEIGHT = 0.05, 1.5, 0.8

# Of the PPO iteration: prompts of one length, since the peer has one context length, and a large epsilon, under which
# Adam's steps follow the size of a gradient and not its sign.
PROMPTS, SAMPLES, ANSWER, PASSES = 4, 2, 7, 2
PPO_RATE, PPO_EPS, PPO_KL, PPO_LAM, VALUE_COEF = 0.1, 1.0, 0.05, 0.95, 0.1

LENGTHS = (7, 5, 1, 3, 7, 4)


def tables() -> dict[str, Tensor]:
    """Tables of tokens, a row a response: log-probabilities by three models, rewards, values, returns and the mask."""
    rng = random.Random(0)

    def drawn(middle: float, spread: float) -> Tensor:
        rows = [[rng.gauss(middle, spread) for _ in range(max(LENGTHS))] for _ in LENGTHS]
        return torch.tensor(rows, dtype=torch.float64)

    old = drawn(-2.0, 0.7)
    mask = torch.arange(max(LENGTHS)) < torch.tensor(LENGTHS)[:, None]
    return {
        "mask": mask,
        "old_logps": old,
        "logps": old + drawn(0.0, 0.9),
        "ref_logps": old + drawn(0.1, 0.4),
        "rewards": drawn(0.0, 1.0) * mask,
        "advantages": drawn(0.2, 1.1) * mask,
        "old_values": drawn(0.0, 0.8) * mask,
        "values": drawn(0.1, 0.8) * mask,
        "returns": drawn(0.3, 1.0) * mask,
    }


def scores() -> tuple[Tensor, Tensor, Tensor]:
    """Scores of chosen and rejected responses, and the margins of their pairs."""
    rng = random.Random(1)
    chosen, rejected, margins = ([rng.gauss(0, 2) for _ in range(8)] for _ in range(3))
    return torch.tensor(chosen), torch.tensor(rejected), torch.tensor(margins).abs()


def plain(seed: int, folder: Path) -> PreTrainedModel:
    """A tiny model as Transformers alone loads it."""
    path = saved(tiny_llama(seed), folder / f"plain-{seed}")
    model: PreTrainedModel = AutoModelForCausalLM.from_pretrained(path, dtype=torch.float32)
    return model.eval()


def pairs() -> list[Pair]:
    """Preference pairs as token ids."""
    found: Sequence[Pair] = PreferenceRows()(tiny_world(Path("unused"), pair_records(6)), 0).examples
    return list(found)


def trios() -> list[Pair]:
    """The pairs, each with a third response beside it: the rejected one of the pair before."""
    found = pairs()
    return [replace(pair, aux_ids=before.rejected_ids) for pair, before in zip(found, found[-1:] + found, strict=False)]


def response_logps(model: PreTrainedModel) -> tuple[Tensor, Tensor, Tensor]:
    """The summed log-probabilities of the chosen, rejected and third responses, each in a plain row of its own."""
    sides: tuple[list[Tensor], list[Tensor], list[Tensor]] = ([], [], [])
    for trio in trios():
        for side, ids in zip(sides, (trio.chosen_ids, trio.rejected_ids, trio.aux_ids), strict=True):
            row = torch.tensor([[*trio.prompt_ids, *ids]])
            logps = model(input_ids=row).logits[0, :-1].log_softmax(-1).gather(1, row[0, 1:, None])[:, 0]
            side.append(logps[len(trio.prompt_ids) - 1 :].sum())
    chosen, rejected, third = map(torch.stack, sides)
    return chosen, rejected, third


def scorer() -> LanguageModel:
    """A tiny model with a score head."""
    lm = tiny_llama()
    head = AddHead()(lm)["score"]
    with torch.no_grad():
        for weight in head.parameters():
            weight.copy_(0.5 * torch.cos(0.7 * torch.arange(weight.numel())).view_as(weight))
    return replace(lm, heads={"score": head})


def scored_pairs() -> list[Pair]:
    """Pairs with margins."""
    return [replace(pair, margin=index / 4) for index, pair in enumerate(pairs())]


def scorer_folder(folder: Path) -> Path:
    """The scorer as a classifier of Transformers."""
    save_model(scorer(), CHAT_TEMPLATE, folder, "<end>")
    return folder


def rated_records() -> list[dict[str, Any]]:
    """Good and bad responses as text."""
    return [{**record, "label": index % 3 > 0} for index, record in enumerate(answered_records(6))]


def scored_records() -> list[dict[str, Any]]:
    """Two responses to every prompt with rewards, some of them alike."""
    first, second = (answered_records(6, seed) for seed in (0, 1))
    rewards = zip((0.5, -1.25, 2.0, 0.0, 1.5, -0.5), (0.5, 1.0, -2.0, 0.25, 0.75, 3.0), strict=True)
    return [
        {"prompt": one["prompt"], "completion": each["completion"], "reward": reward}
        for one, two, both in zip(first, second, rewards, strict=True)
        for each, reward in zip((one, two), both, strict=True)
    ]


def asked() -> list[str]:
    """Prompts of the PPO iteration, all of one length."""
    return ["when does the bakery", "where does the bread", "sell cakes at nine", "open at eight ."]


def reward_classifier() -> LlamaForSequenceClassification:
    """A classifier that scores the answers of the PPO iteration."""
    torch.manual_seed(3)
    tokenizer = tiny_tokenizer()
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=8,
        intermediate_size=8,
        num_hidden_layers=1,
        num_attention_heads=1,
        initializer_range=0.4,
        pad_token_id=tokenizer.pad_token_id,
    )
    config.num_labels = 1
    made = LlamaForSequenceClassification(config)
    return made.eval()


def critic(folder: Path) -> LlamaForSequenceClassification:
    """The peer's critic: the policy's backbone under a zero head."""
    start: Any = plain(0, folder)
    config = copy.deepcopy(start.config)
    config.num_labels = 1
    made = LlamaForSequenceClassification(config)
    made.model.load_state_dict(start.model.state_dict())
    nn.init.zeros_(made.score.weight)
    return made


def fill_adapter(model: nn.Module) -> None:
    """Set the weights of an adapter, whose second matrix would be 0, to fixed numbers."""
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if ".default." in name:
                weight.copy_(0.2 * torch.cos(0.7 * torch.arange(weight.numel()) + len(name)).view_as(weight))


def sketch(tensors: Iterable[Tensor]) -> list[float]:
    """Four products of tensors, end to end, with fixed vectors."""
    flat = torch.cat([each.detach().double().flatten() for each in tensors])
    places = torch.arange(1, len(flat) + 1, dtype=torch.float64)
    return [float(flat @ torch.cos(number * places)) for number in range(1, 5)]


def gradients(model: nn.Module) -> list[float]:
    """The sketch of the gradients of all weights that have one, by name."""
    weights = sorted(model.named_parameters())
    return sketch(weight.grad for _, weight in weights if weight.requires_grad and weight.grad is not None)


def record(name: str, package: str, values: Mapping[str, Any]) -> None:
    """Write a peer's values with its version and the checksum of its list of files, which has one for each of them."""
    found = distribution(package)
    listed = found.read_text("RECORD")
    if listed is None:
        raise SystemExit(f"{package} has no list of its files")
    files = sorted(line for line in listed.splitlines() if line.startswith(f"{package}/") and ".pyc" not in line)
    peer = {"package": package, "version": found.version, "files_sha256": sha256("\n".join(files).encode()).hexdigest()}
    write_values(name, peer, values)


def write_values(name: str, peer: Mapping[str, Any], values: Mapping[str, Any]) -> None:
    """Write a peer's values after what says which peer it was."""
    versions = {"torch": torch.__version__, "python": sys.version.split()[0]}
    lines = ",\n".join(f"  {json.dumps(key)}: {json.dumps(value, allow_nan=False)}" for key, value in values.items())
    head = json.dumps({**peer, **versions})[1:-1]
    (HERE / f"{name}.json").write_text(f'{{{head},\n "values": {{\n{lines}\n}}}}\n')
    print(f"{name}: {len(values)} values")


def recorded(name: str) -> dict[str, Any]:
    """The values of a peer, as a script of this folder has written them."""
    values: dict[str, Any] = json.loads((HERE / f"{name}.json").read_text())["values"]
    return values
