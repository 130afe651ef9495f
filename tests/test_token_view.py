"""Which characters a token stands for, and what a run keeps of responses with numbers for their tokens."""

from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from tiny import prompt_records, read_jsonl, tiny_tokenizer, tiny_world
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from uptake import methods
from uptake.data import ChatFormat, Token, TokenView, rollout_view, token_view
from uptake.data.token_views import join, locate
from uptake.methods import fine_grained_ppo
from uptake.rewards.function import FromFunction, Rewards
from uptake.support.keys import prompt_key
from uptake.train.loop import Options, run
from uptake.train.run_folder import RunLog
from uptake.types import Prompt, Rollout, Turn
from uptake.world import World

ASKED = (Turn("user", "When?"),)
END, TOOL = 256, 257


@cache
def bytes_chat() -> ChatFormat:
    """One token per byte of UTF-8, and two special ones."""
    vocabulary = {letter: index for index, letter in enumerate(sorted(pre_tokenizers.ByteLevel.alphabet()))}
    tokenizer = Tokenizer(models.BPE({**vocabulary, "<end>": END, "<tool>": TOOL}, []))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    made = PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token="<end>", additional_special_tokens=["<tool>"])
    return ChatFormat.of(made)


def ids_of(text: str, chat: ChatFormat | None = None) -> list[int]:
    tokenizer = (chat or bytes_chat()).tokenizer
    return list(tokenizer(text, add_special_tokens=False)["input_ids"])


def places(ids: list[int]) -> list[tuple[int, int]]:
    return [(token.start, token.end) for token in locate(bytes_chat(), ids)[1]]


@pytest.mark.parametrize(
    "text", ["At eight.", "caf\u00e9", "e\u0301", "\U0001f600!", "\U0001f469\u200d\U0001f467", "\u65e5\u672c\n \t", ""]
)
def test_every_byte_of_a_character_has_its_place(text: str) -> None:
    by_hand = [(at, at + 1) for at, letter in enumerate(text) for _ in letter.encode()]
    assert locate(bytes_chat(), ids_of(text))[0] == text
    assert places(ids_of(text)) == by_hand


def test_special_tokens_stand_for_no_character() -> None:
    ids = [*ids_of("a"), TOOL, *ids_of("\u00e9"), END]
    text, tokens = locate(bytes_chat(), ids)
    assert text == "a\u00e9"
    assert tokens == (Token(0, 1), Token(1, 1, "<tool>"), Token(1, 2), Token(1, 2), Token(2, 2, "<end>"))


def test_bytes_that_are_no_character_share_a_place() -> None:
    cut, smile = ids_of("\U0001f600")[:3], ids_of("\U0001f600")
    assert places([*ids_of("a"), *cut]) == [(0, 1), *[(1, 2)] * 3]
    assert places([*cut, *ids_of("b"), *smile]) == [*[(0, 1)] * 3, (1, 2), *[(2, 3)] * 4]


def test_words_have_the_blank_before_them() -> None:
    chat = ChatFormat.of(tiny_tokenizer())
    text, tokens = locate(chat, ids_of("at eight .", chat))
    assert [text[token.start : token.end] for token in tokens] == ["at", " eight", "."]


@pytest.mark.parametrize(
    ("offsets", "expected"),
    [
        ([(0, 3), (3, 7), (7, 8)], [(0, 3), (3, 7), (7, 7)]),
        ([(0, 1), (1, 2), (1, 2), (1, 2)], [(0, 1), (1, 2), (1, 2), (1, 2)]),
        ([(0, 2), (1, 3), (3, 4)], [(0, 3), (0, 3), (3, 4)]),
        ([(0, 1), (1, 2), (0, 3)], [(0, 3), (0, 3), (0, 3)]),
        ([(0, 4), (4, 4), (4, 8)], [(0, 4), (4, 4), (7, 7)]),
    ],
)
def test_tokens_that_overlap_share_a_place(offsets: list[tuple[int, int]], expected: list[tuple[int, int]]) -> None:
    names = [f"<{at}>" for at in range(len(offsets))]
    found = join(offsets, names, 7)
    assert [(token.start, token.end) for token in found] == expected
    beyond = [at for at, (start, end) in enumerate(offsets) if end > 7 or start == end]
    assert [token.special for token in found] == [names[at] if at in beyond else "" for at in range(len(names))]
    TokenView(ASKED, "At nine", found)


