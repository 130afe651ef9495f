"""Loading, adapters, and what a person is told when a model cannot be used."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from safetensors.torch import load_file, save_file
from tiny_models import forest, plain_logps, ready, tiny, tokenizer, twin

from uptake.errors import InputError, ModelError
from uptake.models import LanguageModel, add_lora, load, pack, save_model, token_logps
from uptake.models.load import load_classifier, resolve_dtype
from uptake.models.rows import row_logps
from uptake.rewards.token_reward import load_token_reward

EXACT = 1e-5
# PEFT still asks Transformers by an old name.


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A saved model with its tokenizer."""
    place = tmp_path / "base"
    tiny("Llama").save_pretrained(place)
    tokenizer().save_pretrained(place)
    return place


def adapted(lm: LanguageModel) -> LanguageModel:
    """With a LoRA adapter that changes the numbers: PEFT starts them so that they do not."""
    tuned = add_lora(lm, rank=4, alpha=8)
    torch.manual_seed(1)
    with torch.no_grad():
        for name, weight in tuned.model.named_parameters():
            if "lora_B" in name:
                weight.normal_(std=0.2)
    return tuned


def logps(lm: LanguageModel) -> torch.Tensor:
    with torch.no_grad():
        return token_logps(lm, pack(forest()))


def test_a_saved_model_loads_with_its_numbers(folder: Path) -> None:
    lm = load(folder)
    assert (lm.name, lm.attention, lm.vocabulary, lm.window) == (str(folder), "tree", 97, 256)
    assert (lm.device.type, lm.dtype) == ("cpu", torch.float32)
    torch.testing.assert_close(logps(lm), plain_logps(tiny("Llama"), forest()).detach(), atol=EXACT, rtol=EXACT)


ENCODER: dict[str, Any] = {
    "vocab_size": 97,
    "hidden_size": 32,
    "intermediate_size": 32,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "max_position_embeddings": 64,
    "initializer_range": 0.3,
    "pad_token_id": 0,
}


@pytest.mark.parametrize(
    ("kind", "loader"), [("LMHeadModel", load), ("ForTokenClassification", load_token_reward)], ids=["policy", "reward"]
)
def test_a_bidirectional_model_is_refused(kind: str, loader: Callable[[Path], LanguageModel], tmp_path: Path) -> None:
    """BERT as a policy or scorer, and as a token reward model; as a decoder, which sees the past only, it is taken."""
    for decoder in (True, False):
        torch.manual_seed(0)
        config = transformers.BertConfig(**ENCODER, is_decoder=decoder, num_labels=1)
        made: Any = getattr(transformers, f"Bert{kind}")(config)
        made.save_pretrained(tmp_path / "bert")
        tokenizer().save_pretrained(tmp_path / "bert")
        if decoder:
            assert loader(tmp_path / "bert").vocabulary == 97
        else:
            with pytest.raises(ModelError, match=r"bert: a later token .* reads in both directions .*a causal model"):
                loader(tmp_path / "bert")


def test_what_is_saved_names_no_attention_of_ours(folder: Path, tmp_path: Path) -> None:
    save_model(load(folder), "{{ messages }}", tmp_path / "again")
    assert "uptake" not in (tmp_path / "again" / "config.json").read_text()
    torch.testing.assert_close(logps(load(tmp_path / "again")), logps(load(folder)))


def test_saving_changes_nothing_of_the_model(folder: Path, tmp_path: Path) -> None:
    lm = load(folder)
    lm.tokenizer.chat_template = None
    save_model(lm, "{{ messages }}", tmp_path / "again")
    assert lm.tokenizer.chat_template is None
    assert load(tmp_path / "again").tokenizer.chat_template == "{{ messages }}"


def test_lora_trees_are_lora_rows_and_the_merged_model(folder: Path) -> None:
    lm = load(folder)
    before = logps(lm)
    tuned = adapted(lm)
    found = logps(tuned)
    assert float((found - before).abs().max()) > 0.1
    with torch.no_grad():
        torch.testing.assert_close(found, row_logps(tuned, pack(forest())), atol=EXACT, rtol=EXACT)
        with tuned.model.disable_adapter():  # type: ignore[operator]
            torch.testing.assert_close(logps(tuned), before, atol=EXACT, rtol=EXACT)
        merged: Any = tuned.model.merge_and_unload()  # type: ignore[operator]
        torch.testing.assert_close(found, plain_logps(twin(merged, "eager"), forest()), atol=1e-4, rtol=EXACT)


def test_lora_trains_the_adapter_alone(folder: Path) -> None:
    tuned = adapted(load(folder))
    token_logps(tuned, pack(forest())).sum().backward()
    with_gradient = {name for name, weight in tuned.model.named_parameters() if weight.grad is not None}
    assert with_gradient == {name for name, _ in tuned.model.named_parameters() if "lora_" in name}


def test_a_saved_adapter_loads_with_its_numbers_and_template(folder: Path, tmp_path: Path) -> None:
    tuned = adapted(load(folder))
    save_model(tuned, "{{ messages[-1]['content'] }}", tmp_path / "adapter")
    for again in (load(tmp_path / "adapter"), load(folder, adapter=tmp_path / "adapter")):
        torch.testing.assert_close(logps(again), logps(tuned), atol=EXACT, rtol=EXACT)
        assert again.tokenizer.chat_template == "{{ messages[-1]['content'] }}"
        assert all(weight.requires_grad == ("lora_" in name) for name, weight in again.model.named_parameters())


