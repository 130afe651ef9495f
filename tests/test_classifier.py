"""Sequence classifiers as rewards: what Transformers gives one row at a time, whatever the batch."""

import random
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from tiny import WORDS, saved, sentence, tiny_llama, tiny_tokenizer
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from torch import Tensor
from transformers import (
    AutoModelForSequenceClassification,
    BertConfig,
    BertForSequenceClassification,
    LlamaConfig,
    LlamaForSequenceClassification,
    PreTrainedTokenizerFast,
)

from uptake.errors import InputError, ModelError
from uptake.rewards.classifier import Classifier
from uptake.types import Dialogue, Turn

SHAPE = {"hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 2, "num_attention_heads": 2}


def write_llama(folder: Path, **changes: Any) -> Path:
    """A Llama with random weights and a head over one label, as a Transformers folder."""
    tokenizer = tiny_tokenizer()
    options = {"num_labels": 1, "max_position_embeddings": 96, "initializer_range": 0.4, "bos_token_id": None}
    ends = {"pad_token_id": tokenizer.pad_token_id, "eos_token_id": tokenizer.eos_token_id}
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = LlamaForSequenceClassification(
            LlamaConfig(vocab_size=len(tokenizer), **{**SHAPE, **options, **ends, **changes})
        )
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def write_bert(folder: Path) -> Path:
    """A BERT whose tokenizer has no chat template and writes pairs of texts."""
    vocabulary = {token: index for index, token in enumerate(("[PAD]", "[UNK]", "[CLS]", "[SEP]", *WORDS))}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    tokenizer.post_processor = processors.BertProcessing(("[SEP]", 3), ("[CLS]", 2))
    special = {"pad_token": "[PAD]", "unk_token": "[UNK]", "cls_token": "[CLS]", "sep_token": "[SEP]"}
    names = ["input_ids", "token_type_ids", "attention_mask"]
    fast = PreTrainedTokenizerFast(tokenizer_object=tokenizer, model_input_names=names, **special)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        config = BertConfig(
            vocab_size=len(vocabulary), **SHAPE, num_labels=1, max_position_embeddings=40, initializer_range=0.4
        )
        BertForSequenceClassification(config).save_pretrained(folder)
    fast.save_pretrained(folder)
    return folder


def dialogues(count: int, seed: int = 0) -> list[Dialogue]:
    rng = random.Random(seed)
    roles = ("user", "assistant")
    return [
        tuple(Turn(roles[place % 2], sentence(rng, 12)) for place in range(rng.choice([2, 4])))  # type: ignore[arg-type]
        for _ in range(count)
    ]


def logits(folder: Path, tokenizer: Any, asked: Sequence[Dialogue]) -> Tensor:
    """What Transformers' own template and forward call give each conversation, one row at a time."""
    model = AutoModelForSequenceClassification.from_pretrained(folder).eval()
    rows = []
    for turns in asked:
        messages = [{"role": turn.role, "content": turn.content} for turn in turns]
        ids = tokenizer.apply_chat_template(messages, return_tensors="pt", return_dict=True)["input_ids"]
        with torch.no_grad():
            rows.append(model(ids).logits[0])
    return torch.stack(rows)


def scores(reward: Classifier, asked: Sequence[Dialogue]) -> list[float]:
    return [each.score for each in reward.rate(asked)]


@pytest.mark.parametrize("batch_tokens", [1, 60, 8192])
@pytest.mark.parametrize("side", ["left", "right"])
def test_scores_are_those_of_single_rows(batch_tokens: int, side: str, tmp_path: Path) -> None:
    asked = dialogues(12)
    folder = write_llama(tmp_path)
    expected = logits(folder, tiny_tokenizer(), asked)[:, 0].tolist()
    loaded = Classifier.from_pretrained(folder, device="cpu")
    loaded.chat.tokenizer.padding_side = side
    reward = Classifier(loaded.model, loaded.chat, batch_tokens=batch_tokens)
    assert scores(reward, asked) == pytest.approx(expected, abs=1e-5)
    assert scores(reward, asked[::-1]) == pytest.approx(expected[::-1], abs=1e-5)
    assert max(expected) - min(expected) > 0.1


@pytest.mark.parametrize("pad", [None, 4])  # 4 is <end>: the last token of every conversation counts as padding
def test_a_model_without_padding_of_its_own(pad: int | None, tmp_path: Path) -> None:
    asked = dialogues(5)
    folder = write_llama(tmp_path, pad_token_id=pad)
    expected = logits(folder, tiny_tokenizer(), asked)[:, 0].tolist()
    assert scores(Classifier.from_pretrained(folder, device="cpu"), asked) == pytest.approx(expected, abs=1e-5)


def test_a_tokenizer_without_a_template_gets_a_pair_of_texts(tmp_path: Path) -> None:
    folder = write_bert(tmp_path)
    reward = Classifier.from_pretrained(folder, device="cpu")
    model, tokenizer = AutoModelForSequenceClassification.from_pretrained(folder).eval(), reward.chat.tokenizer
    rng = random.Random(0)
    pairs = [(sentence(rng), sentence(rng)) for _ in range(6)]
    with torch.no_grad():
        expected = [float(model(**tokenizer(*pair, return_tensors="pt")).logits) for pair in pairs]
    found = scores(reward, [(Turn("user", asked), Turn("assistant", said)) for asked, said in pairs])
    assert found == pytest.approx(expected, abs=1e-5)
    (long,) = reward.rate([(Turn("user", "bread " * 30), Turn("assistant", "cakes " * 30))])
    assert not long.valid
    assert "63 tokens (allowed: at most 40)" in long.detail


LABELS = {"id2label": {0: "bad", 1: "fair", 2: "good"}, "label2id": {"bad": 0, "fair": 1, "good": 2}, "num_labels": 3}


def test_one_of_several_labels_by_its_log_odds(tmp_path: Path) -> None:
    asked = dialogues(4)
    folder = write_llama(tmp_path, **LABELS)
    share = logits(folder, tiny_tokenizer(), asked).double().softmax(1)[:, 2]
    expected = (share / (1 - share)).log().tolist()
    assert scores(Classifier.from_pretrained(folder, label="good", device="cpu"), asked) == pytest.approx(
        expected, abs=1e-5
    )


def test_one_of_several_independent_labels_by_its_logit(tmp_path: Path) -> None:
    asked = dialogues(4)
    folder = write_llama(tmp_path, **LABELS, problem_type="regression")
    expected = logits(folder, tiny_tokenizer(), asked)[:, 1].tolist()
    assert scores(Classifier.from_pretrained(folder, label="fair", device="cpu"), asked) == pytest.approx(
        expected, abs=1e-5
    )


@pytest.mark.parametrize(("label", "problem"), [(None, "has 3 labels"), ("best", "no label 'best'")])
def test_labels_that_are_not_clear(label: str | None, problem: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=f"field 'label': .*{problem} .allowed: one of bad, fair, good"):
        Classifier.from_pretrained(write_llama(tmp_path, **LABELS), label=label, device="cpu")


def test_the_oldest_turns_go_where_the_window_is_small(tmp_path: Path) -> None:
    reward = Classifier.from_pretrained(write_llama(tmp_path, max_position_embeddings=24), device="cpu")
    last = (Turn("user", "when ?"), Turn("assistant", "at eight ."))
    long = (Turn("user", "bread " * 9), Turn("assistant", "cakes " * 9), *last)
    beyond = (Turn("user", "when ?"), Turn("assistant", "bread " * 40))
    found = reward.rate([long, last, beyond])
    assert [each.dropped_turns for each in reward.details([long, last, beyond])] == [2, 0, None]
    assert found[0].score == pytest.approx(found[1].score, abs=1e-6)
    assert [each.valid for each in found] == [True, True, False]
    assert "window of 24" in found[2].detail


def test_folders_that_hold_no_classifier(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="nothing: no such folder"):
        Classifier.from_pretrained(tmp_path / "nothing", device="cpu")
    with pytest.raises(ModelError, match=r"no sequence classifier: weights are missing for score.weight"):
        Classifier.from_pretrained(saved(tiny_llama(), tmp_path / "causal"), device="cpu")


def test_not_a_number(tmp_path: Path) -> None:
    reward = Classifier.from_pretrained(write_llama(tmp_path), device="cpu")
    with torch.no_grad():
        reward.model.score.weight.fill_(torch.nan)
    with pytest.raises(ModelError, match="not-a-number"):
        reward.rate(dialogues(1))
