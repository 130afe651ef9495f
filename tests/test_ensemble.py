"""Ensembles of adapters, and BPO: means by dense algebra and by PEFT, members apart, phases by their exact law."""

import json
import math
import re
import signal
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from peft import PeftModel
from tiny import (
    command_line,
    in_process,
    pair_records,
    prompt_records,
    read_jsonl,
    saved,
    tiny_llama,
    tiny_world,
    weights_of,
    write_jsonl,
)
from tiny_cli import Cli
from torch import Tensor
from transformers import AutoModelForCausalLM

from uptake import methods
from uptake.data import ChatFormat
from uptake.errors import InputError, ModelError
from uptake.examples.preferences import PreferenceRows
from uptake.losses.pairwise import Logistic, logistic, soft_label
from uptake.models import LanguageModel, add_lora, branches, load, pack, save_model, token_logps
from uptake.models.ensemble import Ensemble, by_member, members, speaking
from uptake.objective import EachMember, Pairs
from uptake.recipe import Recipe, Stage
from uptake.reference import AdapterOff, Behaviour
from uptake.sampling.vllm_engines import adapter_rank
from uptake.train.loop import Options, run
from uptake.types import Pair
from uptake.update import Optimization, trainable
from uptake.world import World

RANK, ALPHA = 2, 6
TREES = [branches((5, 9, 12), (7, 20, 6), (15, 11)), branches((8, 4), (6, 9, 9, 10))]


def adapted(seed: int = 0, **changes: Any) -> LanguageModel:
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return add_lora(tiny_llama(**changes), rank=RANK, alpha=ALPHA)


def ensemble(count: int, lm: LanguageModel | None = None, seed: int = 0) -> LanguageModel:
    lm = adapted() if lm is None else lm
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        assert Ensemble(count)(lm) == {}
    return lm


def scattered(lm: LanguageModel, seed: int = 1) -> LanguageModel:
    """The model with adapters as if they had been trained, each otherwise."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for weight in trainable(lm).values():
            weight.add_(0.2 * torch.randn(weight.shape, generator=generator))
    return lm


def logps(lm: LanguageModel) -> Tensor:
    with torch.no_grad():
        return token_logps(lm, pack(TREES))


def dense_mean(lm: LanguageModel) -> LanguageModel:
    """The base with the mean of all products added to its weights, by plain matrix products."""
    plain = tiny_llama()
    weights = dict(lm.model.named_parameters())
    with torch.no_grad():
        for name, weight in plain.model.named_parameters():
            key = f"base_model.model.{name.removesuffix('.weight')}"
            products = [
                weights[f"{key}.lora_B.{each}.weight"] @ weights[f"{key}.lora_A.{each}.weight"]
                for each in members(lm)
                if f"{key}.lora_A.{each}.weight" in weights
            ]
            if products:
                weight.add_(torch.stack(products).mean(0) * ALPHA / RANK)
    return plain


# --- the mean --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("count", [2, 5])
def test_an_ensemble_says_the_mean_of_what_its_members_add(count: int) -> None:
    lm = scattered(ensemble(count))
    torch.testing.assert_close(logps(lm), logps(dense_mean(lm)), atol=1e-5, rtol=0)
    assert (logps(lm) - logps(tiny_llama())).abs().max() > 0.1


def test_equal_members_say_what_one_does() -> None:
    lm = ensemble(5)
    one = scattered(adapted())
    with torch.no_grad():
        weights = trainable(one)
        for name, weight in trainable(lm).items():
            first = name
            for member in members(lm)[1:]:
                first = first.replace(f".{member}.", ".default.")
            weight.copy_(weights[first])
    torch.testing.assert_close(logps(lm), logps(one), atol=1e-5, rtol=0)
    for member in members(lm):
        with speaking(lm, member):
            torch.testing.assert_close(logps(lm), logps(one), atol=1e-6, rtol=0)


def test_members_begin_as_the_base_each_with_an_a_of_its_own() -> None:
    lm = ensemble(4)
    assert torch.equal(logps(lm), logps(tiny_llama()))
    groups = by_member(lm, trainable(lm))
    assert [len(group) for group in groups] == [len(trainable(lm)) // 4] * 4
    firsts = [torch.cat([weight.detach().flatten() for weight in group]) for group in groups]
    assert all((one != other).any() for index, one in enumerate(firsts) for other in firsts[:index])
    # Drawn from the seed: equal ones give equal members, whatever was drawn before.
    twin = ensemble(4)
    again = [weight for group in by_member(twin, trainable(twin)) for weight in group]
    assert all(torch.equal(*both) for both in zip((weight for group in groups for weight in group), again, strict=True))


def test_the_seed_that_drew_the_first_member_draws_other_members() -> None:
    """`train` draws the policy's adapter from the seed, and a stage begins at the same seed."""
    torch.manual_seed(3)
    lm = add_lora(tiny_llama(), rank=RANK)
    torch.manual_seed(3)
    Ensemble(2)(lm)
    first, second = by_member(lm, trainable(lm))
    assert any((one != other).any() for one, other in zip(first, second, strict=True))


