"""All contestants under one protocol: a score depends on the dialogue alone, and every name leads to its reward."""

import random
from pathlib import Path

import pytest
import torch
from test_classifier import write_llama
from test_token_reward_reward import write_token_llama
from tiny import saved, tiny_llama, tiny_tokenizer, write_followups

from uptake.annotators.llm import LLMJudge
from uptake.errors import InputError
from uptake.judge.scorers import CONTESTANTS, contestant
from uptake.models import LanguageModel
from uptake.rewards.base import Reward
from uptake.rewards.length import Length, LengthResidual
from uptake.rewards.oracle import Oracle
from uptake.town import Town
from uptake.types import Dialogue, Judgement, Prompt, Turn

REWARDS = [spec for spec in CONTESTANTS if not spec.startswith("judge")]


@pytest.fixture(scope="module")
def lm() -> LanguageModel:
    words = sorted({*Town().vocabulary(), "1", "2"})
    return tiny_llama(tokenizer=tiny_tokenizer(words), max_position_embeddings=256)


def town_dialogues(count: int) -> list[Dialogue]:
    """Answers to questions of the town, two to each, of many lengths, some after an earlier exchange."""
    town, rng = Town(), random.Random(0)
    asked: list[Dialogue] = []
    for question in town.questions(count, seed=0, split="train"):
        before = asked[-1] if asked and rng.random() < 0.3 else ()
        texts = [town.answer(question, fault, rng) for fault in (None, rng.choice(town.faults(question)))]
        asked += [(*before, Turn("user", question.text), Turn("assistant", text)) for text in texts]
    return asked


def spelled(spec: str, folder: Path) -> str:
    """A contestant with the folder of a model in the place of PATH."""
    write = write_token_llama if spec.startswith("token_reward") else write_llama
    name = spec.partition(":")[0]
    return spec.replace("PATH", str(write(folder / name, max_position_embeddings=256))) if "PATH" in spec else spec


def scores(judgements: list[Judgement]) -> list[float]:
    assert all(each.valid for each in judgements), judgements
    return [each.score for each in judgements]


@pytest.mark.parametrize("spec", REWARDS)
def test_a_score_depends_on_nothing_but_the_dialogue(spec: str, lm: LanguageModel, tmp_path: Path) -> None:
    """Not on the batch, the order of the rows, or the side on which a tokenizer pads."""
    spec = spelled(spec, tmp_path)
    reward = contestant(spec, model=lm, followups=write_followups(tmp_path), device="cpu")
    asked = town_dialogues(10)
    together = scores([*reward(asked)])
    assert len(set(together)) > 4
    alone = scores([judgement for turns in asked for judgement in reward([turns])])
    order = random.Random(1).sample(range(len(asked)), len(asked))
    shuffled = scores([*reward([asked[place] for place in order])])
    try:
        lm.tokenizer.padding_side = "left"
        left = scores([*contestant(spec, model=lm, followups=tmp_path / "followups.yaml", device="cpu")(asked)])
    finally:
        lm.tokenizer.padding_side = "right"
    assert alone == pytest.approx(together, abs=1e-5, rel=1e-5)
    assert shuffled == pytest.approx([together[place] for place in order], abs=1e-5, rel=1e-5)
    assert left == pytest.approx(together, abs=1e-5, rel=1e-5)


@pytest.mark.parametrize("spec", REWARDS)
def test_what_is_no_answer_is_invalid_and_does_no_harm(spec: str, lm: LanguageModel, tmp_path: Path) -> None:
    spec = spelled(spec, tmp_path)
    reward = contestant(spec, model=lm, followups=write_followups(tmp_path), device="cpu")
    good = town_dialogues(1)
    found = reward([good[0], good[0][:1], (good[0][0], Turn("assistant", " ")), good[1]])
    assert [each.valid for each in found] == [True, False, False, True]
    assert "the last turn is the user's" in found[1].reason
    assert "the response is empty" in found[2].reason
    assert [found[0].score, found[3].score] == pytest.approx(scores([*reward(good)]), abs=1e-5)
    assert list(reward([])) == []


def test_every_contestant_has_a_fingerprint_of_its_own(lm: LanguageModel, tmp_path: Path) -> None:
    specs = [spelled(spec, tmp_path) for spec in REWARDS]
    path = write_followups(tmp_path)
    one, two = ([contestant(spec, model=lm, followups=path).fingerprint for spec in specs] for _ in range(2))
    assert one == two
    assert len(set(one)) == len(specs)
    assert str(tmp_path) not in "".join(one)


