"""The sampling engine against Transformers' own generation, and against the one scorer."""

import json
import logging
from dataclasses import replace
from functools import cache
from pathlib import Path

import pytest
import torch
from tiny import prompt_records, tiny_llama, tiny_world
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import (
    AutoModelForCausalLM,
    Gemma2Config,
    GPT2Config,
    LlamaConfig,
    MambaConfig,
    MistralConfig,
    PreTrainedConfig,
    PreTrainedTokenizerFast,
    Qwen2Config,
    RecurrentGemmaConfig,
)

from uptake import methods
from uptake.data.chat import ChatFormat
from uptake.errors import InputError, ModelError
from uptake.models import LanguageModel, branches, pack, prepare, token_logps
from uptake.models.language_model import Limits
from uptake.rollout import PolicySamples
from uptake.sampling import PromptIds, Sampling, sample, stream
from uptake.support.keys import prompt_key
from uptake.train.rounds import sample_round
from uptake.train.run_folder import RunLog
from uptake.types import Answered, Prompt, Rollout, Turn, Where
from uptake.world import World

VOCABULARY = 97
ENDS = frozenset({1, 7, 8})
PLAIN = {"temperature": 1.0, "top_p": 1.0}
SHAPE = {
    "vocab_size": VOCABULARY,
    "hidden_size": 32,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "intermediate_size": 48,
    "max_position_embeddings": 64,
    "initializer_range": 0.15,
    "bos_token_id": 0,
    "eos_token_id": 1,
    "pad_token_id": 0,
}
SMALL = {key: SHAPE[key] for key in ("vocab_size", "initializer_range", "bos_token_id", "eos_token_id", "pad_token_id")}
CONFIGS: dict[str, PreTrainedConfig] = {
    "llama": LlamaConfig(**SHAPE),
    "gemma2": Gemma2Config(
        **SHAPE,
        head_dim=8,
        sliding_window=6,
        query_pre_attn_scalar=8,
        attn_logit_softcapping=2.0,
        final_logit_softcapping=5.0,
    ),
    "mistral": MistralConfig(**SHAPE, sliding_window=7),
    "qwen2": Qwen2Config(**SHAPE),
    "gpt2": GPT2Config(**SMALL, n_embd=32, n_layer=3, n_head=4, n_positions=64),
    "mamba": MambaConfig(**SMALL, hidden_size=32, num_hidden_layers=2, state_size=4),
}
# Gives no cache out, so every token reads the whole sequence again.
CACHELESS = RecurrentGemmaConfig(
    **{**SHAPE, "num_key_value_heads": 1}, lru_width=32, attention_window_size=8, block_types=("recurrent", "attention")
)


@cache
def tokenizer(size: int = VOCABULARY) -> PreTrainedTokenizerFast:
    words = models.WordLevel({f"t{index}": index for index in range(size)}, unk_token="t0")
    made = PreTrainedTokenizerFast(tokenizer_object=Tokenizer(words), eos_token="t1")
    return made


def build(config: PreTrainedConfig) -> LanguageModel:
    torch.manual_seed(0)
    return prepare(AutoModelForCausalLM.from_config(config), tokenizer(), config.model_type)


@cache
def model(name: str) -> LanguageModel:
    return build(CACHELESS if name == "cacheless" else CONFIGS[name])


def prompt_of(ids: tuple[int, ...], where: Where | None = None) -> PromptIds:
    turns = (Turn("user", " ".join(map(str, ids))),)
    return PromptIds(Prompt(turns, prompt_key(turns), where), ids)


def prompts(*lengths: int) -> list[PromptIds]:
    generator = torch.Generator().manual_seed(1)
    drawn = [torch.randint(2, VOCABULARY, (length,), generator=generator).tolist() for length in lengths]
    return [prompt_of(tuple(ids)) for ids in drawn]


def within(lm: LanguageModel, tokens: int) -> LanguageModel:
    """The model with room for the keys and values of so many tokens."""
    return replace(lm, limits=Limits(cache=tokens))