def test_one_member_speaks_alone_and_all_learn() -> None:
    lm = scattered(ensemble(3))
    names = {name for name, weight in lm.model.named_parameters() if weight.requires_grad}
    with speaking(lm, "member_1"):
        alone = logps(lm)
    other = adapted()
    with torch.no_grad():
        for name, weight in trainable(other).items():
            weight.copy_(dict(lm.model.named_parameters())[name.replace(".default.", ".member_1.")])
    torch.testing.assert_close(alone, logps(other), atol=1e-6, rtol=0)
    assert names == {name for name, weight in lm.model.named_parameters() if weight.requires_grad}
    torch.testing.assert_close(logps(lm), logps(dense_mean(lm)), atol=1e-5, rtol=0)


def test_what_is_saved_is_the_mean_as_one_adapter(tmp_path: Path) -> None:
    base = saved(tiny_llama(), tmp_path / "base")
    lm = scattered(ensemble(3, add_lora(load(base, device="cpu"), rank=RANK, alpha=ALPHA)))
    said = logps(lm)
    save_model(lm, ChatFormat.of(lm).template, tmp_path / "model")
    config = json.loads((tmp_path / "model" / "adapter_config.json").read_text())
    assert (config["r"], config["lora_alpha"], config["base_model_name_or_path"]) == (3 * RANK, ALPHA, str(base))
    torch.testing.assert_close(logps(load(tmp_path / "model", device="cpu")), said, atol=1e-5, rtol=0)
    peft = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(base), tmp_path / "model")
    merged, dense = peft.merge_and_unload().state_dict(), dense_mean(lm).base.state_dict()
    for name, weight in dense.items():
        torch.testing.assert_close(merged[name], weight, atol=1e-6, rtol=0)
    # Saving is no end.
    assert torch.equal(logps(lm), said)
    assert adapter_rank(lm) == 3 * RANK
    lm.base.name_or_path = ""
    save_model(lm, ChatFormat.of(lm).template, tmp_path / "whole")
    assert not (tmp_path / "whole" / "adapter_config.json").exists()
    torch.testing.assert_close(logps(load(tmp_path / "whole", device="cpu")), said, atol=1e-5, rtol=0)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (
            tiny_llama,
            r"has no adapter \(allowed: a policy with one fresh adapter, as --lora gives it; or an ensemble of 1",
        ),
        (lambda: ensemble(3), "has 3 adapters"),
        (lambda: scattered(adapted()), "its adapter was trained before"),
        (lambda: add_lora(tiny_llama(), targets=["q_proj", "lm_head"]), "an adapter of the vocabulary projection"),
    ],
)
def test_policies_that_cannot_be_an_ensemble(make: Any, message: str) -> None:
    with pytest.raises((InputError, ModelError), match=message):
        Ensemble(2)(make())


# --- each member -----------------------------------------------------------------------------------------------------


def stage(objective: Any, **slots: Any) -> Recipe:
    update = Optimization(lr=1e-2, batch_size=2, warmup=0, micro_tokens=40, clip=0.05, epochs=2)
    return Recipe(
        (Stage(examples=PreferenceRows(), reference=AdapterOff(), objective=objective, update=update, **slots),)
    )


