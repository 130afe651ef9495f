"""Extrapolation of weights: the formula, folders, adapters, and the end of a run; by the road of PEFT and Torch."""

import json
import shutil
import signal
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import LoraConfig, PeftModel, get_peft_model
from safetensors.torch import load_file, save_file
from tiny import (
    answered_records,
    command_line,
    in_process,
    pair_records,
    saved,
    tiny_llama,
    tiny_tokenizer,
    tiny_world,
    weights_of,
)
from tiny import write_jsonl as write_rows
from tiny_cli import Cli
from torch import Tensor
from transformers import AutoModelForCausalLM, AutoTokenizer, GPT2Config, GPT2LMHeadModel

from uptake import methods
from uptake.errors import InputError, ModelError, UptakeError
from uptake.losses.pairwise import logistic, soft_label
from uptake.models import add_lora, load
from uptake.models.low_rank import summed_products
from uptake.reference import AdapterOff, Behaviour, NoReference
from uptake.tasks.extrapolate import extrapolate
from uptake.tasks.run_config import RunConfig, recipe_of
from uptake.train.loop import run
from uptake.weights import Extrapolate, Movements, extrapolated

ALPHA = 0.3

# --- the formula -----------------------------------------------------------------------------------------------------


def odd_numbers(seed: int) -> Tensor:
    """Numbers of very unlike size, and both zeros."""
    generator = torch.Generator().manual_seed(seed)
    numbers = torch.randn(1000, generator=generator) * 10.0 ** torch.randint(-20, 20, (1000,), generator=generator)
    return torch.cat([numbers, torch.tensor([0.0, -0.0, 0.0, -0.0])[torch.randperm(4, generator=generator)]])


def same_bits(one: Tensor, other: Tensor) -> bool:
    return one.dtype == other.dtype and torch.equal(one.view(torch.uint8), other.view(torch.uint8))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float64])
def test_the_ends_of_the_way_are_what_they_are(dtype: torch.dtype) -> None:
    start, aligned = odd_numbers(0).to(dtype), odd_numbers(1).to(dtype)
    assert same_bits(extrapolated(start, aligned, 0.0), aligned)
    assert same_bits(extrapolated(start, aligned, -1.0), start)


@pytest.mark.parametrize("alpha", [0.1, 0.5, 8.0])
def test_between_the_start_and_what_lies_beyond_is_the_aligned(alpha: float) -> None:
    start, aligned = torch.randn(100), torch.randn(100)
    beyond = extrapolated(start, aligned, alpha)
    gamma = 1 / (1 + alpha)
    torch.testing.assert_close((1 - gamma) * start + gamma * beyond, aligned, atol=1e-5, rtol=0)


REWARDS = torch.tensor([1.0, 0.5, 0.0, -0.5, -1.2], dtype=torch.float64)
START = torch.tensor([-1.0, 0.3, 1.2, 0.4, -0.2], dtype=torch.float64)


def dpo_optimum(beta: float) -> Tensor:
    """Free logits at the minimum of DPO over all pairs of five answers, with Bradley-Terry labels."""
    logits = START.clone().requires_grad_()
    optimizer = torch.optim.LBFGS([logits], max_iter=500, tolerance_grad=1e-12, line_search_fn="strong_wolfe")
    labels = torch.sigmoid(REWARDS[:, None] - REWARDS[None, :]).flatten()

    def closure() -> Tensor:
        optimizer.zero_grad()
        ratios = logits.log_softmax(0) - START.log_softmax(0)
        margins = (ratios[:, None] - ratios[None, :]).flatten()
        loss = soft_label(lambda h: logistic(h, beta), margins, labels).mean()
        loss.backward()
        return loss

    optimizer.step(closure)
    return logits.detach()


def test_beyond_the_optimum_of_dpo_is_that_of_a_smaller_beta() -> None:
    beyond = extrapolated(START, dpo_optimum(0.5), ALPHA).softmax(0)
    torch.testing.assert_close(beyond, dpo_optimum(0.5 / (1 + ALPHA)).softmax(0), atol=1e-6, rtol=0)
    golden = torch.tensor([0.3624, 0.3624, 0.2429, 0.0297, 0.0026], dtype=torch.float64)
    torch.testing.assert_close(beyond, golden, atol=6e-5, rtol=0)


