"""Recomputation and micro-batches: every method reads both, and neither changes what is learned."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from record.make import edited_records, reactions, token_rater
from tiny import (
    answered_records,
    pair_records,
    prompt_records,
    tiny_llama,
    tiny_tokenizer,
    tiny_world,
    weights_of,
    write_followups,
)
from tiny_models import ready, tiny
from tiny_relatives import SETTINGS
from torch import Tensor, nn

from uptake import methods
from uptake.errors import ModelError
from uptake.losses.pairwise import Logistic
from uptake.models import LanguageModel, add_lora, pack, products, token_logps
from uptake.models.heads import AddCritic, AddHead, read
from uptake.models.recompute import recomputed_layers
from uptake.objective import Pairs
from uptake.reference import Frozen
from uptake.town import Town
from uptake.train.loop import run
from uptake.types import Pair
from uptake.update import Optimization, build_optimizer, optimizer_step, step_memory, trainable
from uptake.update.step import computing

PAIRS = [
    Pair(prompt_ids=tuple(range(3, 3 + size)), chosen_ids=(5, 9, 4), rejected_ids=tuple(range(8, 8 + size)), p=1.0)
    for size in (2, 5, 9)
]
SAMPLING: dict[str, Any] = {"n": 2, "max_new_tokens": 6}
PPO: dict[str, Any] = {"prompts": 4, "rounds": 2, "epochs": 1, **SAMPLING}
MINED: dict[str, Any] = {"keep_unfinished": True, "max_length_ratio": 100.0, "min_category_agreement": 0.0, **SAMPLING}

# What every method learns from, with options that make a short run of it.
RUNS: dict[str, tuple[Sequence[Mapping[str, Any]], dict[str, Any]]] = {
    "dpo": (pair_records(6), {}),
    "kto": ([{**each, "label": bool(place % 2)} for place, each in enumerate(answered_records(6))], {}),
    "supervised": (answered_records(6), {}),
    "follow_up_tuning": (reactions(6), {"request": "when ?"}),
    "reward_model": (pair_records(6), {"head_std": 0.5}),
    "token_reward_model": (edited_records(6), {}),
    "follow_up_likelihood": (prompt_records(6), {**MINED, "followups": "followups.yaml"}),
    "follow_up_kto": (prompt_records(6), {**SAMPLING, "n": 4, "keep_unfinished": True, "followups": "followups.yaml"}),
    "online_ai_feedback": (
        prompt_records(6),
        {"judge": {"from_reward": {"reward": "length"}}, "steps": 2, "max_new_tokens": 6},
    ),
    "ppo": (prompt_records(6), {**PPO, "reward": "length"}),
    "fine_grained_ppo": (prompt_records(6), {**PPO, "reward": {"token_reward": {"path": "recorded-token-rater"}}}),
    "town_model": ([], {"rounds": 1, "conversations": 6, "users": 2}),
    "bpo": (
        prompt_records(6),
        {"judge": "length", "ensemble": 1, "steps": 2, "steps_per_round": 1, "max_new_tokens": 8},
    ),
    "expo": (pair_records(6), {"method": "dpo"}),
    **SETTINGS,
}


def learned(folder: Path, method: str, **options: Any) -> tuple[dict[str, Tensor], Counter[str]]:
    """The weights at the end of a short run, and how often a norm of the policy was computed for learning."""
    rows, settings = RUNS[method]
    words = tiny_tokenizer(Town().vocabulary()) if method == "town_model" else None
    lm = tiny_llama(tokenizer=words, max_position_embeddings=256)
    calls: Counter[str] = Counter()

    def count(module: nn.Module, *_: object) -> None:
        calls["learning" if torch.is_grad_enabled() else "reading"] += 1

    lm.base.model.layers[0].input_layernorm.register_forward_hook(count)
    settings = {"lr": 1e-3, "batch_size": 4, "micro_tokens": 8192, **settings, **options}
    if "batch_size" not in methods.find(method).Config.model_fields:
        del settings["batch_size"]
    models = {"follow_up": tiny_llama(seed=1), "start": tiny_llama(), "second": tiny_llama(seed=5)}
    run(methods.build(method, settings), tiny_world(folder, rows, lm, models=models))
    return weights_of(lm), calls


@pytest.mark.parametrize("method", methods.names())
def test_every_method_recomputes_layers_and_cuts_batches(
    method: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The same weights to the last bit where layers are computed twice; to rounding where every example is alone."""
    monkeypatch.chdir(tmp_path)
    write_followups(tmp_path)
    token_rater()
    plain, calls = learned(tmp_path / "plain", method)
    again, twice = learned(tmp_path / "again", method, recompute=True)
    assert all(torch.equal(weight, again[name]) for name, weight in plain.items())
    assert twice["learning"] == 2 * calls["learning"] > 0
    cut, more = learned(tmp_path / "cut", method, micro_tokens=1)
    assert more["learning"] > calls["learning"]
    for name, weight in plain.items():
        torch.testing.assert_close(cut[name], weight, atol=1e-4, rtol=1e-4)


