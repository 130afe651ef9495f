"""All rewards under one protocol: a score depends on the response alone, and every name leads to its reward."""

import random
from collections.abc import Sequence
from dataclasses import replace
from math import exp
from pathlib import Path
from typing import Any

import pytest
import yaml
from test_classifier import write_llama
from test_token_reward_reward import write_token_llama
from tiny import tiny_llama, tiny_tokenizer, write_followups

from uptake.annotators.from_reward import FromRewardSpec
from uptake.annotators.llm import LLMJudge
from uptake.annotators.oracle import OracleAnnotator
from uptake.data import ChatFormat
from uptake.errors import InputError
from uptake.follow_up.reward import FollowUpSpec
from uptake.judge.registry import annotator_spec, reward_spec, table
from uptake.models import LanguageModel
from uptake.rewards.base import Resources, Reward
from uptake.rewards.classifier import ClassifierSpec
from uptake.rewards.length import Length
from uptake.rewards.oracle import Oracle
from uptake.rewards.oracle_tokens import OracleTokens
from uptake.rewards.token_reward_model import TokenRewardSpec
from uptake.town import Town
from uptake.types import Answered, Dialogue, Judgement, Prompt, Rollout, Turn

# Short spellings of every reward that scores texts by itself; PATH stands for the folder of a model.
SPELLED = [
    *(
        "follow_up",
        "follow_up:negatives",
        "released",
        "full",
        "fed",
        "fed_released",
        "direct",
        "direct:sum",
        "implicit",
    ),
    *("classifier:PATH", "token_reward:PATH", "token_reward:PATH#mean", "length", "oracle", "function:PATH:share"),
    "{sum: [{reward: length, weight: -0.5}, {reward: direct, weight: 2}]}",
]
FUNCTION = "def share(rollout):\n    return rollout.response.count('e') / len(rollout.response)\n"


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


def spelled(text: str, folder: Path) -> Any:
    """A reward with the folder of a model, or the file of a function, in the place of PATH."""
    if text.startswith("{"):
        return yaml.safe_load(text)
    if "PATH" not in text:
        return text
    name = text.partition(":")[0]
    if name == "function":
        (folder / "own.py").write_text(FUNCTION)
        return text.replace("PATH", str(folder / "own.py"))
    write = write_token_llama if name == "token_reward" else write_llama
    return text.replace("PATH", str(write(folder / name, max_position_embeddings=256)))


def resources(lm: LanguageModel, folder: Path = Path("unused")) -> Resources:
    other = tiny_llama(1, tokenizer=lm.tokenizer, max_position_embeddings=256)  # type: ignore[arg-type]
    return Resources({"follow_up": lm, "judge": lm, "reference": other}, folder, device="cpu")


def built(text: str, lm: LanguageModel, folder: Path) -> Reward:
    """The reward of a spelling, with a small follow-up set where it asks follow-ups."""
    spec = reward_spec(spelled(text, folder))
    followups = {"followups": str(write_followups(folder))} if isinstance(spec, FollowUpSpec) else {}
    return replace(spec, **followups).build(resources(lm))  # type: ignore[type-var]


def scores(judgements: Sequence[Judgement]) -> list[float]:
    assert all(each.valid for each in judgements), judgements
    return [each.score for each in judgements]


@pytest.mark.parametrize("text", SPELLED)
def test_a_score_depends_on_nothing_but_the_dialogue(text: str, lm: LanguageModel, tmp_path: Path) -> None:
    """Not on the batch, the order of the rows, or the side on which a tokenizer pads."""
    reward = built(text, lm, tmp_path)
    asked = town_dialogues(10)
    together = scores(reward.rate(asked))
    assert len(set(together)) > 4
    alone = scores([judgement for turns in asked for judgement in reward.rate([turns])])
    order = random.Random(1).sample(range(len(asked)), len(asked))
    shuffled = scores(reward.rate([asked[place] for place in order]))
    rows = [Answered(Prompt(turns[:-1], "k"), turns[-1].content) for turns in asked]
    try:
        lm.tokenizer.padding_side = "left"
        left = scores(built(text, lm, tmp_path).rate(asked))
    finally:
        lm.tokenizer.padding_side = "right"
    assert alone == pytest.approx(together, abs=1e-5, rel=1e-5)
    assert shuffled == pytest.approx([together[place] for place in order], abs=1e-5, rel=1e-5)
    assert left == pytest.approx(together, abs=1e-5, rel=1e-5)
    assert scores(reward.rate(rows)) == together
    assert [each.judgement for each in reward.details(rows)] == list(reward.rate(rows))