def by_sample(rollouts: list[Rollout]) -> dict[tuple[str, int], tuple[int, ...]]:
    return {(one.prompt.key, one.sample): one.response_ids for one in rollouts}


@pytest.mark.parametrize("name", CONFIGS)
def test_greedy_is_generate(name: str) -> None:
    asked = prompts(5, 1, 17, 9, 9, 30)
    plain = AutoModelForCausalLM.from_config(CONFIGS[name])
    plain.load_state_dict(model(name).base.state_dict())
    plain.eval()
    expected = []
    for prompt in asked:
        ids = torch.tensor([prompt.ids])
        options = {"do_sample": False, "max_new_tokens": 20, "pad_token_id": 0, "eos_token_id": sorted(ENDS)}
        out = plain.generate(ids, attention_mask=torch.ones_like(ids), **options)
        expected.append(tuple(out[0, len(prompt.ids) :].tolist()))
    found = sample(within(model(name), 220), asked, Sampling(n=2, temperature=0, max_new_tokens=20), ENDS)
    assert [one.response_ids for one in found[::2]] == expected
    assert [one.response_ids for one in found[1::2]] == expected
    assert model(name).attention == ("rows" if name == "mamba" else "tree")


@pytest.mark.parametrize("temperature", [0.0, 1.0])
@pytest.mark.parametrize("name", [*CONFIGS, "cacheless"])
def test_log_probabilities_are_the_scorers(name: str, temperature: float) -> None:
    lm = model(name)
    sampling = Sampling(n=3, temperature=temperature, top_p=1.0, max_new_tokens=20)
    for one in sample(lm, prompts(5, 1, 17, 9), sampling, ENDS):
        with torch.no_grad():
            expected = token_logps(lm, pack([branches(one.prompt_ids, one.response_ids)]))
        torch.testing.assert_close(torch.tensor(one.logps), expected, atol=1e-5, rtol=0)


@pytest.mark.parametrize("name", ["llama", "gemma2", "mistral", "mamba"])
def test_samples_depend_on_seed_key_and_number_alone(name: str) -> None:
    lm, asked, sampling = model(name), prompts(5, 1, 17, 9, 9, 12), Sampling(n=3, max_new_tokens=16)
    together = sample(lm, asked, sampling, ENDS)
    assert sample(lm, asked, sampling, ENDS) == together
    assert by_sample(sample(within(lm, 120), asked[::-1], sampling, ENDS)) == by_sample(together)
    assert by_sample(sample(within(lm, 1), asked[2:4], sampling, ENDS)).items() <= by_sample(together).items()
    assert [one.response_ids for one in sample(lm, asked, Sampling(n=3, max_new_tokens=16, seed=1), ENDS)] != [
        one.response_ids for one in together
    ]


def test_samples_of_a_prompt_differ_and_come_in_order() -> None:
    asked = prompts(9, 3, 9)
    found = sample(model("llama"), asked, Sampling(n=6, max_new_tokens=12, **PLAIN), ENDS, version=4)
    assert [(one.prompt.key, one.sample) for one in found] == [(one.prompt.key, i) for one in asked for i in range(6)]
    assert {(one.prompt_ids, one.version, one.source) for one in found} == {(one.ids, 4, "policy") for one in asked}
    assert len({one.response_ids for one in found}) == len(found)


@pytest.mark.parametrize("name", ["llama", "mistral", "mamba", "cacheless"])
def test_end_tokens_cut_what_would_have_been_said(name: str) -> None:
    """Without end tokens the same random numbers say the same, and more."""
    lm, asked, ends = model(name), prompts(6, 11, 6), frozenset(range(1, 12))
    sampling = Sampling(n=8, max_new_tokens=15, **PLAIN)
    cut, whole = (sample(lm, asked, sampling, some) for some in (ends, ()))
    for short, long in zip(cut, whole, strict=True):
        first = next((place for place, token in enumerate(long.response_ids) if token in ends), None)
        expected = long.response_ids if first is None else long.response_ids[: first + 1]
        assert short.response_ids == expected
        assert short.finished == (first is not None)
        assert not long.finished
        assert short.response == " ".join(f"t{token}" for token in expected if token not in ends)
        assert len(short.logps) == len(short.response_ids)
    assert {one.finished for one in cut} == {True, False}


