"""Token reward models as rewards of dialogues: sums and means of what Transformers' own token classifier says."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from test_bench import Watched, figures, pairs
from test_classifier import SHAPE, dialogues, write_llama
from test_token_spans import TEXTS
from test_token_spans import chat as trained_chat
from tiny import (
    answered_records,
    pair_records,
    prompt_records,
    read_jsonl,
    saved,
    tiny_llama,
    tiny_tokenizer,
    write_jsonl,
)
from tiny_cli import Cli
from transformers import AutoModelForTokenClassification, LlamaConfig, LlamaForTokenClassification

from uptake import read
from uptake.data.edited import read_spans, spell_span
from uptake.errors import InputError, ModelError
from uptake.judge.registry import reward_spec
from uptake.models.heads import AddHead
from uptake.rewards.base import Resources, Reward
from uptake.rewards.token_reward_model import TokenRewardModel
from uptake.tasks.bench import bench
from uptake.types import Dialogue, Turn

ASKED = (Turn("user", "when ?"),)


def write_token_llama(folder: Path, tokenizer: Any = None, **changes: Any) -> Path:
    """A Llama with random weights and a head over the labels of every token, as a Transformers folder."""
    tokenizer = tokenizer or tiny_tokenizer()
    options = {"num_labels": 1, "max_position_embeddings": 96, "initializer_range": 0.4, "bos_token_id": None}
    ends = {"pad_token_id": tokenizer.pad_token_id, "eos_token_id": tokenizer.eos_token_id}
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = LlamaForTokenClassification(
            LlamaConfig(vocab_size=len(tokenizer), **{**SHAPE, **options, **ends, **changes})
        )
        torch.nn.init.normal_(model.score.bias)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def token_reward(path: Path | str) -> Reward:
    return reward_spec(f"token_reward:{path}").build(Resources(device="cpu"))


def by_hand(folder: Path, turns: Dialogue, tokenizer: Any = None) -> list[float]:
    """The rewards of the last response, end of turn included, by Transformers' template and classifier alone."""
    tokenizer = tokenizer or tiny_tokenizer()
    messages = [{"role": turn.role, "content": turn.content} for turn in turns]
    ids = [
        tokenizer.apply_chat_template(part, add_generation_prompt=waits, return_dict=True)["input_ids"]
        for part, waits in ((messages[:-1], True), (messages, False))
    ]
    return by_ids(folder, ids[0], ids[1][len(ids[0]) :])


def by_ids(folder: Path, prompt: Sequence[int], response: Sequence[int]) -> list[float]:
    model: Any = AutoModelForTokenClassification.from_pretrained(folder).eval()
    with torch.no_grad():
        logits = model(input_ids=torch.tensor([[*prompt, *response]])).logits[0, len(prompt) :].double()
    values = logits[:, 0] if logits.shape[1] == 1 else logits.softmax(1)[:, 1] - logits.softmax(1)[:, 0]
    return [float(value) for value in values]


@pytest.mark.parametrize("labels", [1, 2])
def test_sum_and_mean_by_hand(labels: int, tmp_path: Path) -> None:
    folder, asked = write_token_llama(tmp_path, num_labels=labels), dialogues(9)
    rewards = [by_hand(folder, turns) for turns in asked]
    assert [len(each) for each in rewards] == [len(turns[-1].content.split()) + 1 for turns in asked]
    total, mean = (token_reward(f"{folder}{how}").rate(asked) for how in ("", "#mean"))
    assert [each.score for each in total] == pytest.approx([sum(each) for each in rewards], abs=1e-5)
    assert [each.score for each in mean] == pytest.approx([sum(each) / len(each) for each in rewards], abs=1e-5)
    for one, other, expected in zip(total, mean, rewards, strict=True):
        assert one.tokens == other.tokens == pytest.approx(expected, abs=1e-5)
    explicit = token_reward(f"{folder}#sum").rate(asked)
    assert explicit == total