@pytest.mark.parametrize("text", [*SPELLED, "oracle_tokens"])
def test_what_is_no_answer_is_invalid_and_does_no_harm(text: str, lm: LanguageModel, tmp_path: Path) -> None:
    reward = built(text, lm, tmp_path)
    good = town_dialogues(1)
    found = reward.rate([good[0], good[0][:1], (good[0][0], Turn("assistant", " ")), good[1]])
    assert [each.valid for each in found] == [True, False, False, True]
    assert "the last turn is the user's" in found[1].detail
    assert "the response is empty" in found[2].detail
    assert [found[0].score, found[3].score] == pytest.approx(scores(reward.rate(good)), abs=1e-5)
    assert list(reward.rate([])) == []


def test_every_reward_has_a_fingerprint_of_its_own(lm: LanguageModel, tmp_path: Path) -> None:
    texts = [*SPELLED, "oracle_tokens", "server:http://localhost:1"]
    one, two = ([built(text, lm, tmp_path).fingerprint for text in texts] for _ in range(2))
    assert one == two
    assert len(set(one)) == len(texts)
    assert str(tmp_path) not in "".join(one)


def test_a_function_with_other_words_has_another_fingerprint(lm: LanguageModel, tmp_path: Path) -> None:
    one = built("function:PATH:share", lm, tmp_path)
    (tmp_path / "own.py").write_text(FUNCTION.replace("'e'", "'a'"))
    other = reward_spec(f"function:{tmp_path}/own.py:share").build(resources(lm))
    assert one.fingerprint != other.fingerprint
    assert scores(one.rate(answers("see", "at"))) == pytest.approx([2 / 3, 0])
    assert scores(other.rate(answers("see", "at"))) == pytest.approx([0, 1 / 2])


