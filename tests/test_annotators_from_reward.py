"""A reward as an annotator: probabilities by hand, limits, and the pairs that mining makes of the same rewards."""

import random
from collections.abc import Sequence
from dataclasses import dataclass
from math import exp, inf, nan
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from tiny import sentence, tiny_llama, write_followups

from uptake.annotators.from_reward import FromReward
from uptake.data import ChatFormat
from uptake.errors import InputError
from uptake.follow_up.reward import FollowUpReward
from uptake.follow_up.set import FollowUpSet
from uptake.rewards.base import Response, Reward, dialogue_of
from uptake.rewards.implicit import ImplicitReward
from uptake.rewards.length import Length
from uptake.signal import BestWorst
from uptake.support.keys import prompt_key
from uptake.types import Judgement, Prompt, Rollout, Turn

ASKED = (Turn("user", "when ?"),)
PROMPT = Prompt(ASKED, prompt_key(ASKED))


@dataclass(frozen=True)
class Spoken(Reward):
    """A reward that reads its score off the response."""

    fingerprint: str = "spoken"

    def rate(self, responses: Sequence[Response]) -> Sequence[Judgement]:
        return [Judgement(float(dialogue_of(each)[-1].content)) for each in responses]


def p(first: float, second: float, temperature: float | None) -> float:
    (verdict,) = FromReward(Spoken(), temperature).compare([PROMPT], [(repr(first), repr(second))])
    assert verdict.by_order == (verdict.p, verdict.p)
    return verdict.p


def test_probabilities_by_hand() -> None:
    assert p(3.0, 1.0, 2.0) == pytest.approx(1 / (1 + exp(-1)))
    assert p(1.0, 3.0, 2.0) == pytest.approx(1 / (1 + exp(1)))
    assert p(1.0, 1.0, 2.0) == 0.5
    assert [p(3.0, 1.0, None), p(1.0, 3.0, None), p(1.0, 1.0, None)] == [1.0, 0.0, 0.5]


FINITE = st.floats(-1e9, 1e9)


@given(FINITE, FINITE, st.none() | st.floats(1e-300, 1e9))
def test_the_other_order_gives_the_rest_exactly(first: float, second: float, temperature: float | None) -> None:
    assert p(first, second, temperature) + p(second, first, temperature) == 1


def test_cold_and_hard_verdicts_are_the_pairs_of_mining(tmp_path: Path) -> None:
    """Two responses to a prompt, all filters off: best against worst takes the side of the verdict, and no tie."""
    reward = FollowUpReward(tiny_llama(), FollowUpSet.load(write_followups(tmp_path)))
    rng = random.Random(0)
    turns = [(Turn("user", f"{sentence(rng)} {'? ' * n}"),) for n in range(12)]
    prompts = [Prompt(each, prompt_key(each)) for each in turns]
    pairs = [(sentence(rng), sentence(rng)) for _ in prompts[1:]] + [("at eight .", "at eight .")]
    hard, cold = (FromReward(reward, temperature).compare(prompts, pairs) for temperature in (None, 1e-12))
    assert [each.p for each in hard] == [each.p for each in cold]
    groups = [
        tuple(Rollout(prompt, (1,), (2,), text, finished=True, sample=sample) for sample, text in enumerate(pair))
        for prompt, pair in zip(prompts, pairs, strict=True)
    ]
    judgements = [
        reward.rate([(*each.prompt.turns, Turn("assistant", each.response)) for each in group]) for group in groups
    ]
    rule = BestWorst(min_margin_quantile=0.0, max_length_ratio=inf, min_category_agreement=0.0)
    chosen = {pair.chosen.prompt.key: 1.0 - pair.chosen.sample for pair in rule.mine(groups, judgements).examples}
    assert [each.p for each in hard] == [chosen.get(prompt.key, 0.5) for prompt in prompts]
    assert {0.0, 0.5, 1.0} == {each.p for each in hard}


def test_a_response_without_a_reward_gives_no_verdict() -> None:
    found = FromReward(Length()).compare(
        [PROMPT, PROMPT, PROMPT], [("at eight .", " "), ("", "it"), ("at eight .", "it")]
    )
    assert [each.valid for each in found] == [False, False, True]
    assert "the response is empty" in found[0].detail
    assert "the response is empty" in found[1].detail
    assert found[2].p == 1


@pytest.mark.parametrize("temperature", [0.0, -1.0, nan])
def test_temperatures_are_above_zero(temperature: float) -> None:
    with pytest.raises(InputError, match="field 'temperature'"):
        FromReward(Length(), temperature)


def test_fingerprints() -> None:
    both = {FromReward(Length(), each).fingerprint for each in (None, 1.0, 2.0)} | {FromReward(Spoken()).fingerprint}
    assert len(both) == 4


def test_the_implicit_reward_is_the_scaled_log_ratio() -> None:
    """Against plain rows of both models; a model against itself prefers nothing."""
    policy, reference = tiny_llama(), tiny_llama(seed=1)
    dialogues = [(Turn("user", "when ?"), Turn("assistant", text)) for text in ("at eight .", "it", "bread cakes at")]
    sums = []
    for lm in (policy, reference):
        chat = ChatFormat.of(lm)
        for turns in dialogues:
            prompt, response = chat.response_ids(turns[:-1], turns[-1].content)
            with torch.no_grad():
                logits = lm.model(input_ids=torch.tensor([[*prompt, *response]])).logits[0].log_softmax(-1)
            rows = range(len(prompt) - 1, len(prompt) + len(response) - 1)
            sums.append(sum(float(logits[row, token]) for row, token in zip(rows, response, strict=True)))
    expected = [0.3 * (ours - theirs) for ours, theirs in zip(sums[:3], sums[3:], strict=True)]
    found = [judgement.score for judgement in ImplicitReward(policy, reference, 0.3).rate(dialogues)]
    assert found == pytest.approx(expected, abs=1e-5)
    assert all(judgement.score == 0 for judgement in ImplicitReward(policy, policy).rate(dialogues))
    with pytest.raises(InputError, match="above 0"):
        ImplicitReward(policy, reference, 0.0)