def test_most_small_changes_are_lost_to_the_rounding_of_bf16() -> None:
    """Two checkpoints in bf16 that differ by 2e-5: counted here by neighbours, an alpha that reaches none is none."""
    start = (0.02 * torch.randn(100_000, generator=torch.Generator().manual_seed(0))).bfloat16()
    aligned = (start.float() + 2e-5 * torch.randn(100_000, generator=torch.Generator().manual_seed(1))).bfloat16()
    changed = start != aligned
    narrow, wide = (extrapolated(start, aligned, ALPHA).to(kind) for kind in (torch.bfloat16, torch.float32))
    movements = Movements([ALPHA, ALPHA])
    movements.of("w").take(start, aligned, [narrow, wide])
    steps = (aligned.view(torch.int16).int() - start.view(torch.int16).int()).abs()[changed]
    one_step = float((steps == 1).float().mean())
    assert movements.total.changed == int(changed.sum())
    assert 0.5 < movements.total.no_op(0) < 0.8
    # Three tenths of one step round back, those of two do not; what crosses a power of two may do otherwise.
    assert movements.total.no_op(0) == pytest.approx(one_step, abs=0.01)
    assert movements.total.no_op(1) == 0


# --- folders of models -----------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def states(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A model and what it has become, with tied embeddings."""
    folder = tmp_path_factory.mktemp("states")
    return saved(tied(), folder / "start"), saved(moved(tied()), folder / "aligned")


def tied(**changes: Any) -> Any:
    return tiny_llama(**{"tie_word_embeddings": True, **changes})


def moved(lm: Any, seed: int = 3, size: float = 0.05) -> Any:
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for weight in lm.model.parameters():
            if weight.requires_grad:
                weight.add_(size * torch.randn(weight.shape, generator=generator))
    return lm


def tensors(folder: Path) -> dict[str, Tensor]:
    found: dict[str, Tensor] = {}
    for path in folder.glob("model*.safetensors"):
        found |= load_file(path)
    return found


def beyond(start: Path, aligned: Path, alpha: float = ALPHA) -> dict[str, Tensor]:
    """The same in memory, number by number in float64."""
    before, after = tensors(start), tensors(aligned)
    return {name: (1 + alpha) * after[name].double() - alpha * before[name].double() for name in after}


def close(one: dict[str, Tensor], other: dict[str, Tensor], tolerance: float = 1e-6) -> None:
    assert one.keys() == other.keys()
    for name, tensor in one.items():
        torch.testing.assert_close(tensor.double(), other[name].double(), atol=tolerance, rtol=0)


def test_a_model_beyond(states: tuple[Path, Path], tmp_path: Path) -> None:
    found = extrapolate(*states, tmp_path / "out", [ALPHA])
    close(tensors(tmp_path / "out"), beyond(*states))
    for name in ("config.json", "generation_config.json", "tokenizer.json", "tokenizer_config.json"):
        assert (tmp_path / "out" / name).read_bytes() == (states[1] / name).read_bytes()
    assert (tmp_path / "out" / "chat_template.jinja").read_bytes() == (states[1] / "chat_template.jinja").read_bytes()
    lm = load(tmp_path / "out")
    assert lm.head.weight.data_ptr() == lm.base.get_input_embeddings().weight.data_ptr()
    before, after = (tensors(folder) for folder in states)
    norm = sum(float((after[name] - before[name]).double().square().sum()) for name in after) ** 0.5
    assert lm.card["extrapolation"]["norm"] == pytest.approx(norm, rel=1e-6)
    assert {name: lm.card["extrapolation"][name] for name in ("alpha", "start", "aligned")} == {
        "alpha": ALPHA,
        "start": str(states[0]),
        "aligned": str(states[1]),
    }
    assert {*found.movements.groups} == {"model.embed_tokens", "model.layers.0", "model.layers.1", "model.norm"}
    count = sum(tensor.numel() for name, tensor in after.items() if name.startswith("model.layers.1."))
    assert found.movements.groups["model.layers.1"].numbers == count


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_zero_and_minus_one(dtype: torch.dtype, tmp_path: Path) -> None:
    pair = saved(tied(dtype=dtype), tmp_path / "start"), saved(moved(tied(dtype=dtype)), tmp_path / "aligned")
    extrapolate(*pair, tmp_path / "out", [0, -1])
    for name, given in (("alpha-0", pair[1]), ("alpha--1", pair[0])):
        found, expected = tensors(tmp_path / "out" / name), tensors(given)
        assert found.keys() == expected.keys()
        assert all(same_bits(found[key], expected[key]) for key in found)
    # A file that is written piece by piece is the one that safetensors writes.
    names = (pair[1] / "model.safetensors", tmp_path / "out" / "alpha-0" / "model.safetensors")
    assert names[0].read_bytes() == names[1].read_bytes()


