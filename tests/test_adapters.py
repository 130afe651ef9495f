"""Adapters: what a model was tuned to say stays in the numbers, whatever is put on top, or there is one clear error.

The other road is PEFT's own: the base model under the adapter, read by Transformers.
"""

import json
import logging
import math
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from huggingface_hub import constants
from peft import LoraConfig, PeftModel, PromptTuningConfig, get_peft_model
from safetensors.torch import load_file
from tiny import pair_records, prompt_records, read_jsonl, saved, tiny_llama, tiny_world, write_jsonl
from tiny_cli import Cli
from transformers import (
    AutoModelForCausalLM,
    AutoModelForSequenceClassification,
    AutoModelForTokenClassification,
    AutoTokenizer,
)

from uptake import methods
from uptake.data import ChatFormat
from uptake.errors import InputError, ModelError
from uptake.models import LanguageModel, add_lora, branches, load, pack, save_model, token_logps
from uptake.rewards.classifier import Classifier
from uptake.rewards.token_reward import load_token_reward
from uptake.tasks.check import check
from uptake.tasks.run_config import RunConfig
from uptake.tasks.train import build_world
from uptake.train import run
from uptake.types import Turn

# PEFT still asks Transformers by an old name.

IDS = (5, 9, 12, 7, 20, 6, 15, 11, 8, 4)
DRY = ("--set=batch_size=4", "--set=lr=1e-9", "--set=warmup=0", "--device=cpu")


@pytest.fixture
def base(tmp_path: Path) -> Path:
    return saved(tiny_llama(), tmp_path / "base")


@pytest.fixture
def tuned(base: Path) -> Path:
    return adapter(base)


def adapter(base: Path, name: str = "tuned", auto: Any = AutoModelForCausalLM, seed: int = 1, **config: Any) -> Path:
    """An adapter beside its base, with weights as if it had been trained."""
    settings = {"r": 4, "lora_alpha": 8, "target_modules": ["q_proj", "up_proj"], "task_type": "CAUSAL_LM", **config}
    with torch.random.fork_rng():
        torch.manual_seed(seed)  # a new adapter draws its weights
        model = get_peft_model(auto.from_pretrained(base), LoraConfig(**settings))
    moved(model, seed)
    model.save_pretrained(base.parent / name)
    AutoTokenizer.from_pretrained(base).save_pretrained(base.parent / name)
    return base.parent / name


@pytest.fixture(autouse=True)
def _same_draws() -> Iterator[None]:
    """A new adapter draws its weights, the same whatever ran before."""
    with torch.random.fork_rng():
        torch.manual_seed(7)
        yield


def moved(model: Any, seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for weight in model.parameters():
            if weight.requires_grad:
                weight.add_(0.3 * torch.randn(weight.shape, generator=generator))


def logp(model: Any) -> float:
    """The log-probability of some tokens by a plain call of Transformers."""
    ids = torch.tensor([IDS])
    with torch.no_grad():
        table = model(input_ids=ids).logits.log_softmax(-1)[0, :-1]
    return float(table.gather(1, ids[0, 1:, None]).sum())


def read(lm: LanguageModel) -> float:
    """The same by ours."""
    with torch.no_grad():
        return float(token_logps(lm, pack([branches(IDS[:1], IDS[1:])])).sum())


def expected(base: Path, *adapters: Path) -> float:
    """The same under adapters, each merged by PEFT before the next."""
    model: Any = AutoModelForCausalLM.from_pretrained(base)
    for each in adapters:
        model = PeftModel.from_pretrained(model, each).merge_and_unload()
    return logp(model)


def rewritten(folder: Path, **changes: Any) -> Path:
    """The adapter with other entries in its configuration."""
    file = folder / "adapter_config.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), **changes}))
    return folder


# --- a second adapter -------------------------------------------------------------------------------------------------


def test_training_an_adapter_goes_on_from_the_first(
    uptake: Cli, base: Path, tuned: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """One step at a rate of nothing leaves the model that was given, and it is the reference."""
    rows = write_jsonl(uptake.folder / "pairs.jsonl", pair_records(4))
    uptake("train", "dpo", "--policy", tuned, "--lora", 4, "--data", rows, "--out", "run", *DRY)
    (line,) = [line for line in caplog.messages if "adapter" in line]
    assert (
        line == f"{tuned}: its adapter is merged into its base before a new one is added; the whole model will be saved"
    )
    model = uptake.folder / "run" / "model"
    assert logp(AutoModelForCausalLM.from_pretrained(model)) == pytest.approx(expected(base, tuned), abs=1e-4)
    assert read(load(model, device="cpu")) == pytest.approx(expected(base, tuned), abs=1e-4)
    assert abs(expected(base, tuned) - expected(base)) > 1
    (metrics,) = read_jsonl(uptake.folder / "run" / "metrics.jsonl")
    assert (metrics["loss"], metrics["margin"]) == pytest.approx((math.log(2), 0), abs=1e-5)
    chat, policy = (
        ChatFormat.of(load(tuned, device="cpu")),
        PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(base), tuned),
    )
    sums = []
    for record in pair_records(4):
        prompt, response = chat.response_ids((Turn("user", record["prompt"]),), record["chosen"])
        ids = torch.tensor([[*prompt, *response]])
        with torch.no_grad():
            table = policy(input_ids=ids).logits.log_softmax(-1)[0, len(prompt) - 1 : -1]
        sums.append(float(table.gather(1, torch.tensor(response)[:, None]).sum()))
    assert metrics["chosen_logp"] == pytest.approx(sum(sums) / 4, abs=1e-3)


def test_a_reward_model_on_an_adapter_keeps_it(uptake: Cli, base: Path, tuned: Path) -> None:
    rows = write_jsonl(uptake.folder / "pairs.jsonl", pair_records(4))
    out = ("--data", rows, "--out", "run")
    uptake("train", "reward_model", "--policy", tuned, "--lora", 4, *out, *DRY)
    merged: Any = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(base), tuned).merge_and_unload()
    weights = load_file(uptake.folder / "run" / "model" / "model.safetensors")
    for name, weight in merged.model.state_dict().items():
        torch.testing.assert_close(weights[f"model.{name}"], weight, atol=1e-5, rtol=1e-5)