def test_prompts_are_computed_once_and_finished_samples_cost_nothing() -> None:
    lm, asked = model("llama"), prompts(6, 11, 6, 20)
    seen = []
    hook = lm.decoder.get_input_embeddings().register_forward_hook(lambda _, ids, __: seen.append(ids[0].numel()))
    found = sample(within(lm, 400), asked, Sampling(n=8, max_new_tokens=15, **PLAIN), range(1, 12))
    hook.remove()
    assert sum(seen) == sum(len(one.ids) for one in asked) + sum(len(one.response_ids) - 1 for one in found)


def test_prompts_are_given_out_as_they_are_done() -> None:
    asked, sampling = prompts(6, 11, 6, 20), Sampling(n=4, max_new_tokens=12, **PLAIN)
    lm = within(model("llama"), 130)
    whole = sample(lm, asked, sampling, ENDS)
    given = list(stream(lm, asked, sampling, ENDS))
    assert len(given) == 4
    assert given[0][0] == 3  # the longest prompt enters first, alone
    assert [one for _, rollouts in sorted(given, key=lambda pair: pair[0]) for one in rollouts] == whole
    assert sample(lm, [], sampling, ENDS) == []


def test_the_window_ends_an_answer_unfinished() -> None:
    [one] = sample(model("gpt2"), prompts(60), Sampling(n=1, max_new_tokens=20), ())
    assert (len(one.response_ids), one.finished) == (4, False)
    where = Where(Path("chats.jsonl"), 17)
    with pytest.raises(InputError, match=r"chats.jsonl:17: prompt .* has 64 tokens .*window"):
        sample(model("gpt2"), [prompt_of((5,) * 64, where)], Sampling(n=1), ())
    with pytest.raises(InputError, match="has 0 tokens"):
        sample(model("gpt2"), [prompt_of(())], Sampling(n=1), ())


@pytest.mark.parametrize("temperature", [0.0, 1.0])
def test_not_a_number_names_the_prompt(temperature: float) -> None:
    lm = build(CONFIGS["llama"])
    [prompt] = prompts(5)
    with torch.no_grad():
        lm.head.weight[3] = torch.nan
    with pytest.raises(ModelError, match=f"llama: not-a-number .* prompt {prompt.prompt.key}"):
        sample(lm, [prompt], Sampling(n=2, temperature=temperature), ENDS)


def chatty() -> tuple[LanguageModel, ChatFormat]:
    """A random model over bytes with the plain chat template."""
    letters = {letter: index for index, letter in enumerate(sorted(pre_tokenizers.ByteLevel.alphabet()))}
    inner = Tokenizer(models.BPE({**letters, "</s>": len(letters)}, []))
    inner.pre_tokenizer, inner.decoder = pre_tokenizers.ByteLevel(add_prefix_space=False), decoders.ByteLevel()
    made = PreTrainedTokenizerFast(tokenizer_object=inner, eos_token="</s>")
    torch.manual_seed(0)
    shape = {**SHAPE, "vocab_size": len(letters) + 1, "max_position_embeddings": 128}
    lm = prepare(AutoModelForCausalLM.from_config(LlamaConfig(**shape)), made, "bytes")
    return lm, ChatFormat.of(made)


