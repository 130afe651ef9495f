"""What was said as reward: golden values of a bigram, the same by plain rows, and what it must not depend on."""

import random
from dataclasses import replace

import pytest
import torch
from test_follow_up_reward import BIGRAM, by_hand, flat, toy
from tiny import sentence, tiny_llama

from uptake.errors import InputError, ModelError
from uptake.follow_up.actual import ActualFollowUpReward
from uptake.follow_up.reward import FollowUpReward
from uptake.follow_up.set import Category, FollowUpSet
from uptake.models import LanguageModel
from uptake.types import Dialogue, Turn, Where

TWO = FollowUpSet(
    "two",
    1,
    "en",
    (Category("one", 3.0, ("thanks .", "it helped ."), ("wrong .",)), Category("two", 1.0, (), ("where ?",))),
)


def dialogue(*texts: str) -> Dialogue:
    return tuple(Turn(("user", "assistant")[place % 2], text) for place, text in enumerate(texts))


def cases(count: int, seed: int = 0) -> tuple[list[Dialogue], list[str]]:
    rng = random.Random(seed)
    asked = [dialogue(*(sentence(rng) for _ in range(rng.choice([2, 4])))) for _ in range(count)]
    return asked, [sentence(rng) for _ in range(count)]


@pytest.fixture
def lm() -> LanguageModel:
    return tiny_llama(dtype=torch.float64)


def test_golden_bigram() -> None:
    """Only the token before the first word matters: SEP before the bare turn, b or a after a follow-up.

    Log-probabilities of a after SEP, a and b are its logits less the log-sum-exp of their rows of the table.
    """
    after = {"SEP": 2 - 2.573172, "a": 1 - 3.314989, "b": 1 - 2.573172}
    reward = ActualFollowUpReward(FollowUpReward(toy(BIGRAM), flat(["a b"], ["b a"]), reduction="sum"))
    scores = reward.score([dialogue("b", "a")], ["a"])
    expected = torch.tensor([[after["b"] - after["SEP"], after["a"] - after["SEP"]]], dtype=torch.float64)
    torch.testing.assert_close(scores.gains, expected, atol=2e-6, rtol=0)
    assert float(scores.rewards) == pytest.approx(after["b"] - after["a"], abs=2e-6)
    halved = ActualFollowUpReward(FollowUpReward(toy(BIGRAM), flat(["a b"], ["b a"]))).score(
        [dialogue("b", "a")], ["a b"]
    )
    assert float(halved.rewards) == pytest.approx((after["b"] - after["a"]) / 2, abs=2e-6)


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-10), (torch.float32, 1e-5)])
def test_every_gain_is_the_difference_of_two_plain_rows(dtype: torch.dtype, tolerance: float) -> None:
    lm = tiny_llama(dtype=dtype)
    asked, said = cases(3)
    scores = ActualFollowUpReward(FollowUpReward(lm, TWO)).score(asked, said)
    assert scores.gains.shape == (3, 4)
    for row, (turns, words) in enumerate(zip(asked, said, strict=True)):
        bare = by_hand(lm, turns, words)
        for column, sentence_ in enumerate(TWO.sentences):
            both = by_hand(lm, turns, f"{sentence_} {words}")[-len(bare) :]
            torch.testing.assert_close(scores.gains[row, column], both.mean() - bare.mean(), atol=tolerance, rtol=0)


def test_rewards_are_sums_of_gains(lm: LanguageModel) -> None:
    scores = ActualFollowUpReward(FollowUpReward(lm, TWO)).score(*cases(4))
    thanks, helped, wrong, where = scores.gains.unbind(1)
    one, two = (thanks + helped) / 2 - wrong, -where
    torch.testing.assert_close(scores.by_category["one"], one, atol=1e-12, rtol=0)
    torch.testing.assert_close(scores.by_category["two"], two, atol=1e-12, rtol=0)
    torch.testing.assert_close(scores.rewards, (3 * one + two) / 4, atol=1e-12, rtol=0)


def test_swapped_sides_negate_the_reward(lm: LanguageModel) -> None:
    plus, minus = flat(["thanks ."], ["wrong .", "where ?"]), flat(["wrong .", "where ?"], ["thanks ."])
    one, other = (ActualFollowUpReward(FollowUpReward(lm, each)).score(*cases(4)).rewards for each in (plus, minus))
    torch.testing.assert_close(one, -other, atol=1e-12, rtol=0)