def test_a_third_adapter_keeps_both(base: Path, tuned: Path, caplog: pytest.LogCaptureFixture) -> None:
    lm = load(tuned, device="cpu")
    with caplog.at_level(logging.WARNING):
        second = add_lora(lm, rank=2)
    assert len(caplog.messages) == 1
    assert read(second) == pytest.approx(expected(base, tuned), abs=1e-4)
    moved(second.model, seed=2)
    with_both = read(second)
    assert abs(with_both - expected(base, tuned)) > 1
    third = add_lora(second, rank=2)
    assert read(third) == pytest.approx(with_both, abs=1e-4)
    moved(third.model, seed=3)
    with torch.no_grad(), third.model.disable_adapter():  # type: ignore[operator]
        assert read(third) == pytest.approx(with_both, abs=1e-4)
    assert abs(read(third) - with_both) > 0.1


def test_what_is_saved_of_a_second_adapter_is_whole(tuned: Path, tmp_path: Path) -> None:
    """As no folder holds its base; it loads anywhere, though nothing that it came from is left."""
    lm = add_lora(load(tuned, device="cpu"), rank=2)
    moved(lm.model, seed=2)
    template = ChatFormat.of(lm).template
    save_model(lm, template, tmp_path / "out" / "model")
    now = read(lm)
    shutil.rmtree(tuned)
    shutil.rmtree(tmp_path / "base")
    assert not (tmp_path / "out" / "model" / "adapter_config.json").exists()
    assert logp(AutoModelForCausalLM.from_pretrained(tmp_path / "out" / "model")) == pytest.approx(now, abs=1e-4)
    # Saving is no end: the model in memory learns on.
    assert read(lm) == pytest.approx(now, abs=1e-6)
    assert any("lora_" in name and weight.requires_grad for name, weight in lm.model.named_parameters())


@pytest.mark.parametrize("where", ["trained", "in memory"])
def test_an_adapter_names_no_base_that_is_not_its_own(where: str, base: Path, tmp_path: Path) -> None:
    """A base that was trained since it was loaded, or never lay in a folder, is saved with the adapter."""
    lm = tiny_llama(seed=4) if where == "in memory" else load(base, device="cpu")
    if where == "trained":
        world = tiny_world(tmp_path / "run", pair_records(4), lm)
        lm = run(methods.build("dpo", {"batch_size": 2, "warmup": 0, "lr": 1e-2}), world).policy
        assert abs(read(lm) - expected(base)) > 0.05
    lm = add_lora(lm, rank=2)
    moved(lm.model, seed=2)
    save_model(lm, ChatFormat.of(lm).template, tmp_path / "model")
    assert read(load(tmp_path / "model", device="cpu")) == pytest.approx(read(lm), abs=1e-4)