def sharded(folder: Path, to: Path, size: str) -> Path:
    AutoModelForCausalLM.from_pretrained(folder, dtype="auto").save_pretrained(to, max_shard_size=size)
    AutoTokenizer.from_pretrained(folder).save_pretrained(to)
    return to


@pytest.mark.parametrize("sizes", [("4KB", None), (None, "3KB"), ("5KB", "3KB")])
def test_shards_are_cut_as_those_of_the_aligned(
    sizes: tuple[str | None, str | None], states: tuple[Path, Path], tmp_path: Path
) -> None:
    first, second = (
        folder if size is None else sharded(folder, tmp_path / folder.name, size)
        for folder, size in zip(states, sizes, strict=True)
    )
    extrapolate(first, second, tmp_path / "out", [ALPHA])
    extrapolate(*states, tmp_path / "whole", [ALPHA])
    found, whole = tensors(tmp_path / "out"), tensors(tmp_path / "whole")
    assert found.keys() == whole.keys()
    assert all(same_bits(found[name], whole[name]) for name in whole)
    assert sorted(path.name for path in (tmp_path / "out").glob("model*")) == sorted(
        path.name for path in second.glob("model*")
    )
    close(dict(load(tmp_path / "out").base.state_dict()), dict(load(tmp_path / "whole").base.state_dict()), 0)


def test_a_tensor_larger_than_a_piece(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, states: tuple[Path, Path]
) -> None:
    monkeypatch.setattr("uptake.weights.whole._PIECE", 7)
    extrapolate(*states, tmp_path / "pieces", [ALPHA])
    close(tensors(tmp_path / "pieces"), beyond(*states))


def test_in_another_precision(tmp_path: Path) -> None:
    pair = (
        saved(tied(dtype=torch.bfloat16), tmp_path / "start"),
        saved(moved(tied(dtype=torch.bfloat16), size=1e-4), tmp_path / "aligned"),
    )
    narrow = extrapolate(*pair, tmp_path / "narrow", [ALPHA])
    wide = extrapolate(*pair, tmp_path / "wide", [ALPHA], dtype="float32")
    close(tensors(tmp_path / "wide"), beyond(*pair))
    assert {tensor.dtype for tensor in tensors(tmp_path / "narrow").values()} == {torch.bfloat16}
    assert AutoModelForCausalLM.from_pretrained(tmp_path / "wide", dtype="auto").dtype == torch.float32
    rounded = {name: tensor.bfloat16() for name, tensor in beyond(*pair).items()}
    assert all(same_bits(tensor, rounded[name]) for name, tensor in tensors(tmp_path / "narrow").items())
    assert narrow.movements.total.no_op(0) > 0.3
    assert wide.movements.total.no_op(0) == 0


def test_start_and_aligned_in_unlike_precision(states: tuple[Path, Path], tmp_path: Path) -> None:
    half = saved(tied(dtype=torch.bfloat16), tmp_path / "half")
    extrapolate(half, states[1], tmp_path / "out", [ALPHA])
    close(tensors(tmp_path / "out"), beyond(half, states[1]))


def test_a_start_is_not_rounded_before_the_end(states: tuple[Path, Path], tmp_path: Path) -> None:
    """One that is kept in fp32 under an aligned model in bf16."""
    half = saved(moved(tied(dtype=torch.bfloat16)), tmp_path / "half")
    extrapolate(states[0], half, tmp_path / "out", [8.0])
    found = tensors(tmp_path / "out")
    assert all(same_bits(each.float().bfloat16(), found[name]) for name, each in beyond(states[0], half, 8.0).items())
    rounded = {
        name: (9 * tensors(half)[name].double() - 8 * each.bfloat16().double())
        for name, each in tensors(states[0]).items()
    }
    assert any(not same_bits(each.float().bfloat16(), found[name]) for name, each in rounded.items())


def changed(folder: Path, to: Path, **weights: Tensor | None) -> Path:
    """A folder with other tensors: None removes one."""
    shutil.copytree(folder, to)
    found = {**tensors(folder), **weights}
    save_file(
        {name: each for name, each in found.items() if each is not None}, to / "model.safetensors", {"format": "pt"}
    )
    return to


def test_integers_and_buffers_are_those_of_the_aligned(tmp_path: Path) -> None:
    """GPT-J keeps rotary positions as a buffer in fp32; a table of integers is no weight either."""
    pair = [saved(moved(tied(), seed), tmp_path / name) for seed, name in ((1, "start"), (2, "aligned"))]
    counts = [torch.arange(4) + index for index in range(2)]
    buffers = [torch.full((8,), 1.5 + index) for index in range(2)]
    pair = [
        changed(folder, tmp_path / f"{folder.name}-2", **{"model.rotary_emb.inv_freq": buffer, "count": count})
        for folder, buffer, count in zip(pair, buffers, counts, strict=True)
    ]
    extrapolate(*pair, tmp_path / "out", [ALPHA])
    found = tensors(tmp_path / "out")
    assert same_bits(found["count"], counts[1])
    assert same_bits(found["model.rotary_emb.inv_freq"], buffers[1])