def test_order_batch_and_padded_rows_do_not_matter(lm: LanguageModel) -> None:
    asked, said = cases(20)
    together = ActualFollowUpReward(FollowUpReward(lm, TWO)).score(asked, said).rewards
    turned = ActualFollowUpReward(FollowUpReward(lm, TWO)).score(asked[::-1], said[::-1]).rewards.flip(0)
    rows = ActualFollowUpReward(FollowUpReward(replace(lm, attention="rows"), TWO)).score(asked[:4], said[:4]).rewards
    torch.testing.assert_close(together, turned, atol=1e-10, rtol=0)
    torch.testing.assert_close(together[:4], rows, atol=1e-10, rtol=0)


def test_a_planted_reader_is_read_without_error() -> None:
    """After "thanks" this model goes on with "more" rather than "stop", after "wrong" the other way round."""
    words = ("BOS", "END", "SEP", "thanks", "wrong", "more", "stop")
    likes = {"thanks": "more", "wrong": "stop"}
    table = {word: [2.0 * (likes.get(word) == after) for after in words] for word in words}
    reward = ActualFollowUpReward(FollowUpReward(toy(table), flat(["thanks"], ["wrong"])))
    glad, cross = reward.score([dialogue("SEP", "SEP")] * 2, ["more SEP", "stop SEP"]).rewards.tolist()
    assert glad == pytest.approx(1.0)  # 2 nats over two tokens
    assert cross == pytest.approx(-1.0)


def test_what_was_said_leaves_no_trace_in_the_format(lm: LanguageModel) -> None:
    reward = FollowUpReward(lm, TWO)
    ActualFollowUpReward(reward).score(*cases(5))
    assert {text for _, text in reward.chat._probed} == set(TWO.sentences)


def test_the_oldest_turns_go_where_the_window_is_small() -> None:
    lm = tiny_llama(dtype=torch.float64, max_position_embeddings=32)
    long = dialogue("when " * 20, "at eight .", "where ?", "at nine .")
    reward = ActualFollowUpReward(FollowUpReward(lm, TWO))
    found = reward.score([long, long[2:]], ["it helped .", "it helped ."]).rewards
    assert float(found[0]) == float(found[1])
    with pytest.raises(InputError, match="in a window of 32"):
        reward.score([long[2:]], ["it " * 30])


def test_errors_name_the_row_or_are_handed_over(lm: LanguageModel) -> None:
    reward, where = ActualFollowUpReward(FollowUpReward(lm, TWO)), Where("log.jsonl", 7)  # type: ignore[arg-type]
    unscored: dict[int, InputError] = {}
    asked = [dialogue("when ?", "at eight ."), dialogue("when ?"), dialogue("when ?", "at nine .")]
    found = reward.score(asked, ["thanks ."] * 3, where=[where] * 3, unscored=unscored).rewards
    assert list(unscored) == [1]
    assert found.isnan().tolist() == [False, True, False]
    assert str(unscored[1]).startswith("log.jsonl:7")
    with pytest.raises(InputError, match=r"a follow-up is blank"):
        reward.score(asked[:1], [" "])
    with torch.no_grad():
        lm.base.get_output_embeddings().weight.fill_(torch.nan)
    with pytest.raises(ModelError, match=r"log\.jsonl:7: .* not-a-number"):
        reward.score(asked[:1], ["thanks ."], where=[where])


def test_a_follow_up_that_joins_what_comes_after_is_refused() -> None:
    """One token for two words, as some vocabularies have."""
    lm = tiny_llama(dtype=torch.float64)
    lm.tokenizer.add_tokens(["it helped"])
    reward = ActualFollowUpReward(FollowUpReward(lm, flat(["thanks it"], ["wrong ."])))
    with pytest.raises(InputError, match="the tokenizer joins 'thanks it' with what was said after it"):
        reward.score([dialogue("when ?", "at eight .")], ["helped ."])


def test_only_plain_contrasts_can_be_read(lm: LanguageModel) -> None:
    for options in ({"standardize": "within_prompt"}, {"form": "full"}, {"mode": "whole_text"}):
        with pytest.raises(InputError, match="field 'reward'"):
            ActualFollowUpReward(FollowUpReward(lm, TWO, **options))  # type: ignore[arg-type]