def test_a_first_adapter_is_saved_alone_and_names_its_base(base: Path, tuned: Path, tmp_path: Path) -> None:
    """Also one that was trained further, and one whose base has moved since."""
    lm = add_lora(load(base, device="cpu"), rank=2)
    moved(lm.model, seed=2)
    further = load(tuned, device="cpu")
    moved(further.model, seed=3)
    elsewhere = Path(shutil.copytree(base, tmp_path / "elsewhere"))
    other = load(elsewhere, device="cpu", adapter=tuned)
    for each, home in ((lm, base), (further, base), (other, elsewhere)):
        save_model(each, ChatFormat.of(each).template, tmp_path / "model")
        assert json.loads((tmp_path / "model" / "adapter_config.json").read_text())["base_model_name_or_path"] == str(
            home
        )
        assert read(load(tmp_path / "model", device="cpu")) == pytest.approx(read(each), abs=1e-5)


def test_half_precision_keeps_the_first_adapter_to_rounding(base: Path, tuned: Path) -> None:
    lm = load(tuned, device="cpu", dtype="bfloat16")
    before = read(lm)
    assert abs(read(add_lora(lm, rank=2)) - before) < 0.05 * abs(before - expected(base))


def test_a_merge_that_changes_the_numbers_is_refused(tuned: Path) -> None:
    """A weight beyond what the precision of the base can hold."""
    lm = load(tuned, device="cpu", dtype="float16")
    with torch.no_grad():
        for name, weight in lm.model.named_parameters():
            if "layers.0.self_attn.q_proj.lora_" in name:
                weight.copy_(torch.full_like(weight, 1e3))
    with pytest.raises(ModelError, match=r"merging its adapter changes log-probabilities by .* \(allowed: 0.05"):
        add_lora(lm)


def test_two_adapters_in_one_set_of_layers_are_refused(base: Path, tuned: Path) -> None:
    lm = load(base, device="cpu")
    add_lora(lm)
    with pytest.raises(
        ModelError, match="there are adapters in its layers already, which a new one would take the place"
    ):
        add_lora(lm)


def test_a_rank_below_one(base: Path) -> None:
    allowed = r"a rank from 1 to 16, the full one of its weights"
    with pytest.raises(InputError, match=rf"field 'rank': 0 \(allowed: {allowed}\)"):
        add_lora(load(base, device="cpu"), rank=0)


# --- every role -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("lora", [0, 2])
def test_every_role_has_its_adapter(lora: int, base: Path, tuned: Path, tmp_path: Path) -> None:
    others = [adapter(base, name, seed=seed) for seed, name in enumerate(("follow_up", "reference", "judge"), 5)]
    rows = str(write_jsonl(tmp_path / "pairs.jsonl", pair_records(4)))
    config = RunConfig(method="dpo", policy=str(tuned), data=rows, lora=lora, device="cpu")
    models = dict(zip(("follow_up", "reference", "judge"), map(str, others), strict=True))
    world = build_world(methods.build("dpo"), config.model_copy(update={"models": models}), tmp_path / "run")
    assert read(world.policy) == pytest.approx(expected(base, tuned), abs=1e-4)
    for each in others:
        assert read(world.model(each.name)) == pytest.approx(expected(base, each), abs=1e-4)
    alone = build_world(methods.build("flr"), config, tmp_path / "run")
    assert read(alone.model("follow_up")) == pytest.approx(expected(base, tuned), abs=1e-4)
    # What they say is what they were tuned to say, all of it different.
    assert len({round(read(lm), 2) for lm in (world.policy, *world.models.values())}) == 4


def test_check_and_mine_read_the_adapter(uptake: Cli, base: Path, tuned: Path) -> None:
    """Greedy answers are those of the merged model, and the first loss is that of equal models."""
    merged: Any = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(base), tuned).merge_and_unload()
    merged.save_pretrained(uptake.folder / "whole")
    AutoTokenizer.from_pretrained(base).save_pretrained(uptake.folder / "whole")
    write_jsonl(uptake.folder / "prompts.jsonl", prompt_records(6))
    options = ("--set=followups=followups.yaml", "--set=max_new_tokens=6", "--set=keep_unfinished=true", "--set=n=4")
    options = (*options, "--set=min_margin_quantile=0", "--set=min_category_agreement=0", "--set=max_length_ratio=9")
    for policy, out in ((tuned, "one.jsonl"), (uptake.folder / "whole", "two.jsonl"), (base, "three.jsonl")):
        uptake("mine", "prompts.jsonl", "--policy", policy, "--model", f"follow_up={base}", "--out", out, *options)
    one, two, three = (
        [(row["prompt"], row["chosen"], row["rejected"]) for row in read_jsonl(uptake.folder / f"{name}.jsonl")]
        for name in ("one", "two", "three")
    )
    assert one == two != three
    rows = write_jsonl(uptake.folder / "p.jsonl", pair_records(4))
    recipe = methods.build("dpo", {})
    world = build_world(recipe, RunConfig(method="dpo", policy=str(tuned), data=str(rows)), uptake.folder)
    assert dict(check(recipe, world).facts)["loss before step 1"] == "0.693147, 0.693147"