@pytest.mark.parametrize(
    ("tokens", "numbers", "problem"),
    [
        ((Token(0, 2),), (1.0, 2.0), "2 numbers called 'reward' for 1 tokens"),
        ((Token(0, 4),), (1.0,), "a token from 0 to 4 after one to 0, in a response of 3 characters"),
        ((Token(0, 2), Token(1, 3)), (1.0, 2.0), "a token from 1 to 3 after one to 2"),
        ((Token(2, 1),), (1.0,), "a token from 2 to 1"),
    ],
)
def test_numbers_and_places_that_do_not_fit(
    tokens: tuple[Token, ...], numbers: tuple[float, ...], problem: str
) -> None:
    with pytest.raises(ValueError, match=problem):
        TokenView(ASKED, "No.", tokens, {"reward": numbers})


def test_a_run_keeps_views_once_and_forgets_those_after_its_snapshot(tmp_path: Path) -> None:
    chat = bytes_chat()
    first = token_view(chat, ASKED, [*ids_of("No"), END], {"reward": [0.5, -1, None]}, edited="Yes")
    prompt = Prompt(ASKED, prompt_key(ASKED))
    rollout = Rollout(prompt, (1,), (*ids_of("No"), END), "No", finished=True, version=3)
    log = RunLog(tmp_path, 0)
    assert not (tmp_path / "tokens.jsonl").exists()
    log.tokens(0, [first])
    log.tokens(0, [first])
    log.tokens(3, [rollout_view(chat, rollout, {"value": [0.25, 0.5, 1]}, "sample 0")])
    lines = read_jsonl(tmp_path / "tokens.jsonl")
    assert [(line["step"], line["values"]) for line in lines] == [
        (0, {"reward": [0.5, -1.0, None]}),
        (3, {"value": [0.25, 0.5, 1.0]}),
    ]
    assert lines[0]["tokens"][2] == {"start": 2, "end": 2, "special": "<end>"}
    RunLog(tmp_path, 2)
    assert read_jsonl(tmp_path / "tokens.jsonl") == lines[:1]


def rising(rollout: Rollout) -> Rewards:
    """A reward that tells every place of a response apart."""
    return Rewards(tokens=[(at + 1) / 8 for at in range(len(rollout.response_ids))])


def train(folder: Path, **options: Any) -> None:
    small = {"prompts": 4, "n": 2, "max_new_tokens": 5, "rounds": 3, "epochs": 1, "minibatches": 2}
    config: Any = methods.configure("fine_grained_ppo", {**small, "critic_warmup": 0, "lr": 1e-2})
    world = tiny_world(folder, prompt_records(8))
    run(fine_grained_ppo.build(config, FromFunction(rising)), world, Options(save_every=1, **options))


def test_a_run_with_a_critic_keeps_what_its_tokens_got(tmp_path: Path) -> None:
    train(tmp_path)
    lines = read_jsonl(tmp_path / "tokens.jsonl")
    assert [line["step"] for line in lines] == [0, 0, 2, 2, 4, 4]
    (chunk,) = read_jsonl(tmp_path / "rounds" / "0-1" / "judged.jsonl")
    sampled = {rollout["response"] for group in chunk["groups"] for rollout in group}
    for line in lines[2:4]:
        size = len(line["tokens"])
        assert line["response"] in sampled
        assert line["values"]["reward"] == [(at + 1) / 8 for at in range(size)]
        assert [len(line["values"][name]) for name in ("advantage", "value")] == [size, size]
    # Advantages are whitened over the round: they are no rewards, and differ from token to token.
    assert lines[2]["values"]["advantage"] != lines[2]["values"]["reward"]


def test_a_stopped_run_ends_with_the_same_views(tmp_path: Path) -> None:
    def stop(world: World, step: int) -> Mapping[str, Any]:
        if step == 3:
            raise KeyboardInterrupt
        return {}

    train(tmp_path / "whole")
    with pytest.raises(KeyboardInterrupt):
        train(tmp_path / "stopped", observe=stop, observe_every=1)
    assert len(read_jsonl(tmp_path / "stopped" / "tokens.jsonl")) == 4
    train(tmp_path / "stopped", resume=True)
    whole, stopped = ((tmp_path / name / "tokens.jsonl").read_bytes() for name in ("whole", "stopped"))
    assert stopped == whole