def test_every_member_learns_as_if_it_were_alone(tmp_path: Path) -> None:
    """The same pairs, its own gradient, clipped by itself; the seed of the run draws the members."""
    many = run(
        stage(EachMember(Pairs(Logistic(0.1))), modules=Ensemble(3)),
        tiny_world(tmp_path / "many", pair_records(6), adapted()),
    ).policy
    torch.manual_seed(0)
    begun = adapted()
    Ensemble(3)(begun)
    lines = read_jsonl(tmp_path / "many" / "metrics.jsonl")
    trained, start = (dict(lm.model.named_parameters()) for lm in (many, begun))
    alone: list[list[dict[str, Any]]] = []
    for index, member in enumerate(members(many)):
        lm = adapted()
        with torch.no_grad():
            for name, weight in trainable(lm).items():
                weight.copy_(start[name.replace(".default.", f".{member}.")])
        folder = tmp_path / str(index)
        lm = run(stage(Pairs(Logistic(0.1))), tiny_world(folder, pair_records(6), lm)).policy
        for name, weight in trainable(lm).items():
            torch.testing.assert_close(weight, trained[name.replace(".default.", f".{member}.")], atol=1e-7, rtol=1e-6)
        alone.append(read_jsonl(folder / "metrics.jsonl"))
    for line, *each in zip(lines, *alone, strict=True):
        for name in ("loss", "margin", "accuracy"):
            values = [one[name] for one in each]
            assert [line[f"{name}_member_{index}"] for index in range(3)] == pytest.approx(values, abs=1e-6)
            assert line[name] == pytest.approx(sum(values) / 3, abs=1e-6)
            spread = (sum((value - sum(values) / 3) ** 2 for value in values) / 3) ** 0.5
            assert line[f"{name}_spread"] == pytest.approx(spread, abs=1e-6)
        assert line["grad_norm"] == pytest.approx(sum(one["grad_norm"] for one in each) / 3, rel=1e-5)
    assert lines[-1]["margin_spread"] > 1e-3
    assert min(line["grad_norm"] for line in lines) > 0.05


# --- the behaviour policy --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("lora", [True, False])
def test_the_copy_follows_and_the_start_stays(lora: bool, tmp_path: Path) -> None:
    lm = adapted() if lora else tiny_llama()
    world = tiny_world(tmp_path, [], lm)
    reference = Behaviour().start(world)
    packed = pack(TREES)
    start = logps(lm)
    scattered(lm, 1)
    first = logps(lm)
    torch.testing.assert_close(reference.token_logps(packed), start, atol=0, rtol=0)
    reference.advance(world)
    assert torch.equal(reference.token_logps(packed), first)
    scattered(lm, 2)
    second = logps(lm)
    ratios, figures = reference.log_ratios(packed, second)
    torch.testing.assert_close(ratios, packed.node_sums(second - first))
    torch.testing.assert_close(figures["initial_log_ratio"], packed.node_sums(second - start).sum() / 2)
    # A state that is restored is that of the copy.
    other = Behaviour().start(tiny_world(tmp_path, [], adapted() if lora else tiny_llama()))
    assert torch.equal(other.token_logps(packed), start)
    other.restore({name: weight.clone() for name, weight in reference.state().items()})
    assert torch.equal(other.token_logps(packed), first)


def test_the_copy_under_an_adapter_shares_the_base(tmp_path: Path) -> None:
    lm = adapted()
    copied: Any = Behaviour().start(tiny_world(tmp_path, [], lm))
    mine, theirs = (dict(each.model.named_parameters()) for each in (lm, copied.previous.lm))
    assert mine.keys() == theirs.keys()
    assert all((mine[name] is theirs[name]) == ("lora_" not in name) for name in mine)


def test_an_adapter_that_was_trained_before_is_no_start(tmp_path: Path) -> None:
    """The start is then the model with that adapter, and not without."""
    lm = scattered(adapted())
    reference = Behaviour().start(tiny_world(tmp_path, [], lm))
    _, figures = reference.log_ratios(pack(TREES), logps(lm))
    assert float(figures["initial_log_ratio"]) == 0


def test_rows_that_come_again_are_read_once(tmp_path: Path) -> None:
    lm = scattered(ensemble(3))
    world = tiny_world(tmp_path, [], lm)
    running: Any = Behaviour().start(world)
    calls: list[int] = []
    running.previous.lm.decoder.register_forward_hook(lambda *_: calls.append(1))
    pairs = [Pair((5, 9, 12), (7, 20, 6), (15, 11), 0.0)]
    objective = EachMember(Pairs(Logistic(0.1)))
    objective(lm, running, pairs)
    assert len(calls) == 1
    objective(lm, running, [replace(pairs[0], chosen_ids=(7, 20, 7))])
    assert len(calls) == 2
    running.advance(world)
    objective(lm, running, [replace(pairs[0], chosen_ids=(7, 20, 7))])
    assert len(calls) == 3