@pytest.mark.parametrize("head_in", ["base", "adapter"])
def test_an_adapter_of_a_classifier_is_read_as_a_reward(head_in: str, base: Path) -> None:
    """With the head of its base, or with one that the adapter brings."""
    home = base
    if head_in == "base":
        home = base.parent / "classifier"
        AutoModelForTokenClassification.from_pretrained(base).save_pretrained(home)
        AutoTokenizer.from_pretrained(base).save_pretrained(home)
    folder = adapter(home, auto=AutoModelForTokenClassification, task_type="TOKEN_CLS")
    theirs = PeftModel.from_pretrained(AutoModelForTokenClassification.from_pretrained(home), folder)
    lm = load_token_reward(folder, device="cpu")
    ids = torch.tensor([IDS])
    with torch.no_grad():
        logits = theirs(input_ids=ids).logits[0]
        states = lm.decoder(input_ids=ids).last_hidden_state[0]
        found = lm.heads["token_logit"](states)
    torch.testing.assert_close(found, logits[:, 1] - logits[:, 0], atol=1e-5, rtol=1e-4)


def test_an_adapter_of_a_sequence_classifier_is_read_as_a_reward(base: Path) -> None:
    home = base.parent / "classifier"
    AutoModelForSequenceClassification.from_pretrained(base, num_labels=1).save_pretrained(home)
    AutoTokenizer.from_pretrained(base).save_pretrained(home)
    folder = adapter(home, auto=AutoModelForSequenceClassification, task_type="SEQ_CLS")
    theirs = PeftModel.from_pretrained(AutoModelForSequenceClassification.from_pretrained(home), folder)
    reward = Classifier.from_pretrained(folder, device="cpu")
    dialogue = (Turn("user", "when ?"), Turn("assistant", "at eight ."))
    ids = torch.tensor([reward.chat.tokenizer(reward.chat.render(dialogue), add_special_tokens=False)["input_ids"]])
    with torch.no_grad():
        (said,) = reward.rate([dialogue])
        assert said.score == pytest.approx(float(theirs(input_ids=ids).logits), abs=1e-4)


# --- what does not fit ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("auto", "task", "reader", "message"),
    [
        (AutoModelForCausalLM, "CAUSAL_LM", load_token_reward, "CAUSAL_LM, which is no model for TokenClassification"),
        (AutoModelForCausalLM, "CAUSAL_LM", Classifier.from_pretrained, "which is no model for SequenceClassification"),
        (AutoModelForSequenceClassification, "SEQ_CLS", load, "an adapter for SEQ_CLS, which is no model for CausalLM"),
        (
            AutoModelForTokenClassification,
            "TOKEN_CLS",
            load,
            "an adapter for TOKEN_CLS, which is no model for CausalLM",
        ),
    ],
)
def test_an_adapter_for_another_task(auto: Any, task: str, reader: Any, message: str, base: Path) -> None:
    """Transformers would make up a head, or leave one out."""
    folder = adapter(base, auto=auto, task_type=task)
    with pytest.raises(ModelError, match=message):
        reader(folder, device="cpu")


@pytest.mark.parametrize("reader", [load, load_token_reward])
def test_an_adapter_without_weights(reader: Any, base: Path) -> None:
    task = {"auto": AutoModelForTokenClassification, "task_type": "TOKEN_CLS"} if reader is load_token_reward else {}
    folder = adapter(base, **task)
    (folder / "adapter_model.safetensors").write_bytes(b"not a tensor")
    with pytest.raises(ModelError, match=f"{folder}: no adapter could be loaded"):
        reader(folder, device="cpu")