@pytest.mark.parametrize(
    ("path", "message"),
    [
        ("own.py", "field 'path': 'own.py' .allowed: FILE.py:FUNCTION"),
        ("gone.py:f", r"gone.py, field 'path': cannot be run: FileNotFoundError"),
        ("own.py:f", r"own.py, field 'path': no function 'f'"),
        ("bad.py:f", r"bad.py, field 'path': cannot be run: ZeroDivisionError"),
    ],
)
def test_functions_that_are_not_there(path: str, message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("own.py").write_text(FUNCTION)
    Path("bad.py").write_text("1 / 0\n")
    with pytest.raises(InputError, match=message):
        reward_spec({"function": {"path": path}}).build(Resources())


def test_the_model_as_annotator(lm: LanguageModel) -> None:
    prompt = Prompt((Turn("user", "when ?"),), "k")
    for text in ("model", "model:judge"):
        judge = annotator_spec(text).build(resources(lm))
        assert isinstance(judge, LLMJudge)
        (verdict,) = judge.compare([prompt], [("at eight .", "at eight .")])
        assert verdict.p == 0.5


@pytest.mark.parametrize("text", [*SPELLED, "oracle_tokens"])
def test_every_reward_is_an_annotator(text: str, lm: LanguageModel, tmp_path: Path) -> None:
    """It prefers the response that it rates higher, with the probability of its temperature."""
    asked = town_dialogues(3)
    prompts = [Prompt(turns[:-1], str(place)) for place, turns in enumerate(asked[::2])]
    pairs = [(one[-1].content, two[-1].content) for one, two in zip(asked[::2], asked[1::2], strict=True)]
    choice = {"from_reward": {"reward": spelled(text, tmp_path), "temperature": 0.5}}
    rates = scores(reward_spec(spelled(text, tmp_path)).build(resources(lm)).rate(asked))
    found = annotator_spec(choice).build(resources(lm)).compare(prompts, pairs)
    expected = [1 / (1 + exp(min((b - a) / 0.5, 700))) for a, b in zip(rates[::2], rates[1::2], strict=True)]
    assert [verdict.p for verdict in found] == pytest.approx(expected, abs=1e-4)


def test_temperatures_follow_the_reward() -> None:
    """1 where a reward was learned from preferences, certainty elsewhere; what is written wins."""
    by = {text: annotator_spec(text) for text in ("classifier:x", "implicit", "length", "token_reward:x", "follow_up")}
    found = {text: spec.temperature for text, spec in by.items() if isinstance(spec, FromRewardSpec)}
    assert found == {"classifier:x": 1.0, "implicit": 1.0, "length": None, "token_reward:x": None, "follow_up": None}
    assert annotator_spec({"length": {"temperature": 3}}) == FromRewardSpec(Length(), 3)
    assert annotator_spec({"classifier": {"path": "x", "temperature": None}}) == FromRewardSpec(ClassifierSpec("x"))
    assert annotator_spec({"from_reward": {"reward": "oracle"}}) == FromRewardSpec(Oracle())
    assert annotator_spec("oracle") == OracleAnnotator()


def test_a_label_behind_the_folder(tmp_path: Path) -> None:
    labels = {"id2label": {0: "bad", 1: "good"}, "label2id": {"bad": 0, "good": 1}, "num_labels": 2}
    folder = write_llama(tmp_path, **labels)
    asked = town_dialogues(3)
    by = [reward_spec(f"classifier:{folder}#{label}").build(Resources(device="cpu")) for label in ("good", "bad")]
    good, bad = (scores(each.rate(asked)) for each in by)
    assert good == pytest.approx([-each for each in bad], abs=1e-6)


def test_hyphens_and_underscores_are_alike() -> None:
    assert reward_spec("follow-up") == reward_spec("follow_up") == reward_spec({"follow-up": {}})
    assert reward_spec("token-reward:./my-rewards") == TokenRewardSpec("./my-rewards")
    assert annotator_spec({"from-reward": {"reward": "oracle-tokens"}}) == FromRewardSpec(OracleTokens())


@pytest.mark.parametrize(
    ("choice", "message"),
    [
        (
            "followup",
            r"no reward 'followup'; did you mean follow_up\? .allowed: follow_up, follow_up:negatives, ",
        ),
        ("length:words", "no reward 'length:words'"),
        ("oracle:1", "no reward 'oracle:1'"),
        ("", "no reward ''"),
        (3, "field 'reward': 3 .allowed: a name"),
        ({"length": {}, "oracle": {}}, "field 'reward'.*allowed: a name"),
        ("classifier", r"classifier needs a setting 'path'"),
        ({"classifier": {"paht": "x"}}, r"classifier has no setting 'paht'; did you mean path\?"),
        ({"classifier": 3}, r"3 as settings of classifier"),
        ("direct:median", "'median' as 'reduction' of direct"),
        ("person", "'person' compares two responses .allowed: follow_up,"),
        ({"model": {}}, "'model' compares two responses"),
    ],
)
def test_what_is_no_reward(choice: Any, message: str) -> None:
    with pytest.raises(InputError, match=message):
        reward_spec(choice)


@pytest.mark.parametrize("text", ["follow_up", "direct", "implicit"])
def test_a_model_is_needed(text: str) -> None:
    with pytest.raises(InputError, match=r"field 'models': this needs a model called '(follow_up|judge)'; given: none"):
        reward_spec(text).build(Resources())


def test_a_reward_of_tokens_is_asked_for() -> None:
    assert reward_spec("oracle-tokens", needs="tokens") == OracleTokens()
    with pytest.raises(
        InputError, match=r"'length' has no rewards of tokens .allowed: token_reward, server, function,"
    ):
        reward_spec("length", needs="tokens")
    tokens = [{"reward": "oracle_tokens", "weight": 1}, {"reward": "token_reward:x", "weight": 1}]
    assert "tokens" in reward_spec({"sum": tokens}, needs="tokens").offers
    with pytest.raises(InputError, match=r"'sum' has no rewards of tokens"):
        reward_spec({"sum": [*tokens, {"reward": "length", "weight": 1}]}, needs="tokens")


def test_the_page_holds_the_table_of_the_registry() -> None:
    page = (Path(__file__).parent.parent / "docs" / "rewards.md").read_text()
    rows = "".join(
        f"{line}\n" for line in page.splitlines() if line.startswith(("|  | name", "| reward |", "| judge |"))
    )
    head, _, *others = table().splitlines(keepends=True)
    assert rows == "".join((head, *others))
    assert table() in page
    assert others[-1].count("|") == head.count("|")


# --- sums -------------------------------------------------------------------------------------------------------------


def terms(*parts: tuple[Any, float]) -> dict[str, Any]:
    return {"sum": [{"reward": reward, "weight": weight} for reward, weight in parts]}


def test_a_sum_by_hand() -> None:
    """0.5 characters less twice the quality, each with its part; an answer outside the town has no quality."""
    reward = reward_spec(terms(("length", 0.5), ("oracle", -2))).build(Resources())
    asked = [*town_dialogues(2), *answers("four")]
    found = reward.rate(asked)
    for turns, judgement in zip(asked[:-1], found, strict=False):
        parts = {"length": 0.5 * len(turns[-1].content), "oracle": -2 * Town().quality(turns).overall}
        assert judgement.parts == pytest.approx(parts)
        assert judgement.score == pytest.approx(sum(parts.values()))
    assert not found[-1].valid
    assert found[-1] == Oracle().rate(asked[-1:])[0]
    assert reward.parts == "by_reward"


def test_alike_rewards_in_a_sum_have_names_of_their_own() -> None:
    twice = reward_spec(terms(("length", 1), ("length", 2))).build(Resources())
    assert twice.rate(answers("four"))[0].parts == {"length": 4.0, "length_2": 8.0}
    named = {"sum": [{"reward": "length", "weight": 1, "name": "short"}, {"reward": "length", "weight": 2}]}
    assert reward_spec(named).build(Resources()).rate(answers("four"))[0].parts.keys() == {"short", "length_2"}


def test_token_rewards_add_where_a_policy_sampled(lm: LanguageModel, tmp_path: Path) -> None:
    """Weighted sums token by token, for the ids of rollouts; the marks of a text stand beside each other."""
    chat, asked = ChatFormat.of(lm), town_dialogues(2)
    rollouts = []
    for turns in asked:
        prompt_ids, ids = chat.response_ids(turns[:-1], turns[-1].content)
        rollouts.append(Rollout(Prompt(turns[:-1], "k"), prompt_ids, ids, turns[-1].content, True))
    choice = terms(("oracle_tokens", 2), (spelled("function:PATH:share", tmp_path), 1))
    (tmp_path / "own.py").write_text(
        "from uptake.rewards.function import Rewards\n"
        "def share(rollout):\n    return Rewards(0.25, [1.0] * len(rollout.response_ids))\n"
    )
    at_hand = replace(resources(lm), policy=lm, chat=chat)
    reward, oracle = (reward_spec(each).build(at_hand) for each in (choice, "oracle_tokens"))
    for one, other in zip(reward.rate(rollouts), oracle.rate(rollouts), strict=True):
        assert one.tokens == pytest.approx([2 * value + 1 for value in other.tokens])
        assert one.score == pytest.approx(2 * other.score + 0.25)
    for one, other in zip(reward.details(asked), oracle.details(asked), strict=True):
        assert one.judgement.tokens == ()
        assert one.spans == tuple(replace(span, score=2 * span.score) for span in other.spans)


@pytest.mark.parametrize(
    ("parts", "message"),
    [
        ([], "field 'sum': "),
        ("length", "field 'sum': 'length' .allowed: a list of {reward:"),
        ([{"reward": "length"}], "field 'sum': {'reward': 'length'}"),
        ([{"weight": 1}], "field 'sum': {'weight': 1}"),
        ([{"reward": "length", "weight": 1, "wieght": 1}], "field 'sum'"),
        ([{"reward": "long", "weight": 1}], "no reward 'long'"),
        ([{"reward": "person", "weight": 1}], "'person' compares two responses"),
        ([{"reward": "length", "weight": "1"}], "a weight of '1'"),
        ([{"reward": "length", "weight": True}], "a weight of True"),
        ([{"reward": "length", "weight": float("nan")}], "field 'weight': nan"),
        ([{"reward": "length", "weight": float("inf")}], "field 'weight': inf"),
        ([{"reward": {"sum": []}, "weight": 1}], "a sum in a sum"),
        ([{"reward": "length", "weight": 1, "name": "a"}] * 2, r"\['a', 'a'\]"),
    ],
)
def test_what_is_no_sum(parts: Any, message: str) -> None:
    with pytest.raises(InputError, match=message):
        reward_spec({"sum": parts})


# --- the oracle -------------------------------------------------------------------------------------------------------


def test_the_oracle_is_the_quality_of_the_town() -> None:
    asked = town_dialogues(4)
    found = Oracle().rate(asked)
    assert scores(found) == [Town().quality(turns).overall for turns in asked]
    assert found[0].score == 1
    assert min(scores(found)) < 1
    assert found[1].parts == Town().quality(asked[1]).scores
    (other,) = Oracle().rate([(Turn("user", "What is seven times eight?"), Turn("assistant", "It is 56."))])
    assert not other.valid
    assert other.reason


# --- length -----------------------------------------------------------------------------------------------------------


def answers(*texts: str) -> list[Dialogue]:
    return [(Turn("user", "when ?"), Turn("assistant", text)) for text in texts]


def test_length_counts_characters() -> None:
    assert scores(Length().rate(answers("a", "four", "at eight ."))) == [1.0, 4.0, 10.0]