def test_the_oldest_turns_go_where_the_window_is_small(tmp_path: Path) -> None:
    folder = write_token_llama(tmp_path, max_position_embeddings=24)
    reward = TokenRewardModel.from_pretrained(folder, device="cpu")
    last = (*ASKED, Turn("assistant", "at eight ."))
    long = (Turn("user", "bread " * 9), Turn("assistant", "cakes " * 9), *last)
    beyond = (*ASKED, Turn("assistant", "bread " * 40))
    found = reward.rate([long, last, beyond])
    assert [each.dropped_turns for each in reward.details([long, last, beyond])] == [2, 0, None]
    assert found[0].score == pytest.approx(sum(by_hand(folder, last)), abs=1e-5)
    assert [each.valid for each in found] == [True, True, False]
    assert "window of 24" in found[2].detail
    # A conversation that fills the window to its last token is read in full.
    full = (Turn("user", "bread " * 13), Turn("assistant", "cakes " * 7))
    for turns, fits in ((full, True), ((Turn("user", "bread " * 14), full[1]), False)):
        (judgement,) = reward.rate([turns])
        assert judgement.valid == fits
        assert not fits or judgement.score == pytest.approx(sum(by_hand(folder, turns)), abs=1e-5)


def test_models_that_are_none(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="nothing: no such folder"):
        token_reward(tmp_path / "nothing")
    with pytest.raises(ModelError, match=r"no token classifier: weights are missing for score\."):
        token_reward(saved(tiny_llama(), tmp_path / "causal"))
    with pytest.raises(ModelError, match="saved as LlamaForSequenceClassification"):
        token_reward(write_llama(tmp_path / "sequence"))
    reward = TokenRewardModel.from_pretrained(write_token_llama(tmp_path / "model"), device="cpu")
    for weight in reward.lm.heads["token_reward"].parameters():
        weight.data.fill_(torch.nan)
    with pytest.raises(ModelError, match="a value that is not finite"):
        reward.rate(dialogues(1))


@pytest.mark.unchecked
def test_an_unknown_aggregate(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"field 'reward': 'median' as 'aggregate' of token_reward .allowed: 'sum' or"):
        token_reward(f"{write_token_llama(tmp_path)}#median")


def test_heads_on_one_backbone_are_other_rewards() -> None:
    """A model that was not loaded from a folder has its head beside it."""
    lm, made = tiny_llama(), []
    for seed in (0, 1, 0):
        torch.manual_seed(seed)
        heads = AddHead("token_reward", std=0.5, bias=True)(lm)
        made.append(TokenRewardModel(replace(lm, heads=heads), trained_chat("bytes")).fingerprint)
    assert made[0] != made[1]
    assert made[0] == made[2]


def test_a_bench_of_sums_is_that_of_the_sums_by_hand(tmp_path: Path) -> None:
    """And a second one asks nothing, since the fingerprint is that of weights and settings and not of the folder."""
    folder, other = (write_token_llama(tmp_path / name) for name in ("rewards", "copy"))
    held = pairs(12)
    asked = [Watched(token_reward(each)) for each in (folder, other)]
    (board, _), (again, _) = (
        bench({"by sum": each}, [held], tmp_path / str(place), cache=tmp_path / "scores.sqlite")
        for place, each in enumerate(asked)
    )
    agreed = []
    for item in held.items[:-1]:
        sums = [sum(by_hand(folder, (*item.prompt.turns, Turn("assistant", text)))) for text in item.responses]  # type: ignore[union-attr]
        agreed += [(sums[0] > sums[1]) == (item.preference > 0.5)] if item.preference != 0.5 else []  # type: ignore[union-attr]
    found = figures(board.by_benchmark["pairs"]["by sum"]).accuracy.plain
    assert (found.rate, found.n) == (pytest.approx(sum(agreed) / len(agreed)), len(agreed))
    assert list(board.by_benchmark["pairs"]["by sum"].invalid.values()) == [1]
    assert board.by_benchmark == again.by_benchmark
    # Kept scores are not asked again; what did not fit is.
    assert [len(each.asked) for each in asked] == [len(set(asked[0].asked)), 1]


# --- where the rewards stand ------------------------------------------------------------------------------------------