@pytest.mark.parametrize("side", [0, 1])
def test_a_tied_weight_that_one_folder_holds_twice(side: int, states: tuple[Path, Path], tmp_path: Path) -> None:
    twice = changed(
        states[side], tmp_path / "twice", **{"lm_head.weight": tensors(states[side])["model.embed_tokens.weight"]}
    )
    pair = [*states]
    pair[side] = twice
    extrapolate(*pair, tmp_path / "out", [ALPHA])
    found = tensors(tmp_path / "out")
    assert ("lm_head.weight" in found) == (side == 1)
    assert torch.equal(
        found.get("lm_head.weight", found["model.embed_tokens.weight"]), found["model.embed_tokens.weight"]
    )
    close({name: each for name, each in found.items() if name != "lm_head.weight"}, beyond(*states))


# --- what is no pair of states ---------------------------------------------------------------------------------------


def configured(folder: Path, to: Path, **settings: Any) -> Path:
    shutil.copytree(folder, to)
    path = to / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **settings}))
    return to


def other_architecture(folder: Path) -> Path:
    model = GPT2LMHeadModel(GPT2Config(vocab_size=len(tiny_tokenizer()), n_embd=16, n_layer=2, n_head=2))
    model.save_pretrained(folder)
    tiny_tokenizer().save_pretrained(folder)
    return folder


def without(folder: Path, to: Path, pattern: str) -> Path:
    shutil.copytree(folder, to)
    for path in to.glob(pattern):
        path.unlink()
    return to


def torn(folder: Path, to: Path) -> Path:
    shutil.copytree(folder, to)
    path = to / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-100])
    return to


NORM = "model.layers.0.input_layernorm.weight"
WRONG: dict[str, tuple[Any, str]] = {
    "architecture": (lambda _, to: other_architecture(to), r"another architecture: model_type is 'llama' in .*'gpt2'"),
    "heads": (lambda like, to: configured(like, to, num_attention_heads=4), "num_attention_heads is 2 in .*, 4 in"),
    "untied": (lambda like, to: configured(like, to, tie_word_embeddings=False), "tie_word_embeddings is True"),
    "quantized": (
        lambda like, to: configured(
            like, to, quantization_config={"quant_method": "bitsandbytes", "load_in_4bit": True}
        ),
        "its weights are quantized",
    ),
    "float8": (
        lambda like, to: changed(like, to, **{NORM: tensors(like)[NORM].to(torch.float8_e4m3fn)}),
        f"{NORM} is quantized: it holds F8_E4M3",
    ),
    "missing": (lambda like, to: changed(like, to, **{NORM: None}), f"{NORM} is in .*start and missing from .*wrong"),
    "one more": (lambda like, to: changed(like, to, more=torch.ones(3)), "more is in .*wrong and missing from .*start"),
    "shape": (lambda like, to: changed(like, to, **{NORM: torch.ones(17)}), rf"{NORM} is \(16,\) in .* and \(17,\) in"),
    "integers": (
        lambda like, to: changed(like, to, **{NORM: torch.ones(16, dtype=torch.int8)}),
        f"{NORM} holds F32 in .* and I8 in",
    ),
    "not finite": (
        lambda like, to: changed(like, to, **{NORM: torch.full((16,), torch.inf)}),
        f"{NORM} is not finite 0.3 beyond the aligned model, in float32",
    ),
    "tokenizer": (
        lambda like, to: saved(tied(tokenizer=tiny_tokenizer(["a", "b", *list("cdefghijklmnopq")])), to),
        "have different tokenizers, for example",
    ),
    "no tokenizer": (lambda like, to: without(like, to, "tokenizer*"), "no tokenizer could be loaded"),
    "no weights": (lambda like, to: without(like, to, "model*"), "no model.safetensors"),
    "no config": (lambda like, to: without(like, to, "config.json"), "no configuration of a model"),
    "damaged": (torn, "model.safetensors: cannot be read"),
}


@pytest.mark.parametrize("fault", WRONG)
def test_what_is_no_later_state_is_refused(fault: str, states: tuple[Path, Path], tmp_path: Path) -> None:
    make, message = WRONG[fault]
    wrong = make(states[1], tmp_path / "wrong")
    with pytest.raises(UptakeError, match=message):
        extrapolate(states[0], wrong, tmp_path / "out", [ALPHA])
    assert sorted(path.name for path in tmp_path.iterdir()) == ["wrong"]