CRITICS: dict[str, Any] = {"none": None, "a critic of its own": AddCritic("value"), "a head": AddHead("value")}


def gradients(lm: LanguageModel, recompute: bool, precision: Any = "fp32") -> dict[str, Tensor]:
    """Loss and gradients of a step on pairs, and of the critic's values where there is one."""
    settings = Optimization(lr=1e-3, recompute=recompute, precision=precision, clip=None)
    packed = pack([Pairs(Logistic()).tree(pair) for pair in PAIRS])
    with computing(lm, settings):
        loss = token_logps(lm, packed).square().sum()
        if lm.heads:
            loss = loss + read(lm, packed, "value").values.square().sum()
    loss.backward()
    found = {name: weight.grad for name, weight in trainable(lm).items() if weight.grad is not None}
    for weight in trainable(lm).values():
        weight.grad = None
    return {"loss": loss.detach(), **found}


def same_bits(lm: LanguageModel, precision: Any = "fp32", seed: int = 0) -> None:
    """Losses and gradients are those without recomputation; `seed` makes dropout the same in both."""
    found = []
    for recompute in (False, True):
        torch.manual_seed(seed)
        found.append(gradients(lm, recompute, precision))
    plain, again = found
    assert plain.keys() == again.keys()
    assert len(plain) > 1
    assert all(torch.equal(value, again[name]) for name, value in plain.items())


@pytest.mark.parametrize(
    "family", ["Llama", "Mistral", "Gemma2", "GPT2", "GPTNeoX", "Phi3", "Bloom", "GptOss", "Mamba"]
)
def test_recomputed_gradients_are_the_same_bits(family: str) -> None:
    """On trees with windows, soft caps and grouped heads, and in padded rows."""
    same_bits(ready(tiny(family)))


@pytest.mark.parametrize("critic", CRITICS)
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_recomputation_goes_with_critics_adapters_and_autocast(critic: str, precision: str) -> None:
    lm = add_lora(tiny_llama(), rank=2, alpha=4)
    with torch.no_grad():
        for name, weight in trainable(lm).items():
            if "lora_B" in name:
                weight.normal_(generator=torch.Generator().manual_seed(3))
    modules = CRITICS[critic]
    heads = modules(lm) if modules is not None else {}
    same_bits(replace(lm, heads=heads), precision)


def test_the_second_time_products_come_from_the_same_library(monkeypatch: pytest.MonkeyPatch) -> None:
    """As on a processor where linear layers of a model are not those of Torch: the backward pass is not around one."""
    monkeypatch.setattr(products, "_mkl_is_slow", lambda: True)
    same_bits(tiny_llama(hidden_size=64, intermediate_size=160))


def test_dropout_draws_the_same_when_a_layer_is_computed_again() -> None:
    lm = ready(tiny("GPT2", attn_pdrop=0.0, resid_pdrop=0.3, embd_pdrop=0.0))
    lm.model.train()
    same_bits(lm)
    torch.manual_seed(1)
    one = gradients(lm, recompute=True)["loss"]
    torch.manual_seed(2)
    assert not torch.equal(one, gradients(lm, recompute=True)["loss"])


def test_recomputation_ends_with_its_block() -> None:
    lm = tiny_llama()
    before = [layer.forward for layer in lm.base.model.layers]
    with recomputed_layers(lm):
        assert all(layer.forward != one for layer, one in zip(lm.base.model.layers, before, strict=True))
    with pytest.raises(IndexError), recomputed_layers(lm):
        before[len(before)]
    assert [layer.forward for layer in lm.base.model.layers] == before
    assert not any("forward" in vars(layer) for layer in lm.base.model.layers)


def test_a_model_without_layers_is_not_recomputed_in_silence() -> None:
    lm = tiny_llama()
    lm.base.model.layers = nn.ModuleList()
    with pytest.raises(ModelError, match="its layers cannot be told"), recomputed_layers(lm):
        pass


def test_fewer_bytes_are_kept_where_layers_are_recomputed() -> None:
    """What a token keeps: the states between layers alone, width x layers x 4 bytes and little more."""
    lm = tiny_llama(num_hidden_layers=8, hidden_size=32, intermediate_size=96)
    plain, again = (step_memory(lm, Optimization(lr=1e-3, recompute=recompute)) for recompute in (False, True))
    between = 4 * 32 * 8
    assert between <= again.token < 1.7 * between
    # By hand: two norms with input, result and product, attention with its operands, four feed-forward states.
    assert plain.token > 4 * 8 * (6 * 32 + 4 * 32 + 4 * 96)
    assert plain.layer * 2 == again.layer


def test_a_frozen_reference_keeps_nothing() -> None:
    """Recomputation covers what learns: a reading without gradient is computed once."""
    lm = tiny_llama()
    reference = Frozen().start(tiny_world(Path("unused"), [], lm))
    settings = Optimization(lr=1e-3, recompute=True)
    optimizer = build_optimizer(settings, trainable(lm).values())
    metrics = optimizer_step(lm, reference, Pairs(Logistic()), PAIRS, optimizer, settings)
    assert metrics["margin"] == pytest.approx(0, abs=1e-6)
