"""Training under --dtype bfloat16: what learns is in fp32, computes in bfloat16, and starts where its reference is."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from tiny import pair_records, prompt_records, read_jsonl, saved, tiny_llama, write_jsonl
from tiny_cli import Cli, sets
from torch import Tensor

from uptake import methods
from uptake.errors import InputError, ModelError
from uptake.examples.preferences import PreferenceRows
from uptake.losses.pairwise import Logistic
from uptake.models import LanguageModel, Packed, add_lora, branches, load, pack, token_logps
from uptake.models.scorer import packed_states
from uptake.objective import Pairs
from uptake.reference import AdapterOff, Frozen, Given, Reference
from uptake.sampling import PromptIds, Sampling, sample
from uptake.tasks.run_config import RunConfig
from uptake.tasks.train import build_world
from uptake.types import Prompt, Turn
from uptake.update import Optimization, build_optimizer, trainable
from uptake.world import World

# PEFT still asks Transformers by an old name.

# Twenty steps at the paper's rate: 40 pairs, 8 a step, four times.
SLOW = {"lr": 5e-7, "warmup": 0, "batch_size": 8, "epochs": 4, "schedule": "constant"}
PAIRS = pair_records(40)


@pytest.fixture
def model(tmp_path: Path) -> Path:
    return saved(tiny_llama(), tmp_path / "m")


def moved(before: dict[str, Tensor], after: dict[str, Tensor]) -> float:
    """The share of all weights that are not what they were."""
    changed = [before[name].float() != weight.float() for name, weight in after.items()]
    return float(torch.cat([each.flatten() for each in changed]).float().mean())


def test_small_steps_move_every_weight_under_bfloat16(uptake: Cli, model: Path) -> None:
    """As many as in fp32, where weights in bfloat16 would stay as they are, and to where fp32 moves them."""
    write_jsonl(Path("pairs.jsonl"), PAIRS)
    margins = {}
    for dtype in ("float32", "bfloat16"):
        options = ["--policy", model, "--data", "pairs.jsonl", "--dtype", dtype, "--device", "cpu", "--out", dtype]
        uptake("train", "dpo", *options, *sets(SLOW))
        lines = read_jsonl(Path(dtype) / "metrics.jsonl")
        assert len(lines) == 20
        assert lines[0]["loss"] == pytest.approx(0.693147, abs=1e-6)
        after = load_file(Path(dtype) / "model" / "model.safetensors")
        assert {weight.dtype for weight in after.values()} == {torch.float32}
        assert moved(load_file(model / "model.safetensors"), after) > 0.99
        margins[dtype] = margin(Path(dtype) / "model") - margin(model)
    assert margins["float32"] > 0
    assert margins["bfloat16"] == pytest.approx(margins["float32"], rel=0.1)


def margin(folder: Path) -> float:
    """How much likelier the chosen responses are than the others, on average, as float64 has it."""
    rows = str(Path("pairs.jsonl").resolve())
    config = RunConfig(method="dpo", policy=str(folder), data=rows, dtype="float64", device="cpu")
    world = build_world(methods.build("dpo", {}), config, "run", learns=False)
    packed = packed_pairs(world, len(PAIRS))
    with torch.no_grad():
        chosen, rejected = packed.node_sums(token_logps(world.policy, packed)).view(-1, 2).T
    return float((chosen - rejected).mean())


def test_an_adapter_over_a_bfloat16_base_learns_in_fp32(uptake: Cli, model: Path) -> None:
    write_jsonl(Path("pairs.jsonl"), PAIRS)
    config = RunConfig(method="dpo", policy=str(model), data="pairs.jsonl", lora=4, dtype="bfloat16", device="cpu")
    world = build_world(methods.build("dpo", {}), config, "run")
    before = {name: weight.detach().clone() for name, weight in trainable(world.policy).items()}
    assert {weight.dtype for weight in before.values()} == {torch.float32}
    assert world.policy.dtype == torch.bfloat16
    options = ["--policy", model, "--data", "pairs.jsonl", "--dtype", "bfloat16", "--lora", 4, "--out", "run"]
    uptake("train", "dpo", *options, *sets(SLOW))
    assert read_jsonl(Path("run/metrics.jsonl"))[0]["loss"] == pytest.approx(0.693147, abs=1e-6)
    after = load_file("run/model/adapter_model.safetensors")
    assert {weight.dtype for weight in after.values()} == {torch.float32}
    assert moved({name.replace(".default", ""): weight for name, weight in before.items()}, after) > 0.99
    # And once more from the adapter, as it is.
    again = ["--policy", "run/model", "--data", "pairs.jsonl", "--dtype", "bfloat16", "--out", "again"]
    uptake("train", "dpo", *again, *sets(SLOW))
    assert moved(after, load_file("again/model/adapter_model.safetensors")) > 0.99


REFERENCES: dict[str, tuple[Reference, int]] = {
    "a copy": (Frozen(), 0),
    "without the adapter": (AdapterOff(), 4),
    "a copy under LoRA": (Frozen(), 4),
    "the same folder": (Given(), 0),
    "the same folder under LoRA": (Given(), 4),
}


@pytest.mark.parametrize("kind", REFERENCES)
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_a_reference_that_is_the_policy_says_what_it_says(kind: str, precision: Any, model: Path) -> None:
    """And what both say is rounded in bfloat16."""
    reference, lora = REFERENCES[kind]
    rows = str(write_jsonl(model.parent / "pairs.jsonl", PAIRS))
    models = {"reference": str(model)} if isinstance(reference, Given) else {}
    config = RunConfig(
        method="dpo", policy=str(model), data=rows, lora=lora, dtype="bfloat16", device="cpu", models=models
    )
    recipe = methods.build("dpo", {"reference": "given"} if models else {})
    world = build_world(recipe, config, model.parent / "run")
    packed = packed_pairs(world)
    running = reference.start(world)
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16, enabled=precision == "bf16"):
        ours, theirs = token_logps(world.policy, packed), running.token_logps(packed)
        exact = token_logps(load(model, device="cpu", dtype="float32"), packed)
    torch.testing.assert_close(ours, theirs, atol=1e-6, rtol=0)
    assert precision == "bf16" or 1e-4 < float((ours - exact).abs().max()) < 0.3


def packed_pairs(world: World, count: int = 8) -> Packed:
    examples = PreferenceRows()(world, 0).examples
    return pack([Pairs(Logistic()).tree(pair) for pair in examples[:count]], lean=True)


def test_a_reference_of_other_precision_is_refused(model: Path) -> None:
    rows = str(write_jsonl(model.parent / "pairs.jsonl", PAIRS))
    config = RunConfig(method="dpo", policy=str(model), data=rows, dtype="bfloat16", device="cpu")
    world = build_world(methods.build("dpo", {}), config, model.parent / "run")
    for other in (load(model, dtype="bfloat16"), load(model, dtype="float32")):
        with pytest.raises(InputError, match=r"torch.float32 computed in torch.bfloat16 and the reference"):
            Given().start(World(world.policy, world.chat, models={"reference": other}))


def test_weights_in_half_precision_are_not_trained() -> None:
    lm = tiny_llama(dtype=torch.bfloat16)
    message = r"trained weights in bfloat16 lose most of a step to rounding \(allowed: fp32"
    with pytest.raises(ModelError, match=message):
        build_optimizer(Optimization(lr=1e-3), trainable(lm).values())
    build_optimizer(Optimization(lr=1e-3), trainable(add_lora(lm, 2)).values())


def test_only_what_learns_is_in_fp32(model: Path) -> None:
    """Judges stay as --dtype says, and so does a policy that is only sampled."""
    rows = str(write_jsonl(model.parent / "prompts.jsonl", prompt_records(2)))
    models = {"follow_up": str(model)}
    config = RunConfig(method="flr", policy=str(model), data=rows, dtype="bfloat16", device="cpu", models=models)
    recipe = methods.build("flr", {})
    learning, reading = build_world(recipe, config, "run"), build_world(recipe, config, "run", learns=False)
    kinds = [(world.policy.dtype, world.policy.autocast) for world in (learning, reading)]
    assert kinds == [(torch.float32, torch.bfloat16), (torch.bfloat16, None)]
    assert learning.model("follow_up").dtype == torch.bfloat16


def in_rows(lm: LanguageModel) -> LanguageModel:
    lm.base.set_attn_implementation("sdpa")
    return replace(lm, attention="rows")


@pytest.fixture(params=[lambda lm: lm, in_rows], ids=["trees", "rows"])
def rounding_and_exact(request: pytest.FixtureRequest, model: Path) -> tuple[LanguageModel, LanguageModel]:
    """A policy with weights in fp32 that computes in bfloat16, and the same model in fp32 throughout."""
    lm = load(model, device="cpu", dtype="bfloat16", fp32_weights=True)
    return request.param(lm), load(model, device="cpu", dtype="float32")


@torch.no_grad()
def test_samples_and_scores_of_such_a_policy_agree(rounding_and_exact: tuple[LanguageModel, LanguageModel]) -> None:
    """Both round in bfloat16, so they are near to each other and not equal to fp32."""
    lm, exact = rounding_and_exact
    prompts = [
        PromptIds(Prompt((Turn("user", str(size)),), key=str(size)), tuple(range(3, 3 + size))) for size in (4, 9)
    ]
    settings = Sampling(n=4, temperature=1.0, top_p=1.0, max_new_tokens=12)
    rollouts = sample(lm, prompts, settings, lm.end_ids)
    packed = pack([branches(each.prompt_ids, each.response_ids) for each in rollouts])
    drawn = torch.tensor([logp for each in rollouts for logp in each.logps])
    torch.testing.assert_close(drawn, token_logps(lm, packed), atol=0.1, rtol=0)
    assert float((drawn - token_logps(exact, packed)).abs().max()) > 1e-4


@torch.no_grad()
def test_hidden_states_are_computed_in_bfloat16_too(rounding_and_exact: tuple[LanguageModel, LanguageModel]) -> None:
    """As near to fp32 as the plain model under autocast, and no nearer."""
    lm, exact = rounding_and_exact
    ids = torch.arange(3, 17)
    packed = pack([branches(ids[:4].tolist(), ids[4:].tolist())])
    with torch.autocast("cpu", torch.bfloat16):
        plain = exact.decoder(input_ids=ids[None], use_cache=False).last_hidden_state[0]
    right = exact.decoder(input_ids=ids[None], use_cache=False).last_hidden_state[0]
    rounding = float((plain - right).abs().max())
    found = float((packed_states(lm, packed) - right).abs().max())
    assert 1e-3 < rounding / 3 < found < rounding * 3


def test_ppo_learns_in_fp32_and_starts_at_no_divergence(uptake: Cli, model: Path) -> None:
    write_jsonl(Path("prompts.jsonl"), prompt_records(4))
    options = {"n": 2, "max_new_tokens": 6, "rounds": 1, "prompts": 4, "kl": "full"}
    arguments = ["--policy", model, "--data", "prompts.jsonl", "--dtype", "bfloat16", "--out", "run"]
    uptake("train", "ppo", *arguments, "--reward", "length", *sets(options))
    first = read_jsonl(Path("run/metrics.jsonl"))[0]
    assert first["kl"] == pytest.approx(0, abs=1e-6)


def test_a_run_of_another_precision_is_not_gone_on_with(uptake: Cli, model: Path) -> None:
    write_jsonl(Path("pairs.jsonl"), PAIRS)
    options = ["--policy", model, "--data", "pairs.jsonl", "--out", "run", *sets(SLOW)]
    uptake("train", "dpo", *options, "--dtype", "bfloat16")
    message = uptake.fails("train", "dpo", *options, "--dtype", "float32", "--resume")
    assert "the run was started with 'policy' in another precision" in message