# --- phases ----------------------------------------------------------------------------------------------------------

REWARDS = torch.tensor([1.0, 0.5, 0.0, -0.5, -1.2], dtype=torch.float64)
START = torch.tensor([-1.0, 0.3, 1.2, 0.4, -0.2], dtype=torch.float64).log_softmax(0)


def converged(reference: Tensor, beta: float) -> Tensor:
    """Log-probabilities at the minimum of the pair loss over all pairs, with Bradley-Terry labels."""
    logits = reference.clone().requires_grad_()
    optimizer = torch.optim.LBFGS([logits], max_iter=500, tolerance_grad=1e-12, line_search_fn="strong_wolfe")
    labels = torch.sigmoid(REWARDS[:, None] - REWARDS[None, :]).flatten()

    def closure() -> Tensor:
        optimizer.zero_grad()
        ratios = logits.log_softmax(0) - reference
        losses = soft_label(lambda h: logistic(h, beta), (ratios[:, None] - ratios[None, :]).flatten(), labels)
        loss = losses.mean()
        loss.backward()
        return loss

    optimizer.step(closure)
    return logits.detach().log_softmax(0)


GOLDEN = {
    1: (0.0834, 0.2384, 0.4566, 0.1598, 0.0618),
    2: (0.1299, 0.2891, 0.4313, 0.1176, 0.0320),
    3: (0.1902, 0.3297, 0.3831, 0.0813, 0.0156),
}


@pytest.mark.parametrize("phases", GOLDEN)
def test_phases_divide_beta(phases: int) -> None:
    """The reference that follows lands on the Gibbs policy of beta over the phases; one that stays never leaves it."""
    moving = still = START
    for _ in range(phases):
        moving, still = converged(moving, 2.0), converged(START, 2.0)
    expected = torch.tensor(GOLDEN[phases], dtype=torch.float64)
    torch.testing.assert_close(moving.exp(), expected, atol=1e-4, rtol=0)
    torch.testing.assert_close(moving.exp(), (START + REWARDS * phases / 2.0).softmax(0), atol=1e-6, rtol=0)
    torch.testing.assert_close(still.exp(), torch.tensor(GOLDEN[1], dtype=torch.float64), atol=1e-4, rtol=0)


# --- the method ------------------------------------------------------------------------------------------------------

SHORT: dict[str, Any] = {
    "judge": "length",
    "steps": 4,
    "steps_per_round": 2,
    "batch_size": 4,
    "max_new_tokens": 6,
    "lr": 1e-2,
    "warmup": 0,
    "micro_tokens": 8192,
}


def bpo(**changes: Any) -> Recipe:
    return methods.build("bpo", {**SHORT, **changes})


def test_with_a_fixed_reference_it_is_online_ai_feedback_to_the_bit(tmp_path: Path) -> None:
    """One member, refreshed at every step."""
    settings = {**SHORT, "steps_per_round": 1}
    names = set(methods.find("bpo").Config.model_fields) & set(methods.find("oaif").Config.model_fields)
    own = methods.configure("bpo", {**settings, "ensemble": 1, "reference": "initial"}).model_dump(include=names)
    for name, recipe in (
        ("bpo", bpo(**settings | {"ensemble": 1, "reference": "initial"})),
        ("oaif", methods.build("oaif", own)),
    ):
        run(recipe, tiny_world(tmp_path / name, prompt_records(16)))
    for file in ("metrics.jsonl", "model/model.safetensors"):
        assert (tmp_path / "bpo" / file).read_bytes() == (tmp_path / "oaif" / file).read_bytes()
    assert len(read_jsonl(tmp_path / "bpo" / "metrics.jsonl")) == 4


