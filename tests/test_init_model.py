"""A fresh dialogue model: what its tokenizer must spell, where its turns end, and that it is a function of its seed."""

import math
from pathlib import Path

import pytest
import torch

from uptake.data import ChatFormat
from uptake.errors import InputError
from uptake.models import branches, load, score_trees
from uptake.models.init import SMALLEST, byte_tokenizer, init_dialogue_model
from uptake.tasks.init_model import init_model
from uptake.types import Turn

TEXTS = ["When does the bakery open?", "The bakery opens at eight.", "Thanks, the bakery opens when I need it."] * 3
TALK = (Turn("user", "Hi"), Turn("assistant", "The bakery."), Turn("user", "Thanks"))


def test_any_text_can_be_spelled_and_read_back() -> None:
    tokenizer = byte_tokenizer(TEXTS, 320)
    for text in ("The bakery opens.", "  two  blanks\n\nand a gap ", "Größe 東京 🙂 \x00", ""):
        assert tokenizer.decode(tokenizer(text)["input_ids"], skip_special_tokens=False) == text


def test_pairs_that_occur_often_become_tokens() -> None:
    tokenizer = byte_tokenizer(TEXTS, 320)
    assert tokenizer.tokenize(" bakery") == ["Ġbakery"]
    assert len(byte_tokenizer(TEXTS, 280)) == 280
    # "xy" occurs once, so it stays two bytes, and the vocabulary smaller than was asked for.
    few = byte_tokenizer(["xy"], 320)
    assert len(few) == SMALLEST
    assert few.tokenize("xy") == ["x", "y"]


def test_every_turn_is_role_content_end() -> None:
    tokenizer = byte_tokenizer(TEXTS, 320)
    chat = ChatFormat.of(tokenizer)
    assert not chat.plain
    assert chat.render(TALK) == "<|user|>Hi<|end|><|assistant|>The bakery.<|end|><|user|>Thanks<|end|>"
    assert chat.render(TALK[:1], generation=True) == "<|user|>Hi<|end|><|assistant|>"
    prompt, said = chat.response_ids(TALK[:1], "The bakery.")
    user, assistant, end = (tokenizer.convert_tokens_to_ids(f"<|{name}|>") for name in ("user", "assistant", "end"))
    assert prompt == (user, *tokenizer("Hi")["input_ids"], end, assistant)
    assert said == (*tokenizer("The bakery.")["input_ids"], end)
    assert chat.end_ids == {end}


def test_the_header_is_a_whole_so_follow_ups_begin_behind_it() -> None:
    chat = ChatFormat.of(byte_tokenizer(TEXTS, 320))
    stem, (branch,) = chat.follow_ups(TALK[:2], ["Thanks"])
    assert chat.tokenizer.decode(list(stem)).endswith("<|end|><|user|>")
    assert chat.tokenizer.decode(list(branch)) == "Thanks"


def test_a_fresh_model_knows_nothing() -> None:
    lm = init_dialogue_model(TEXTS, vocabulary=300, width=64, layers=2, window=40)
    assert (lm.window, lm.vocabulary, lm.config.num_attention_heads, lm.attention) == (40, 300, 1, "tree")
    stem, (branch,) = ChatFormat.of(lm).follow_ups(TALK[:2], ["Thanks, the bakery opens"])
    ((logps,),) = score_trees(lm, [branches(stem, branch)], 100)
    assert float(logps.mean()) == pytest.approx(-math.log(300), abs=0.2)


def test_equal_seeds_make_equal_models() -> None:
    one, same, other = (init_dialogue_model(TEXTS, vocabulary=300, width=64, layers=1, seed=seed) for seed in (1, 1, 2))
    assert one.tokenizer.get_vocab() == same.tokenizer.get_vocab()
    weights = [lm.base.state_dict()["model.embed_tokens.weight"] for lm in (one, same, other)]
    assert torch.equal(weights[0], weights[1])
    assert not torch.equal(weights[0], weights[2])


@pytest.mark.parametrize(
    ("field", "value"), [("vocabulary", SMALLEST - 1), ("width", 100), ("width", 0), ("layers", 0), ("window", 1)]
)
def test_sizes_that_make_no_model_are_refused(field: str, value: int) -> None:
    with pytest.raises(InputError, match=f"field '{field}'"):
        init_dialogue_model(TEXTS, **{"vocabulary": 300, "width": 64, "layers": 1, field: value})


def test_the_folder_is_a_model_that_loads_with_template_and_window(tmp_path: Path) -> None:
    corpus = tmp_path / "corpus.jsonl"
    corpus.write_text(
        '{"messages": [{"role": "user", "content": "qqqq qqqq"}]}\n{"prompt": "zzzz zzzz", "completion": "wwww wwww"}\n'
    )
    made = init_model(corpus, tmp_path / "model", vocabulary=300, width=64, layers=1, window=32)
    lm = load(tmp_path / "model")
    assert lm.window == 32
    assert lm.tokenizer.get_vocab() == made.tokenizer.get_vocab()
    assert ChatFormat.of(lm).render(TALK) == ChatFormat.of(made).render(TALK)
    # Prompts and responses alike are what the words are learned from.
    assert [lm.tokenizer.tokenize(word) for word in ("qqqq", "zzzz", "wwww")] == [["qqqq"], ["zzzz"], ["wwww"]]
    with pytest.raises(InputError, match="the folder exists"):
        init_model(corpus, tmp_path / "model", vocabulary=300, width=64, layers=1)