def test_the_judges(lm: LanguageModel, tmp_path: Path) -> None:
    prompt = Prompt((Turn("user", "when ?"),), "k")
    for judge in (contestant("judge", model=lm), contestant(f"judge:{saved(lm, tmp_path)}", device="cpu")):
        assert isinstance(judge, LLMJudge)
        (verdict,) = judge([prompt], [("at eight .", "at eight .")])
        assert verdict.p == 0.5


def test_a_label_behind_the_folder(tmp_path: Path) -> None:
    labels = {"id2label": {0: "bad", 1: "good"}, "label2id": {"bad": 0, "good": 1}, "num_labels": 2}
    folder = write_llama(tmp_path, **labels)
    asked = town_dialogues(3)
    good, bad = (contestant(f"classifier:{folder}#{label}", device="cpu")(asked) for label in ("good", "bad"))
    assert scores([*good]) == pytest.approx([-each.score for each in bad], abs=1e-6)


@pytest.mark.parametrize(
    "spec", ["follow-up", "direct:median", "classifier", "classifier:", "length:words", "oracle:1", ""]
)
def test_unknown_names(spec: str, lm: LanguageModel) -> None:
    with pytest.raises(InputError, match=r"no contestant .*allowed: follow_up, follow_up:negatives, released"):
        contestant(spec, model=lm)


@pytest.mark.parametrize("spec", ["follow_up", "direct", "judge"])
def test_a_model_is_needed(spec: str) -> None:
    with pytest.raises(InputError, match="field 'model'"):
        contestant(spec)


def test_the_oracle_is_the_quality_of_the_town() -> None:
    asked = town_dialogues(4)
    found = Oracle()(asked)
    assert scores([*found]) == [Town().quality(turns).overall for turns in asked]
    assert found[0].score == 1
    assert min(scores([*found])) < 1
    assert found[1].parts == Town().quality(asked[1]).scores
    (other,) = Oracle()([(Turn("user", "What is seven times eight?"), Turn("assistant", "It is 56."))])
    assert not other.valid
    assert other.reason


# --- length -----------------------------------------------------------------------------------------------------------


def answers(*texts: str) -> list[Dialogue]:
    return [(Turn("user", "when ?"), Turn("assistant", text)) for text in texts]


def test_length_counts_characters() -> None:
    assert scores([*Length()(answers("a", "four", "at eight ."))]) == [1.0, 4.0, 10.0]


def test_nothing_is_left_of_length_itself() -> None:
    asked = answers("a", "four", "at eight .")
    residual = LengthResidual.fit(Length(), asked, Length()(asked))
    assert scores([*residual(asked)]) == pytest.approx([0, 0, 0], abs=1e-12)


def test_the_line_by_hand(lm: LanguageModel) -> None:
    """Against numpy's least squares on valid judgements only; new dialogues are judged by the line as it is."""
    fitted, new = town_dialogues(6), town_dialogues(8)[12:]
    reward: Reward = contestant("direct", model=lm)  # type: ignore[assignment]
    judged = [*reward(fitted), Judgement(1e9, valid=False)]
    residual = LengthResidual.fit(reward, [*fitted, *answers("bread")], judged)
    sizes = torch.tensor([float(len(turns[-1].content)) for turns in fitted], dtype=torch.float64)
    table = torch.stack((sizes, torch.ones_like(sizes)), 1)
    values = torch.tensor([each.score for each in judged[:-1]], dtype=torch.float64)
    slope, intercept = torch.linalg.lstsq(table, values[:, None]).solution[:, 0].tolist()
    assert (residual.slope, residual.intercept) == pytest.approx((slope, intercept), abs=1e-9)
    expected = [
        each.score - slope * len(turns[-1].content) - intercept for turns, each in zip(new, reward(new), strict=True)
    ]
    assert scores([*residual(new)]) == pytest.approx(expected, abs=1e-6)
    bad = residual([(Turn("user", "when ?"),)])[0]
    assert not bad.valid
    assert residual.fingerprint != reward.fingerprint


@pytest.mark.parametrize("texts", [("four", "nine"), ("four",), ()])
def test_no_line_through_one_length(texts: tuple[str, ...]) -> None:
    asked = answers(*texts)
    with pytest.raises(InputError, match="no line fits"):
        LengthResidual.fit(Length(), asked, Length()(asked))