def test_a_shard_without_a_tensor_of_its_index(states: tuple[Path, Path], tmp_path: Path) -> None:
    pair = [sharded(folder, tmp_path / folder.name, "4KB") for folder in states]
    shard = sorted(pair[0].glob("model-*"))[1]
    held = load_file(shard)
    lost = sorted(held)[0]
    save_file({name: each for name, each in held.items() if name != lost}, shard, {"format": "pt"})
    with pytest.raises(ModelError, match=f"{lost} is missing from {shard.name}"):
        extrapolate(*pair, tmp_path / "out", [ALPHA])


def test_settings_that_shape_no_tensor_are_told(
    states: tuple[Path, Path], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    other = configured(states[1], tmp_path / "other", max_position_embeddings=48)
    extrapolate(states[0], other, tmp_path / "out", [ALPHA])
    assert [line.replace(str(tmp_path), "") for line in caplog.messages] == [
        f"max_position_embeddings is 96 in {states[0]} and 48 in /other, which is taken"
    ]
    assert load(tmp_path / "out").window == 48


@pytest.mark.parametrize(
    ("alphas", "dtype", "message"),
    [
        ([float("nan")], "auto", r"field 'alpha': nan \(allowed: a number from -1, which is the start"),
        ([float("inf")], "auto", "field 'alpha': inf"),
        ([-1.5], "auto", "field 'alpha': -1.5"),
        ([], "auto", "one alpha or more"),
        ([0.3, 0.3], "auto", "all different"),
        ([0.3], "float8", r"field 'dtype': 'float8' \(allowed: auto, float64, float32, float16, bfloat16\)"),
    ],
)
def test_settings_that_mean_nothing(
    alphas: Sequence[float], dtype: str, message: str, states: tuple[Path, Path], tmp_path: Path
) -> None:
    with pytest.raises(InputError, match=message):
        extrapolate(*states, tmp_path / "out", alphas, dtype)
    assert not (tmp_path / "out").exists()


def test_two_equal_states_are_told(states: tuple[Path, Path], tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    extrapolate(states[1], states[1], tmp_path / "out", [ALPHA])
    assert caplog.messages == [f"{states[1]} and {states[1]} hold the same weights: nothing lies beyond"]
    assert all(same_bits(each, tensors(states[1])[name]) for name, each in tensors(tmp_path / "out").items())


def test_a_folder_that_exists_is_left_alone(states: tuple[Path, Path], tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"the folder exists \(allowed: a new path\)"):
        extrapolate(*states, tmp_path, [ALPHA])


# --- adapters --------------------------------------------------------------------------------------------------------


def adapter(base: Path, name: str, seed: int = 1, whole: Sequence[str] | None = None, **settings: Any) -> Path:
    """An adapter beside its base, with weights as if it had been trained."""
    config = {"r": 4, "lora_alpha": 12, "target_modules": ["q_proj", "up_proj", "embed_tokens"], **settings}
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model = get_peft_model(
            AutoModelForCausalLM.from_pretrained(base),
            LoraConfig(**{"task_type": "CAUSAL_LM", "modules_to_save": whole, **config}),
        )
        with torch.no_grad():
            for weight in model.parameters():
                if weight.requires_grad:
                    weight.add_(0.1 * torch.randn(weight.shape))
    model.save_pretrained(base.parent / name, save_embedding_layers=False)
    AutoTokenizer.from_pretrained(base).save_pretrained(base.parent / name)
    return base.parent / name


def merged(base: Path, over: Path | None = None) -> dict[str, Tensor]:
    """The weights of a model with an adapter merged into it, by PEFT."""
    model: Any = AutoModelForCausalLM.from_pretrained(base)
    if over is not None:
        model = PeftModel.from_pretrained(model, over).merge_and_unload()
    return {name: each.detach().clone() for name, each in model.state_dict().items()}


@pytest.fixture
def base(tmp_path: Path) -> Path:
    return saved(tiny_llama(), tmp_path / "base")


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"use_rslora": True},
        {"rank_pattern": {"q_proj": 2}, "alpha_pattern": {"up_proj": 5}},
        {"whole": ["lm_head"]},
    ],
    ids=["plain", "rslora", "patterns", "whole weights"],
)
def test_an_adapter_beyond_its_base(settings: dict[str, Any], base: Path, tmp_path: Path) -> None:
    over = adapter(base, "over", **settings)
    found = extrapolate(base, over, tmp_path / "out", [ALPHA])
    zero, one = merged(base), merged(base, over)
    close(merged(base, tmp_path / "out"), {name: one[name] + ALPHA * (one[name] - zero[name]) for name in one}, 2e-5)
    # The A are as they were, and the movement is that of the products.
    old, new = (load_file(folder / "adapter_model.safetensors") for folder in (over, tmp_path / "out"))
    assert all(same_bits(old[name], new[name]) for name in old if ".lora_A." in name)
    norm = sum(float((one[name] - zero[name]).double().square().sum()) for name in one) ** 0.5
    assert found.movements.total.norm == pytest.approx(norm, rel=1e-4)
    assert load(tmp_path / "out", device="cpu").card["extrapolation"]["alpha"] == ALPHA