def test_policy_samples_answer_conversations(caplog: pytest.LogCaptureFixture) -> None:
    lm, chat = chatty()
    turns = (Turn("user", "When?"), Turn("assistant", "At eight, as every day."), Turn("user", "Sure?"))
    short, long = (Prompt(some, prompt_key(some)) for some in (turns[2:], turns))
    policy = PolicySamples(n=2, max_new_tokens=5)
    found = policy.of(lm, [short, long], chat, seed=3, version=1)
    assert [one.prompt_ids for one in found[::2]] == [chat.prompt_ids(one.turns) for one in (short, long)]
    assert found[2].prompt == long
    asked = [PromptIds(one, chat.prompt_ids(one.turns)) for one in (short, long)]
    assert found == sample(lm, asked, Sampling(n=2, max_new_tokens=5, seed=3), chat.end_ids, version=1)
    assert not caplog.records
    with caplog.at_level(logging.WARNING):
        cut = PolicySamples(n=2, max_new_tokens=5, max_prompt_tokens=30).of(lm, [short, long], chat, seed=3, version=1)
    assert cut[2].prompt_ids == cut[0].prompt_ids == found[0].prompt_ids
    assert "1 of 2 prompts" in caplog.text
    with pytest.raises(InputError, match="window"):
        policy.of(lm, [Prompt((Turn("user", "a" * 200),), "key")], chat, seed=3, version=1)
    with pytest.raises(ModelError, match="end-of-turn"):
        policy.of(lm, [short], replace(chat, end_ids=frozenset()), seed=3, version=1)


def test_groups_that_are_streamed_are_those_of_a_call() -> None:
    """Each with the number of its row, in whatever order they end: tokens belong to seed, prompt and sample."""
    policy, lm = PolicySamples(n=3, temperature=1.0, max_new_tokens=12), tiny_llama()
    world = tiny_world(Path("unused"), prompt_records(40), lm)
    streamed = list(policy.stream(world, world.rows, 2, 5))
    assert sorted(number for number, _ in streamed) == list(range(40))
    assert [number for number, _ in streamed] != list(range(40))
    found = dict(streamed)
    chunks = [policy(world, world.rows[start : start + 7], 2, 5) for start in range(0, 40, 7)]
    for number, group in enumerate(group for chunk in chunks for group in chunk):
        assert [each.response_ids for each in found[number]] == [each.response_ids for each in group]
        assert [each.version for each in found[number]] == [5] * 3


def test_a_round_that_was_killed_ends_with_the_same_bits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Pools that are in the journal stay, and the rest are those of an undisturbed round, log-probabilities too."""
    monkeypatch.setattr("uptake.rollout.policy.TOGETHER", 8)
    recipe = methods.build("flr", {"n": 2, "max_new_tokens": 6, "keep_unfinished": True})
    (stage,), rows = recipe.stages, prompt_records(11)
    (tmp_path / "whole").mkdir()
    (tmp_path / "cut").mkdir()
    whole = sample_round(stage, tiny_world(tmp_path, rows), RunLog(tmp_path / "whole", 0), (0, 0), 0)
    lines = (tmp_path / "whole/rounds/0-0/sampled.jsonl").read_text().splitlines(keepends=True)
    assert [len(json.loads(line)["pool"]) for line in lines] == [4, 4, 3]
    cut = tmp_path / "cut/rounds/0-0/sampled.jsonl"
    cut.parent.mkdir(parents=True)
    cut.write_text(lines[0] + lines[1][:50])
    again = sample_round(stage, tiny_world(tmp_path, rows), RunLog(tmp_path / "cut", 0), (0, 0), 0)
    assert again == whole
    assert cut.read_text() == "".join(lines)


def test_every_round_of_a_recipe_draws_anew() -> None:
    lm, chat = chatty()
    prompt = Prompt((Turn("user", "Sure?"),), "key")
    policy, rows = PolicySamples(n=2, max_new_tokens=5), [prompt, Answered(prompt, "Yes.")]
    first, again, second, other = (
        policy(World(lm, chat, seed=seed), rows, round_, version=6) for seed, round_ in ((0, 0), (0, 0), (0, 1), (1, 0))
    )
    assert first == again
    assert {one.version for group in first for one in group} == {6}
    assert [[(one.prompt, one.sample) for one in group] for group in first] == [[(prompt, 0), (prompt, 1)]] * 2
    assert len({one.response_ids for group in (*first, *second, *other) for one in group}) == 6


def test_policy_options_are_checked() -> None:
    with pytest.raises(InputError, match="top_p"):
        PolicySamples(top_p=0)
    with pytest.raises(InputError, match="max_prompt_tokens"):
        PolicySamples(max_prompt_tokens=0)