def test_a_base_that_has_moved(uptake: Cli, base: Path, tuned: Path) -> None:
    rows = write_jsonl(uptake.folder / "pairs.jsonl", pair_records(4))
    base.rename(base.with_name("new"))
    message = uptake.fails("train", "dpo", "--policy", tuned, "--lora", 4, "--data", rows, "--out", "run")
    assert message.startswith(
        f"{tuned}: its base model {base} is not there (allowed: where it is now as base_model_name"
    )
    assert read(load(base.with_name("new"), device="cpu", adapter=tuned)) == pytest.approx(
        expected(base.with_name("new"), tuned), abs=1e-4
    )
    rewritten(tuned, base_model_name_or_path="somebody/model")
    with pytest.raises(ModelError, match=f"{tuned}: its base model somebody/model: no causal language model could"):
        load(tuned, device="cpu")


def test_an_adapter_over_an_adapter(base: Path, tuned: Path) -> None:
    """By what it names, or by what a person names: the one below would be lost."""
    above = rewritten(adapter(base, "above", seed=2), base_model_name_or_path=str(tuned))
    with pytest.raises(ModelError, match=f"{above}: its base model {tuned} is an adapter itself"):
        load(above, device="cpu")
    with pytest.raises(ModelError, match=f"{above}: its base model {tuned} is an adapter itself"):
        load(tuned, device="cpu", adapter=above)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"r": 8}, r"size mismatch for .*lora_A.* shape torch.Size\(\[4, 16\]\) .* \(\d+ more like it\)"),
        ({"target_modules": ["q_proj"]}, r"it has weights without a place: .*up_proj.* and 1 more"),
        ({"target_modules": ["q_proj", "up_proj", "o_proj"]}, r"it has no weights for .*o_proj.*lora_A"),
        ({"target_modules": ["nothing"]}, "Target modules .*nothing.* not found in the base model"),
    ],
)
def test_an_adapter_that_its_configuration_does_not_fit(changes: dict[str, Any], message: str, tuned: Path) -> None:
    with pytest.raises(ModelError, match=rf"{tuned}: .*{message}.* \(allowed: an adapter of layers, such as LoRA"):
        load(rewritten(tuned, **changes), device="cpu")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"hidden_size": 32}, r"size mismatch for .* the shape in current model is torch.Size\(\[4, 32\]\)"),
        ({"num_hidden_layers": 1}, r"it has weights without a place: .*layers.1"),
        ({"num_hidden_layers": 3}, r"it has no weights for .*layers.2"),
    ],
)
def test_an_adapter_of_another_base(changes: dict[str, Any], message: str, tuned: Path) -> None:
    other = saved(tiny_llama(**changes), tuned.parent / "other")
    with pytest.raises(ModelError, match=rf"{tuned}: .*over {other}.*{message}"):
        load(other, device="cpu", adapter=tuned)


def test_an_adapter_without_layers(base: Path) -> None:
    model = AutoModelForCausalLM.from_pretrained(base)
    settings = PromptTuningConfig(task_type="CAUSAL_LM", num_virtual_tokens=3)
    get_peft_model(model, settings).save_pretrained(base.parent / "prompt")
    with pytest.raises(ModelError, match=r"Cannot set a prompt learning adapter to trainable .*such as LoRA"):
        load(base.parent / "prompt", device="cpu")


@pytest.mark.parametrize("config", ["[]", '"text"', "{", '{"base_model_name_or_path": 3}'])
def test_a_configuration_that_is_none(config: str, tuned: Path) -> None:
    (tuned / "adapter_config.json").write_text(config)
    with pytest.raises(
        ModelError, match=r"adapter_config.json: (not JSON|no configuration|no base_model_name_or_path)"
    ):
        load(tuned, device="cpu")


# --- the Hub ----------------------------------------------------------------------------------------------------------


def test_an_adapter_of_the_hub(base: Path, tuned: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Transformers would put it into the layers by itself, where a second one takes its place."""
    cache, commit = tmp_path / "hub", "0" * 40
    for name, source in (("base", base), ("tuned", rewritten(tuned, base_model_name_or_path="somebody/base"))):
        home = cache / f"models--somebody--{name}"
        shutil.copytree(source, home / "snapshots" / commit)
        (home / "refs").mkdir()
        (home / "refs" / "main").write_text(commit)
        (home / ".no_exist" / commit).mkdir(parents=True)
        (home / ".no_exist" / commit / ("config.json" if name == "tuned" else "adapter_config.json")).touch()
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(cache))
    lm = load("somebody/tuned", device="cpu")
    rewritten(tuned, base_model_name_or_path=str(base))
    assert read(lm) == pytest.approx(expected(base, tuned), abs=1e-4)
    assert read(add_lora(lm, rank=2)) == pytest.approx(expected(base, tuned), abs=1e-4)