@pytest.mark.parametrize("loss", ["dpo", "ipo", "slic"])
def test_one_member_in_phases_of_one_step_never_sees_a_margin(loss: str, tmp_path: Path) -> None:
    lm = tiny_llama(dtype=torch.float64)
    run(bpo(ensemble=1, steps_per_round=1, loss=loss), tiny_world(tmp_path, prompt_records(16), lm))
    constant = {"dpo": math.log(2), "ipo": 25.0, "slic": 1.0}[loss]
    lines = read_jsonl(tmp_path / "metrics.jsonl")
    assert [line["loss"] for line in lines] == pytest.approx([constant] * 4, abs=1e-12)
    assert [(line["margin"], line["log_ratio"], line["accuracy"]) for line in lines] == [(0, 0, 0.5)] * 4
    assert lines[0]["initial_log_ratio"] == 0
    assert abs(lines[-1]["initial_log_ratio"]) > 1e-3


def test_the_first_step_of_a_phase_follows_the_likelihoods_alone(tmp_path: Path) -> None:
    """Its gradient is `-beta / 2` times that of the chosen's log-probability less the rejected's."""
    lm = tiny_llama(dtype=torch.float64)
    pair = Pair((5, 9, 12), (7, 20, 6), (15, 11), 0.0)
    Pairs(Logistic(0.3))(lm, Behaviour().start(tiny_world(tmp_path, [], lm)), [pair]).total.backward()
    found = {name: weight.grad for name, weight in lm.model.named_parameters()}
    other = tiny_llama(dtype=torch.float64)
    packed = pack([branches(pair.prompt_ids, pair.chosen_ids, pair.rejected_ids)])
    chosen, rejected = packed.node_sums(token_logps(other, packed))
    (-0.3 / 2 * (chosen - rejected)).backward()
    for name, weight in other.model.named_parameters():
        torch.testing.assert_close(found[name], weight.grad, atol=1e-12, rtol=0)


def test_phases_of_an_ensemble(tmp_path: Path) -> None:
    """Both divergences, the age, and the loss at the start of every phase; the mean samples and is saved."""
    base = saved(tiny_llama(), tmp_path / "base")
    lm = add_lora(load(base, device="cpu"), rank=RANK, alpha=ALPHA)
    run(bpo(ensemble=3, steps=6, steps_per_round=3), tiny_world(tmp_path / "run", prompt_records(24), lm))
    lines = read_jsonl(tmp_path / "run" / "metrics.jsonl")
    assert [(line["round"], line["age"]) for line in lines] == [(0, 0), (0, 1), (0, 2), (1, 0), (1, 1), (1, 2)]
    for line in lines[:3]:
        assert line["initial_log_ratio"] == pytest.approx(line["log_ratio"], abs=1e-5)
    assert lines[0]["loss"] == pytest.approx(math.log(2), abs=1e-6)
    assert all(lines[0][f"margin_member_{index}"] == pytest.approx(0, abs=1e-6) for index in range(3))
    # Members differ from their mean at the start of the second phase: that is the trust region.
    assert lines[3]["margin_spread"] > 1e-4
    assert abs(lines[3]["initial_log_ratio"] - lines[3]["log_ratio"]) > 1e-3
    torch.testing.assert_close(logps(load(tmp_path / "run" / "model", device="cpu")), logps(lm), atol=1e-5, rtol=0)
    torch.testing.assert_close(logps(lm), logps(dense_mean(lm)), atol=1e-5, rtol=0)


class Stop(Exception):
    """The run is interrupted."""


def stop_at(step: int) -> Any:
    def observe(world: World, now: int) -> Mapping[str, Any]:
        if now == step:
            raise Stop
        return {}

    return observe


@pytest.mark.parametrize("step", [0, 1, 2, 3, 5])
def test_an_ensemble_stopped_in_a_phase_ends_as_one_that_was_not(step: int, tmp_path: Path) -> None:
    base = saved(tiny_llama(), tmp_path / "base")
    options = Options(save_every=1, observe=lambda world, step: {}, observe_every=1)

    def world(name: str) -> World:
        with torch.random.fork_rng():
            torch.manual_seed(0)
            lm = add_lora(load(base, device="cpu"), rank=RANK, alpha=ALPHA)
        return tiny_world(tmp_path / name, prompt_records(24), lm)

    recipe = bpo(ensemble=2, steps=6, steps_per_round=3)
    run(recipe, world("whole"), options)
    with pytest.raises(Stop):
        run(recipe, world("run"), replace(options, observe=stop_at(step)))
    run(recipe, world("run"), replace(options, resume=True))
    run(recipe, world("run"), replace(options, resume=True))
    for file in ("metrics.jsonl", "model/adapter_model.safetensors", "rounds/0-1/judged.jsonl"):
        assert (tmp_path / "run" / file).read_bytes() == (tmp_path / "whole" / file).read_bytes()