def test_an_adapter_at_the_ends_of_the_way(base: Path, tmp_path: Path) -> None:
    over = adapter(base, "over")
    extrapolate(base, over, tmp_path / "out", [0, -1])
    old, new = (load_file(folder / "adapter_model.safetensors") for folder in (over, tmp_path / "out" / "alpha-0"))
    assert all(same_bits(old[name], new[name]) for name in old)
    close(merged(base, tmp_path / "out" / "alpha--1"), merged(base), 0)


def test_an_adapter_beyond_an_adapter(base: Path, tmp_path: Path) -> None:
    """The exact way between two products, which extrapolated A and B are not."""
    pair = [adapter(base, name, seed) for seed, name in enumerate(("first", "second"))]
    found = extrapolate(*pair, tmp_path / "out", [ALPHA, 0, -1])
    zero, one = (merged(base, each) for each in pair)
    expected = {name: one[name] + ALPHA * (one[name] - zero[name]) for name in one}
    close(merged(base, tmp_path / "out" / f"alpha-{ALPHA}"), expected, 2e-5)
    close(merged(base, tmp_path / "out" / "alpha-0"), one, 0)
    close(merged(base, tmp_path / "out" / "alpha--1"), zero, 0)
    norm = sum(float((one[name] - zero[name]).double().square().sum()) for name in one) ** 0.5
    assert found.movements.total.norm == pytest.approx(norm, rel=1e-4)
    before, after = (load_file(each / "adapter_model.safetensors") for each in pair)
    each_by_itself = {name: after[name] + ALPHA * (after[name] - before[name]) for name in after}
    shutil.copytree(pair[1], tmp_path / "wrong")
    save_file(each_by_itself, tmp_path / "wrong" / "adapter_model.safetensors", {"format": "pt"})
    wrong = merged(base, tmp_path / "wrong")
    assert max(float((wrong[name] - expected[name]).abs().max()) for name in expected) > 0.01


def test_sums_of_products() -> None:
    """By dense products; of unlike ranks, too."""
    parts = [
        {"q.lora_A.weight": torch.randn(rank, 7).double(), "q.lora_B.weight": torch.randn(5, rank).double()}
        for rank in (1, 3)
    ]
    found = summed_products(parts, [0.5, -2.0])
    first, second = (each["q.lora_B.weight"] @ each["q.lora_A.weight"] for each in parts)
    torch.testing.assert_close(found["q.lora_B.weight"] @ found["q.lora_A.weight"], 0.5 * first - 2 * second)


def test_adapters_of_unlike_rank_are_refused_with_the_reason(base: Path, tmp_path: Path) -> None:
    pair = adapter(base, "first", r=2), adapter(base, "second", r=4)
    with pytest.raises(InputError, match=r"r is 2 in .*first and 4 in .*A and B cannot be extrapolated each.*merged"):
        extrapolate(*pair, tmp_path / "out", [ALPHA])
    assert not (tmp_path / "out").exists()


ADAPTERS: dict[str, tuple[Any, str]] = {
    "other layers": (
        lambda base: (adapter(base, "one"), adapter(base, "two", target_modules=["q_proj"])),
        "is not the same in .*A and B cannot be extrapolated each",
    ),
    "other bases": (
        lambda base: (adapter(base, "one"), adapter(saved(tiny_llama(seed=2), base.parent / "other"), "two")),
        "is an adapter over .*base, and .*two over .*other",
    ),
    "over another base": (
        lambda base: (saved(tiny_llama(seed=2), base.parent / "other"), adapter(base, "over")),
        "over is an adapter over .*base, which is not .*other",
    ),
    "adapter to model": (
        lambda base: (adapter(base, "over"), base),
        r"over is an adapter, and .*base a whole model \(allowed: the model with this adapter merged into its base\)",
    ),
    "adapter over an adapter": (
        lambda base: (base, renamed(adapter(base, "over"), str(adapter(base, "under")))),
        "its base model .*under is an adapter itself",
    ),
    "DoRA": (
        lambda base: (base, adapter(base, "over", use_dora=True, target_modules=["q_proj"])),
        "use_dora True is no",
    ),
    "whole weights of both": (
        lambda base: (adapter(base, "one", whole=["lm_head"]), adapter(base, "two", whole=["lm_head"])),
        "is a whole weight beside the products of two adapters",
    ),
    "patterns of both": (
        lambda base: (adapter(base, "one", use_rslora=True), adapter(base, "two", use_rslora=True)),
        "use_rslora True is no plain LoRA",
    ),
}


