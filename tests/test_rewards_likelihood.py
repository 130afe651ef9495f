"""Direct likelihood: the numbers of Transformers' own forward call, by mean and sum."""

import random
from copy import deepcopy
from typing import Any

import pytest
import torch
from tiny import sentence, tiny_llama, tiny_tokenizer
from torch import Tensor
from transformers import AutoModelForCausalLM

from uptake.errors import InputError, ModelError
from uptake.models import LanguageModel
from uptake.rewards.implicit import ImplicitReward
from uptake.rewards.likelihood import DirectLikelihood
from uptake.town import CHAT_TEMPLATE
from uptake.types import Dialogue, Turn


@pytest.fixture
def lm() -> LanguageModel:
    return tiny_llama(dtype=torch.float64)


def dialogues(count: int) -> list[Dialogue]:
    """Three responses to every prompt."""
    rng = random.Random(0)
    prompts = [sentence(rng) for _ in range(count)]
    return [(Turn("user", prompt), Turn("assistant", sentence(rng))) for prompt in prompts for _ in range(3)]


def by_hand(lm: LanguageModel, prompt: str, response: str) -> Tensor:
    """Log-probabilities of the tokens of a response and of the token that ends it, from one plain row."""
    model = AutoModelForCausalLM.from_config(deepcopy(lm.base.config), dtype=lm.dtype, attn_implementation="sdpa")
    model.load_state_dict(lm.base.state_dict())
    start = len(lm.tokenizer(f"<user> {prompt} <end> <assistant>")["input_ids"])
    ids = lm.tokenizer(f"<user> {prompt} <end> <assistant> {response} <end>", return_tensors="pt")["input_ids"]
    with torch.no_grad():
        logps = model.eval()(ids).logits[0].log_softmax(-1)
    return logps[start - 1 : -1].gather(1, ids[0, start:, None])[:, 0]


def test_every_score_is_the_response_by_hand(lm: LanguageModel) -> None:
    """More dialogues than a chunk holds, so that responses to one prompt fall in two chunks."""
    asked = dialogues(6)
    means, sums, bare = (
        DirectLikelihood.from_pretrained(lm, **options).rate(asked)
        for options in ({}, {"reduction": "sum"}, {"end_of_turn": False})
    )
    for (prompt, response), mean, total, without in zip(asked, means, sums, bare, strict=True):
        logps = by_hand(lm, prompt.content, response.content)
        assert mean.score == pytest.approx(float(logps.mean()), abs=1e-10)
        assert total.score == pytest.approx(float(logps.sum()), abs=1e-10)
        assert without.score == pytest.approx(float(logps[:-1].mean()), abs=1e-10)
        assert total.score == pytest.approx(mean.score * len(logps), abs=1e-10)
        assert mean.parts == total.parts == {}


def test_the_oldest_turns_go_where_the_window_is_small() -> None:
    reward = DirectLikelihood.from_pretrained(tiny_llama(max_position_embeddings=24))
    last = (Turn("user", "when ?"), Turn("assistant", "at eight ."))
    long = (Turn("user", "bread " * 9), Turn("assistant", "cakes " * 9), *last)
    beyond = (Turn("user", "when ?"), Turn("assistant", "bread " * 40))
    found = reward.rate([long, last, beyond])
    assert found[0].score == pytest.approx(found[1].score, abs=1e-6)
    assert not found[2].valid
    assert "window of 24" in found[2].detail
    for each in (reward, ImplicitReward(reward.lm, tiny_llama(max_position_embeddings=96))):
        assert [one.dropped_turns for one in each.details([long, last, beyond])] == [2, 0, None]


def test_bad_input(lm: LanguageModel) -> None:
    found = DirectLikelihood.from_pretrained(lm).rate(
        [(Turn("user", "when ?"),), (Turn("user", "when ?"), Turn("assistant", ""))]
    )
    assert [each.valid for each in found] == [False, False]
    assert "the last turn is the user's" in found[0].detail
    assert "the response is empty" in found[1].detail


@pytest.mark.unchecked
def test_unknown_reduction(lm: LanguageModel) -> None:
    median: Any = "median"
    with pytest.raises(InputError, match="field 'reduction': 'median'"):
        DirectLikelihood.from_pretrained(lm, reduction=median)


def test_models_that_cannot(lm: LanguageModel) -> None:
    endless = tiny_llama(tokenizer=tiny_tokenizer(chat_template=CHAT_TEMPLATE.replace(" <end>", " .")))
    with pytest.raises(ModelError, match="without a special token"):
        DirectLikelihood.from_pretrained(endless).rate(dialogues(1))
    with torch.no_grad():
        lm.base.model.norm.weight.fill_(torch.nan)
    with pytest.raises(ModelError, match="not-a-number"):
        DirectLikelihood.from_pretrained(lm).rate(dialogues(1))