def test_spans_by_hand(tmp_path: Path) -> None:
    """Words are tokens, a blank goes with the word after it, and the end of the turn is empty at the end."""
    reward = TokenRewardModel.from_pretrained(write_token_llama(tmp_path), device="cpu")
    turns = (*ASKED, Turn("assistant", "at  eight ."))
    (judgement,) = reward.rate([turns])
    spans = reward.spans(turns, judgement)
    assert [(span.start, span.end) for span in spans] == [(0, 2), (2, 9), (9, 11), (11, 11)]
    assert [span.score for span in spans] == pytest.approx(by_hand(tmp_path, turns), abs=1e-5)


@pytest.fixture(scope="module")
def byte_reward(tmp_path_factory: pytest.TempPathFactory) -> TokenRewardModel:
    chat = trained_chat("bytes")
    folder = write_token_llama(tmp_path_factory.mktemp("bytes"), chat.tokenizer, pad_token_id=0)
    return replace(TokenRewardModel.from_pretrained(folder, device="cpu"), chat=chat)


@settings(max_examples=25)
@given(TEXTS)
def test_spans_of_any_text_can_be_read_again_and_keep_the_sum(byte_reward: TokenRewardModel, text: str) -> None:
    turns = (Turn("user", "What sat?"), Turn("assistant", text))
    (judgement,) = byte_reward.rate([turns])
    spans = byte_reward.spans(turns, judgement)
    assert read_spans([spell_span(span) for span in spans], text, None, "spans") == tuple(spans)
    assert sum(span.score for span in spans) == pytest.approx(judgement.score, abs=1e-5)
    assert {place for span in spans for place in range(span.start, span.end)} == set(range(len(text)))
    assert spans[-1].start == spans[-1].end == len(text)


# --- on the command line ----------------------------------------------------------------------------------------------


def said(record: Any, field: str = "completion") -> Dialogue:
    turns = [*record["prompt"], *record[field]]
    return tuple(Turn(each["role"], each["content"]) for each in turns)


def test_score_writes_rewards_and_tokens(uptake: Cli, tmp_path: Path) -> None:
    folder = write_token_llama(tmp_path / "rewards")
    write_jsonl(Path("in.jsonl"), answered_records(18))
    out = uptake("score", "in.jsonl", "--reward", f"token_reward:{folder}", "--tokens", "--out", "out.jsonl")
    assert "18 responses in 18 rows -> out.jsonl" in out
    records = read_jsonl(Path("out.jsonl"))
    for record in records:
        expected = by_hand(folder, said(record))
        assert record["reward"] == pytest.approx(sum(expected), abs=1e-5)
        assert [span["score"] for span in record["reward_spans"]] == pytest.approx(expected, abs=1e-5)
        assert record.keys() == {"prompt", "completion", "reward", "dropped_turns", "reward_spans", "rated_by"}
    assert f"{sum(record['reward'] for record in records) / 18:+.4f}" in out
    assert len({record["rated_by"] for record in records}) == 1
    (first, *_) = read("out.jsonl", columns={"spans": "reward_spans"})
    assert [span.score for span in first.spans] == [each["score"] for each in records[0]["reward_spans"]]


def test_score_rates_both_sides_of_a_preference_by_the_mean(uptake: Cli, tmp_path: Path) -> None:
    folder = write_token_llama(tmp_path / "rewards")
    write_jsonl(Path("in.jsonl"), pair_records(8))
    out = uptake("score", "in.jsonl", "--reward", f"token_reward:{folder}#mean", "--out", "out.jsonl")
    right = 0
    for record in read_jsonl(Path("out.jsonl")):
        chosen, rejected = (by_hand(folder, said(record, side)) for side in ("chosen", "rejected"))
        means = [sum(each) / len(each) for each in (chosen, rejected)]
        assert [record["chosen_reward"], record["rejected_reward"]] == pytest.approx(means, abs=1e-5)
        assert "chosen_reward_spans" not in record
        right += means[0] > means[1]
    assert f"{right / 8:.1%}" in out


def test_score_by_other_rewards(uptake: Cli) -> None:
    write_jsonl(Path("in.jsonl"), answered_records(5))
    uptake("score", "in.jsonl", "--reward", "length", "--out", "out.jsonl")
    records = read_jsonl(Path("out.jsonl"))
    assert [each["reward"] for each in records] == [len(said(each)[-1].content) for each in records]