def renamed(folder: Path, base: str) -> Path:
    file = folder / "adapter_config.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), "base_model_name_or_path": base}))
    return folder


@pytest.mark.parametrize("fault", ADAPTERS)
def test_adapters_that_are_no_states_of_one_model(fault: str, base: Path, tmp_path: Path) -> None:
    make, message = ADAPTERS[fault]
    with pytest.raises(UptakeError, match=message):
        extrapolate(*make(base), tmp_path / "out", [ALPHA])
    assert not (tmp_path / "out").exists()


def test_a_base_that_was_copied_is_the_same_base(base: Path, tmp_path: Path) -> None:
    over = adapter(base, "over")
    copied = Path(shutil.copytree(base, tmp_path / "copied"))
    extrapolate(copied, over, tmp_path / "out", [ALPHA])
    extrapolate(base, over, tmp_path / "same", [ALPHA])
    close(*(load_file(tmp_path / name / "adapter_model.safetensors") for name in ("out", "same")), 0)


# --- the end of a run ------------------------------------------------------------------------------------------------

FAST: dict[str, Any] = {"lr": 1e-2, "batch_size": 2, "warmup": 0, "epochs": 2, "micro_tokens": 8192}


@pytest.mark.parametrize("method", ["dpo", "supervised", "spin"])
def test_a_run_that_goes_on_past_its_end(method: str, tmp_path: Path) -> None:
    """Of a run of several stages, from where the first began."""
    more = {"iterations": 2, "max_new_tokens": 4, "keep_unfinished": True} if method == "spin" else {}
    rows = pair_records(6) if method == "dpo" else answered_records(6)
    plain = run(methods.build(method, {**FAST, **more}), tiny_world(tmp_path / "plain", rows))
    recipe = methods.build("expo", {"method": method, "alpha": ALPHA, **FAST, **more})
    ended = run(recipe, tiny_world(tmp_path / "expo", rows))
    zero, one, two = weights_of(tiny_llama()), weights_of(plain.policy), weights_of(ended.policy)
    assert all(torch.equal(two[name], extrapolated(zero[name], one[name], ALPHA)) for name in one)
    assert any(not torch.equal(two[name], one[name]) for name in one)
    assert load(tmp_path / "expo" / "model").card["extrapolation"] == {"alpha": ALPHA}
    assert (tmp_path / "plain" / "metrics.jsonl").read_bytes() == (tmp_path / "expo" / "metrics.jsonl").read_bytes()


def test_under_an_adapter_only_b_grows(tmp_path: Path) -> None:
    found = {}
    for name, recipe in (
        ("plain", methods.build("dpo", FAST)),
        ("expo", methods.build("expo", {"alpha": ALPHA, **FAST})),
    ):
        with torch.random.fork_rng():
            torch.manual_seed(0)
            lm = add_lora(tiny_llama(), rank=2)
        found[name] = weights_of(run(recipe, tiny_world(tmp_path / name, pair_records(6), lm)).policy)
    for name, weight in found["plain"].items():
        factor = 1 + ALPHA if ".lora_B." in name else 1.0
        torch.testing.assert_close(found["expo"][name], factor * weight, atol=1e-7, rtol=1e-6)
    assert any(".lora_B." in name and weight.any() for name, weight in found["plain"].items())


def test_an_adapter_that_was_trained_before_is_refused_before_it_learns(tmp_path: Path) -> None:
    lm = moved(add_lora(tiny_llama(), rank=2))
    with pytest.raises(InputError, match="its adapter was trained before this run"):
        run(methods.build("expo", FAST), tiny_world(tmp_path / "run", pair_records(6), lm))
    assert not (tmp_path / "run" / "metrics.jsonl").read_text()