@pytest.fixture(scope="module")
def given(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """The arguments of a run on the command line, without its folder."""
    folder = tmp_path_factory.mktemp("given")
    data = write_jsonl(folder / "prompts.jsonl", prompt_records(16))
    policy = saved(tiny_llama(), folder / "policy")
    options = [f"--set={name}={value}" for name, value in {**SHORT, "ensemble": 2}.items() if name != "judge"]
    return ["bpo", "--policy", str(policy), "--data", str(data), "--judge", "length", *options]


def test_a_killed_ensemble_ends_as_one_that_was_not(given: list[str], tmp_path: Path) -> None:
    """In the second phase, between two snapshots, with the copy that sampled it."""
    arguments = ["train", *given, "--lora", "2", "--save-every", "1", "--out"]
    assert in_process(command_line, [*arguments, str(tmp_path / "whole")]) == 0
    moment = ("os.rename", "00-00001-00000003-00000001.partial", 1)
    assert in_process(command_line, [*arguments, str(tmp_path / "run")], moment) == -signal.SIGKILL
    assert in_process(command_line, [*arguments, str(tmp_path / "run"), "--resume"]) == 0
    for file in ("metrics.jsonl", "model/adapter_model.safetensors"):
        assert (tmp_path / "run" / file).read_bytes() == (tmp_path / "whole" / file).read_bytes()
    recipe = yaml.safe_load((tmp_path / "run" / "recipe.yaml").read_text())["Recipe"]["stages"][0]["Stage"]
    assert (recipe["reference"], recipe["modules"]) == ("Behaviour", {"Ensemble": {"members": 2}})
    assert json.loads((tmp_path / "run" / "model" / "adapter_config.json").read_text())["r"] == 4


def test_an_ensemble_on_the_command_line_wants_an_adapter(uptake: Cli, given: list[str]) -> None:
    code, _, error = uptake.run("train", *given, "--out", "run")
    assert code == 2
    assert "field 'ensemble': " in error
    assert "policy has no adapter (allowed: a policy with one fresh adapter, as --lora gives it" in error
    facts = uptake("check", *given, "--lora", 2)
    lm = add_lora(tiny_llama(), rank=2)
    base = sum(weight.numel() for weight in lm.base.parameters() if not weight.requires_grad)
    learned = 2 * sum(weight.numel() for weight in trainable(lm).values())
    assert f"{base + learned:,}, of which {learned:,} are trained" in facts
    # Eight prompts make a phase of two steps.
    assert re.search(r"rows +│ 8 ", facts)
    assert "policy, reference, gradients, 2 optimizer moments" in facts


def test_an_ensemble_goes_on_past_its_end(tmp_path: Path) -> None:
    found = {}
    for name in ("bpo", "expo"):
        recipe = bpo(ensemble=2) if name == "bpo" else methods.build("expo", {"method": "bpo", "ensemble": 2, **SHORT})
        found[name] = dense_mean(run(recipe, tiny_world(tmp_path / name, prompt_records(16), adapted())).policy)
    zero, one, two = (weights_of(lm) for lm in (tiny_llama(), found["bpo"], found["expo"]))
    for name, weight in two.items():
        torch.testing.assert_close(weight, one[name] + 0.3 * (one[name] - zero[name]), atol=1e-6, rtol=0)


def test_settings_of_the_paper_and_of_the_command_line() -> None:
    (stage,) = methods.build("bpo").stages
    assert stage.modules == Ensemble(5)
    assert stage.objective == EachMember(Pairs(Logistic(0.1)))
    assert (stage.rounds, stage.reference) == (2, Behaviour())
    for loss in ("ipo", "slic"):
        assert methods.build("bpo", {"loss": loss}).stages[0].objective.objective.kernel.beta == 0.1
    with pytest.raises(InputError, match="multiple of steps_per_round"):
        methods.build("bpo", {"steps": 5, "steps_per_round": 2})
    with pytest.raises(InputError, match="greater than or equal to 1"):
        methods.build("bpo", {"ensemble": 0})