def test_score_drops_what_does_not_fit(uptake: Cli, tmp_path: Path) -> None:
    folder = write_token_llama(tmp_path / "rewards")
    good = answered_records(3)
    write_jsonl(Path("in.jsonl"), [good[0], {"prompt": "when ?", "completion": "bread " * 200}, *good[1:]])
    command = ["score", "in.jsonl", "--reward", f"token_reward:{folder}", "--out", "out.jsonl"]
    code, _, error = uptake.run(*command)
    assert code == 2
    assert "in.jsonl:2" in error
    assert "window of 96" in error
    assert "1 rows were left out" in uptake(*command, "--drop-bad")
    assert len(read_jsonl(Path("out.jsonl"))) == 3


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        (["--reward", "length", "--logps"], "field 'logps': this reward asks for no follow-ups"),
        (
            ["--reward", "length", "--tokens"],
            "field 'tokens': this reward rates no tokens (allowed: token_reward:PATH, or",
        ),
        (["--reward", "length", "--reward-set", "reduction=sum"], "field 'reward': length has no setting 'reduction'"),
        (["--reward", "length", "--followups", "followups.yaml"], "field '--followups': not used by 'length'"),
        (["--reward", "longest"], "field 'reward': no reward 'longest'"),
        (["--reward", "model:x"], "field 'reward': 'model' compares two responses (allowed: follow_up,"),
        (["--reward", "length", "--model", "x"], "field '--model': nothing here uses x"),
        (
            ["--model", "followup=x"],
            "field '--model': nothing here uses a model called 'followup'; did you mean follow_up?",
        ),
        ([], "field '--model': this needs a model called 'follow_up'"),
    ],
)
def test_options_that_a_reward_does_not_have(options: Sequence[str], expected: str, uptake: Cli) -> None:
    write_jsonl(Path("in.jsonl"), answered_records(2))
    assert uptake.fails("score", "in.jsonl", "--out", "out.jsonl", *options).startswith(expected)


def test_mine_and_eval_by_a_token_reward_model(uptake: Cli, model: Path, tmp_path: Path) -> None:
    """The better side of a mined pair has the higher sum by hand, and wins are counted by the sums."""
    folder = write_token_llama(tmp_path / "rewards")
    write_jsonl(Path("prompts.jsonl"), prompt_records(6))
    looser = ["keep_unfinished=true", "n=3", "max_new_tokens=6", "temperature=1", "top_p=1", "max_length_ratio=100"]
    judge = ["--reward", "token-reward", "--reward-set", f"path={folder}"]
    uptake(
        "mine", "prompts.jsonl", "--policy", model, *judge, "--out", "pairs.jsonl", *[f"--set={it}" for it in looser]
    )
    mined = read_jsonl(Path("pairs.jsonl"))
    assert len(mined) > 2
    for pair in mined:
        prompt, *sides = (pair["token_ids"][name] for name in ("prompt", "chosen", "rejected"))
        chosen, rejected = (sum(by_ids(folder, prompt, ids)) for ids in sides)
        assert pair["margin"] == pytest.approx(chosen - rejected, abs=1e-4)
        assert chosen > rejected
    sampling = ["--temperature", 1, "--top-p", 1, "--max-new-tokens", 6, "--out", "run"]
    judge = ["--judge", "token_reward", "--judge-set", f"path={folder}", "--judge-set", "aggregate=mean"]
    other = saved(tiny_llama(1), tmp_path / "other")
    uptake("eval", "prompts.jsonl", "--policy", other, "--against", model, *judge, *sampling)
    seen = 0
    for sample in read_jsonl(Path("run/samples.jsonl")):
        prompt = [Turn(each["role"], each["content"]) for each in sample["prompt"]]
        both = [sample[side]["response"] for side in ("before", "after")]
        if all(both) and both[0] != both[1]:
            before, after = (by_hand(folder, (*prompt, Turn("assistant", text))) for text in both)
            wins = sum(after) / len(after) > sum(before) / len(before)
            assert sample["winner"] == ("after" if wins else "before")
            seen += 1
    assert seen > 2