def test_what_expo_refuses() -> None:
    with pytest.raises(InputError, match=r"field 'method': reward_model trains a score, not what is said"):
        methods.build("expo", {"method": "reward_model"})
    with pytest.raises(InputError, match=r"field 'method': expo has an end of its own"):
        methods.build("expo", {"method": "expo"})
    with pytest.raises(InputError, match=r"field 'alpha': -2"):
        methods.build("expo", {"alpha": -2})
    with pytest.raises(InputError, match=r"field 'betta': this method has no such option; did you mean beta"):
        methods.build("expo", {"betta": 0.2})
    with pytest.raises(InputError, match="there is no method 'dop'"):
        methods.build("expo", {"method": "dop"})
    assert (
        methods.build("expo", {"beta": 0.2}).stages[0].objective
        == methods.build("dpo", {"beta": 0.2}).stages[0].objective
    )
    assert methods.build("expo").stages[-1].finish == Extrapolate(0.3)


def test_the_reference_of_the_method_follows_the_adapter() -> None:
    """As it does without expo; one that moves stays."""

    def reference(name: str, /, **options: Any) -> Any:
        config = RunConfig(method=name, policy="p", data="d", lora=2, options=options)
        return recipe_of(config).stages[0].reference

    assert reference("expo", method="dpo") == reference("dpo") == AdapterOff()
    assert reference("expo", method="supervised") == NoReference()
    assert reference("expo", method="bpo") == reference("bpo") == Behaviour()


@pytest.fixture(scope="module")
def given(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """The arguments of a run that ends beyond its end, without its folder."""
    folder = tmp_path_factory.mktemp("given")
    data = write_rows(folder / "pairs.jsonl", pair_records(6))
    policy = saved(tiny_llama(), folder / "policy")
    options = [
        f"--set={name}={value}" for name, value in {**FAST, "method": "dpo", "alpha": ALPHA, "beta": 0.2}.items()
    ]
    return ["train", "expo", "--policy", str(policy), "--data", str(data), *options]


@pytest.fixture(scope="module")
def undisturbed(given: list[str], tmp_path_factory: pytest.TempPathFactory) -> bytes:
    folder = tmp_path_factory.mktemp("undisturbed") / "run"
    assert in_process(command_line, [*given, "--out", str(folder)]) == 0
    return (folder / "model" / "model.safetensors").read_bytes()


@pytest.mark.parametrize(
    "moment",
    [
        ("os.rename", "stages/00.partial", 1),
        ("os.mkdir", "00-00001-00000006-00000000.partial", 1),
        ("os.mkdir", "01-00000-00000006-00000000.partial", 1),
        ("os.rename", "01-00000-00000006-00000000.partial", 1),
        ("os.mkdir", "model.partial", 1),
    ],
    ids=["start", "last step", "after the finish", "its snapshot", "saving"],
)
def test_killed_at_the_end_it_moves_on_once(
    moment: tuple[str, str, int], given: list[str], undisturbed: bytes, tmp_path: Path
) -> None:
    arguments = [*given, "--out", str(tmp_path / "run")]
    assert in_process(command_line, arguments, moment) == -signal.SIGKILL
    assert in_process(command_line, [*arguments, "--resume"]) == 0
    assert (tmp_path / "run" / "model" / "model.safetensors").read_bytes() == undisturbed


# --- the command -----------------------------------------------------------------------------------------------------


def test_the_command(uptake: Cli, states: tuple[Path, Path]) -> None:
    said = uptake("extrapolate", *states, "--alpha", "0.1,0.5", "--out", "beyond")
    assert "model.layers.1" in said
    assert said.splitlines()[-2:] == ["model: beyond/alpha-0.1", "model: beyond/alpha-0.5"]
    close(tensors(uptake.folder / "beyond" / "alpha-0.5"), beyond(*states, 0.5))
    (message,) = uptake.fails("extrapolate", *states, "--alpha", "much", "--out", "other").splitlines()
    assert message == "field '--alpha': 'much' (allowed: a number, or several with commas between)"


@pytest.mark.parametrize(
    "moment",
    [("open", "model.safetensors", 3), ("os.rename", "out.partial", 1), ("os.mkdir", "alpha-0.5", 1)],
)
def test_killed_and_done_again(moment: tuple[str, str, int], states: tuple[Path, Path], tmp_path: Path) -> None:
    arguments = ["extrapolate", *map(str, states), "--alpha", "0.1,0.5", "--out", str(tmp_path / "out")]
    assert in_process(command_line, arguments, moment) == -signal.SIGKILL
    assert not (tmp_path / "out").exists()
    assert in_process(command_line, arguments) == 0
    for alpha in (0.1, 0.5):
        close(tensors(tmp_path / "out" / f"alpha-{alpha}"), beyond(*states, alpha))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out"]