def test_an_adapter_without_a_tokenizer_uses_that_of_its_base(folder: Path, tmp_path: Path) -> None:
    tuned = adapted(load(folder))
    tuned.model.save_pretrained(tmp_path / "adapter")  # type: ignore[operator]
    again = load(tmp_path / "adapter")
    assert again.tokenizer.get_vocab() == tuned.tokenizer.get_vocab()


@pytest.mark.parametrize("dtype", ["bfloat16", "float64"])
def test_dtypes_by_name(folder: Path, dtype: str) -> None:
    lm = load(folder, dtype=dtype)  # type: ignore[arg-type]
    assert str(lm.dtype) == f"torch.{dtype}"
    assert lm.attention == "tree"


def test_no_weights(folder: Path) -> None:
    (folder / "model.safetensors").unlink()
    with pytest.raises(ModelError, match=r"base: no causal language model could be loaded: .*model.safetensors"):
        load(folder)


def test_broken_weights(folder: Path) -> None:
    (folder / "model.safetensors").write_bytes(b"not a tensor")
    with pytest.raises(ModelError, match="base: no causal language model could be loaded"):
        load(folder)


def test_a_missing_tensor(folder: Path) -> None:
    weights = load_file(folder / "model.safetensors")
    del weights["model.layers.1.mlp.up_proj.weight"]
    save_file(weights, folder / "model.safetensors", {"format": "pt"})
    with pytest.raises(ModelError, match=r"weights are missing for model.layers.1.mlp.up_proj.weight$"):
        load(folder)


def test_a_classifier_is_no_language_model(folder: Path) -> None:
    """Its output layer is that of the embeddings, so that no weight is missing."""
    config = json.loads((folder / "config.json").read_text())
    saved = {"architectures": ["LlamaForSequenceClassification"], "tie_word_embeddings": True}
    (folder / "config.json").write_text(json.dumps({**config, **saved}))
    with pytest.raises(ModelError, match="saved as LlamaForSequenceClassification, which is no model for CausalLM"):
        load(folder)


def test_no_tokenizer(folder: Path) -> None:
    for path in folder.glob("tokenizer*"):
        path.unlink()
    with pytest.raises(ModelError, match="base: no tokenizer could be loaded"):
        load(folder)


def test_no_folder(tmp_path: Path) -> None:
    allowed = "a model's folder, or a name on the Hub"
    with pytest.raises(ModelError, match=rf"nowhere: no such folder \(allowed: {allowed}\)"):
        load(tmp_path / "nowhere")


def test_a_gguf_file_gets_one_line_with_the_way(tmp_path: Path) -> None:
    (tmp_path / "tiny.Q4_1.gguf").write_bytes(b"GGUF")
    message = r"tiny\.Q4_1\.gguf: a GGUF file holds quantized .* \(allowed: a Transformers folder; examples/smollm2\.py"
    with pytest.raises(ModelError, match=message):
        load(tmp_path / "tiny.Q4_1.gguf")
    with pytest.raises(ModelError, match=message):
        load_classifier(
            tmp_path / "tiny.Q4_1.gguf", "TokenClassification", device=torch.device("cpu"), dtype=torch.float32
        )


def test_not_a_number(folder: Path) -> None:
    weights = load_file(folder / "model.safetensors")
    weights["model.layers.2.mlp.up_proj.weight"][3, 3] = torch.nan
    save_file(weights, folder / "model.safetensors", {"format": "pt"})
    with pytest.raises(ModelError, match="base: the model gives not-a-number"):
        load(folder)
    broken = tiny("Llama")
    torch.nn.init.constant_(broken.lm_head.weight, torch.inf)
    with pytest.raises(ModelError, match="thing: the model gives not-a-number or infinite"):
        ready(broken, "thing")


def test_unknown_dtype_and_device(folder: Path) -> None:
    with pytest.raises(InputError, match=r"unknown dtype 'int8' \(allowed: auto, float32, bfloat16, float16, float64"):
        resolve_dtype("int8", torch.device("cpu"))
    with pytest.raises(InputError, match=r"unknown device 'gpu' \(allowed: auto, cpu, cuda, cuda:N\)"):
        load(folder, device="gpu")
    with pytest.raises(InputError, match="no device 'cuda:99': CUDA devices found: "):
        load(folder, device="cuda:99")


@pytest.mark.parametrize(
    ("config", "message"),
    [("{", "adapter_config.json: not JSON"), (json.dumps({"peft_type": "LORA"}), "no base_model_name_or_path")],
)
def test_a_broken_adapter_configuration(tmp_path: Path, config: str, message: str) -> None:
    (tmp_path / "adapter_config.json").write_text(config)
    with pytest.raises(ModelError, match=message):
        load(tmp_path)


def test_an_adapter_without_weights(folder: Path, tmp_path: Path) -> None:
    adapted(load(folder)).model.save_pretrained(tmp_path / "adapter")  # type: ignore[operator]
    (tmp_path / "adapter" / "adapter_model.safetensors").unlink()
    shutil.copy(folder / "tokenizer.json", tmp_path / "adapter")
    with pytest.raises(ModelError, match="adapter: no adapter could be loaded"):
        load(tmp_path / "adapter")
