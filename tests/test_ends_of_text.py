"""Every token that a model or its template ends a text with ends a response, in every engine, and no other token does.

Transformers' own `generate` is the other road: it stops at all ends of the generation configuration.
"""

import json
import logging
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from tiny import pair_records, prompt_records, read_jsonl, saved, tiny_llama, tiny_tokenizer, tiny_world
from tiny import write_jsonl as write
from tiny_cli import Cli
from tiny_model_server import ModelServer
from transformers import AutoModelForCausalLM, AutoTokenizer, GenerationConfig, PreTrainedTokenizerFast

from uptake import methods
from uptake.data import ChatFormat, read
from uptake.data.token_views import locate
from uptake.edits.edit import Draft
from uptake.edits.model import ModelEditor
from uptake.edits.prompt import AGAIN
from uptake.errors import InputError
from uptake.examples.preferences import PreferenceRows
from uptake.models import LanguageModel, load, save_model
from uptake.rollout import PolicySamples
from uptake.rollout.server import ServerSamples
from uptake.rollout.vllm import VLLMSamples
from uptake.sampling import PromptIds, Sampling, sample
from uptake.tasks.check import check
from uptake.train import run
from uptake.types import Prompt, Turn
from uptake.world import World

STOP = "<stop>"
PLAIN: dict[str, Any] = {"temperature": 1.0, "top_p": 1.0, "max_new_tokens": 30}
ASKED = Prompt((Turn("user", "when does it open ?"),), "key")


def ending_twice(attention: str = "tree", *, more: Sequence[str] = ()) -> LanguageModel:
    """A model whose next token is a word or one of two ends whatever was said; its tokenizer knows one of the ends."""
    made: Any = tiny_tokenizer()
    made.add_special_tokens({"additional_special_tokens": [STOP, *more]}, replace_extra_special_tokens=False)
    lm = tiny_llama(tokenizer=made, tie_word_embeddings=False, max_position_embeddings=512)
    with torch.no_grad():
        for layer in lm.base.model.layers:
            layer.self_attn.o_proj.weight.zero_()
            layer.mlp.down_proj.weight.zero_()
        lm.base.model.embed_tokens.weight.fill_(1.0)
        lm.head.weight.zero_()  # type: ignore[operator]
        for token, logit in (("<end>", 1.0), (STOP, 2.0), ("bakery", 3.0), ("bread", 3.0)):
            lm.head.weight[made.convert_tokens_to_ids(token)] = logit / lm.config.hidden_size  # type: ignore[index]
        lm.head.weight[[index for index in range(len(made)) if not lm.head.weight[index].any()]] = -1.0  # type: ignore[index, operator]
    lm.base.generation_config.eos_token_id = ends_of(made)
    return replace(lm, attention=attention)  # type: ignore[arg-type]


def ends_of(tokenizer: PreTrainedTokenizerFast) -> list[int]:
    return [tokenizer.convert_tokens_to_ids(token) for token in ("<end>", STOP)]


def by_config_alone(lm: LanguageModel) -> LanguageModel:
    """The second end stands in the model's configuration, not in that of generation."""
    lm.base.generation_config.eos_token_id = lm.tokenizer.eos_token_id
    lm.base.config.eos_token_id = ends_of(lm.tokenizer)
    return lm


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return saved(ending_twice(), tmp_path / "model")


# --- sampling ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("attention", ["tree", "rows"])
@pytest.mark.parametrize("named_by", ["generation_config", "config"])
def test_a_response_ends_at_every_end_as_in_generate(attention: str, named_by: str) -> None:
    lm = ending_twice(attention)
    lm = lm if named_by == "generation_config" else by_config_alone(lm)
    ends, chat = ends_of(lm.tokenizer), ChatFormat.of(lm)
    assert chat.end_ids == {*ends}
    found = PolicySamples(n=200, **PLAIN).of(lm, [ASKED], chat, seed=0, version=0)
    for one in found:
        assert not {*ends} & {*one.response_ids[:-1]}
        assert one.finished == (one.response_ids[-1] in ends)
        assert STOP not in one.response
        assert len(one.logps) == len(one.response_ids)
    torch.manual_seed(0)
    asked = torch.tensor([chat.prompt_ids(ASKED.turns)])
    told: Any = lm.base
    rows = told.generate(
        input_ids=asked, do_sample=True, num_return_sequences=400, max_new_tokens=30, eos_token_id=ends
    )
    theirs = [next((token for token in row if token in ends), None) for row in rows[:, asked.shape[1] :].tolist()]
    ours = [one.response_ids[-1] if one.finished else None for one in found]
    for end in ends:  # e : e^2 among the ends, whose share is the same in both
        assert ours.count(end) / 200 == pytest.approx(theirs.count(end) / 400, abs=0.12)
        assert ours.count(end) > 20


def test_the_end_that_was_sampled_stays_with_its_own_probability() -> None:
    lm = ending_twice()
    (one, *_) = [
        one
        for one in PolicySamples(n=40, **PLAIN).of(lm, [ASKED], ChatFormat.of(lm), seed=1, version=0)
        if one.response_ids[-1] == ends_of(lm.tokenizer)[1]
    ]
    with torch.no_grad():
        logits = lm.base(input_ids=torch.tensor([[*one.prompt_ids, *one.response_ids]])).logits[0].log_softmax(-1)
    place = len(one.prompt_ids) - 1
    expected = [float(logits[place + index, token]) for index, token in enumerate(one.response_ids)]
    assert one.logps == pytest.approx(expected, abs=1e-5)


def test_a_model_in_a_folder_brings_its_ends(folder: Path) -> None:
    lm = load(folder, device="cpu")
    assert lm.end_ids == ChatFormat.of(lm).end_ids == {*ends_of(lm.tokenizer)}
    # A folder without a generation configuration has the one of its configuration.
    (folder / "generation_config.json").unlink()
    assert load(folder, device="cpu").end_ids == {lm.tokenizer.eos_token_id}
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "eos_token_id": ends_of(lm.tokenizer)}))
    assert load(folder, device="cpu").end_ids == {*ends_of(lm.tokenizer)}


def test_mined_answers_end_at_every_end(uptake: Cli, folder: Path) -> None:
    """And training meets the ends that were sampled, as ends."""
    write(uptake.folder / "prompts.jsonl", prompt_records(6))
    judge = saved(tiny_llama(seed=1), uptake.folder / "judge")
    options = ("--set=followups=followups.yaml", "--set=n=6", "--set=max_new_tokens=30", "--set=temperature=1")
    out = ("--model", f"follow_up={judge}", "--out", "pairs.jsonl")
    printed = uptake("mine", "prompts.jsonl", "--policy", folder, *out, *options, "--set=top_p=1")
    rows = read_jsonl(uptake.folder / "pairs.jsonl")
    lm = load(folder, device="cpu")
    ends = {*ends_of(lm.tokenizer)}
    said = [row["token_ids"][side] for row in rows for side in ("chosen", "rejected")]
    assert "mined" in printed
    assert {ids[-1] for ids in said} == ends
    assert not any(ends & {*ids[:-1]} for ids in said)
    world = World(lm, ChatFormat.of(lm), read(uptake.folder / "pairs.jsonl"), folder=uptake.folder / "run")
    learned = [(list(pair.chosen_ids), list(pair.rejected_ids)) for pair in PreferenceRows()(world, 0).examples]
    assert [ids for pair in learned for ids in pair] == said
    facts = dict(check(methods.build("dpo", {"batch_size": 2}), world).facts)
    assert facts["stop token"] == "trained: every response ends with '<end>' or '<stop>'"


def test_an_editor_stops_at_every_end() -> None:
    lm = ending_twice()
    with torch.no_grad():
        lm.head.weight[ends_of(lm.tokenizer)[1]] = 5.0  # type: ignore[index]
    editor = ModelEditor.from_pretrained(lm)
    (one,) = editor([Draft(ASKED, "it does .")])
    asked = len(editor.chat.prompt_ids((Turn("user", editor.prompt(Draft(ASKED, "it does ."))),)))
    again = len(editor.chat.prompt_ids((Turn("user", AGAIN + "it does ."),)))
    assert one.tokens == asked + 1 + again + 1 + 1  # asked twice, since the first answer has no edit; then after "it"


# --- engines over the network -----------------------------------------------------------------------------------------


def test_servers_are_told_every_end(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    lm = load(folder, device="cpu")
    world = tiny_world(tmp_path / "run", prompt_records(4), lm)
    ends = ends_of(lm.tokenizer)
    with ModelServer(load(folder, device="cpu")) as server:
        for engine in (
            VLLMSamples(url=server.url, n=8, **PLAIN),
            ServerSamples(url=server.url, model="m", n=8, **PLAIN),
        ):
            found = [rollout for group in engine(world, world.rows, 0, 0) for rollout in group]
            assert {one.response_ids[-1] for one in found if one.finished} == {*ends}
            assert not any({*ends} & {*one.response_ids[:-1]} for one in found)
    asked = [request for request in server.requests if request.get("stop_token_ids")]
    assert len(asked) == 2 * 4 * 8 + 1  # one to compare the engine with the policy
    assert all(request["stop_token_ids"] == ends and request["ignore_eos"] for request in asked)


def test_an_answer_in_words_ends_as_the_template_ends_it(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    lm = load(folder, device="cpu")
    world = tiny_world(tmp_path / "run", prompt_records(4), lm)
    with ModelServer(load(folder, device="cpu"), ids=False) as server:
        groups = ServerSamples(url=server.url, model="m", exchange="text", n=8, **PLAIN)(world, world.rows, 0, 0)
    found = [rollout for group in groups for rollout in group]
    assert {one.response_ids[-1] for one in found if one.finished} == {lm.tokenizer.eos_token_id}


# --- what is no end ---------------------------------------------------------------------------------------------------


def template(end: str) -> str:
    return "{% for m in messages %}{{ '<' + m['role'] + '>' + m['content'] + '" + end + "' }}{% endfor %}<assistant>"


@pytest.mark.parametrize("special", [False, True])
def test_a_blank_that_was_added_ends_no_turn(special: bool) -> None:
    made: Any = tiny_tokenizer()
    made.add_tokens(["~"], special_tokens=special)  # no blank: what makes it an end is that it is special
    chat = ChatFormat.of(made, template("~<end>"))
    assert chat.closing == ("~" if special else "~<end>")
    made = tiny_tokenizer()
    made.add_tokens(["\n\n"], special_tokens=special)
    chat = ChatFormat.of(made, template("\\n\\n<end>"))
    assert chat.closing == "\n\n<end>"
    assert chat.end_ids == {made.eos_token_id}
    _, ids = chat.response_ids(ASKED.turns, "at eight")
    assert made.convert_ids_to_tokens(list(ids)) == ["at", "eight", "\n\n", "<end>"]


def test_what_is_text_to_the_tokenizer_is_no_end(caplog: pytest.LogCaptureFixture) -> None:
    """Token 2 ends a Llama's text unless its maker says otherwise, and may be a word."""
    lm = tiny_llama()
    word = lm.tokenizer.convert_tokens_to_ids("bakery")
    lm.base.generation_config.eos_token_id = [lm.tokenizer.eos_token_id, word, 5000]
    lm = replace(lm, name="homemade")
    with caplog.at_level(logging.WARNING):
        chats = [ChatFormat.of(lm) for _ in range(3)]
    assert [chat.end_ids for chat in chats] == [{lm.tokenizer.eos_token_id}] * 3
    (line,) = caplog.messages
    assert line.startswith("homemade: its configuration ends a text with 'bakery', no special token of its tokenizer")


def test_a_format_that_does_not_know_every_end_is_refused() -> None:
    lm = ending_twice()
    unaware = ChatFormat.of(lm.tokenizer)
    message = r"field 'chat': tiny-0 ends a text with '<stop>' too, .* ChatFormat.of\(model\)"
    with pytest.raises(InputError, match=message):
        World(lm, unaware)
    with pytest.raises(InputError, match=message):
        PolicySamples().of(lm, [ASKED], unaware, seed=0, version=0)


# --- what is trained and saved ----------------------------------------------------------------------------------------


def test_the_template_says_what_is_trained(tmp_path: Path) -> None:
    lm = ending_twice()
    facts = dict(check(methods.build("dpo", {"batch_size": 2}), tiny_world(tmp_path, pair_records(4), lm)).facts)
    assert facts["stop token"] == "trained: every response ends with '<end>'"
    chat, plain = ChatFormat.of(lm), ChatFormat.of(lm.tokenizer)
    assert (chat.closing, chat.fingerprint) == (plain.closing, plain.fingerprint)
    assert chat.response_ids(ASKED.turns, "at eight") == plain.response_ids(ASKED.turns, "at eight")
    assert chat.response_ids(ASKED.turns, "at eight")[1][-1] == lm.tokenizer.eos_token_id


def test_every_end_is_drawn_as_the_end_of_a_response() -> None:
    lm = ending_twice()
    for end in ends_of(lm.tokenizer):
        text, tokens = locate(ChatFormat.of(lm), (*lm.tokenizer.convert_tokens_to_ids(["at", "eight"]), end))
        assert text == "at eight"
        assert [(token.start, token.end, bool(token.special)) for token in tokens] == [
            (0, 2, False),
            (2, 8, False),
            (8, 8, True),
        ]


def test_a_trained_model_names_all_ends(tmp_path: Path) -> None:
    """Those of the model first, in their order; then the one of a template that the model did not know."""
    lm = ending_twice(more=["<turn>"])
    made: Any = lm.tokenizer
    made.chat_template = made.chat_template.replace("<end>", "<turn>")
    end, stop = ends_of(made)
    lm.base.generation_config.eos_token_id = [stop, end]
    world = tiny_world(tmp_path / "run", pair_records(4), lm)
    run(methods.build("dpo", {"batch_size": 2, "warmup": 0}), world)
    turn = made.convert_tokens_to_ids("<turn>")
    found = GenerationConfig.from_pretrained(tmp_path / "run" / "model").eos_token_id
    assert found == [stop, end, turn]
    assert load(tmp_path / "run" / "model", device="cpu").end_ids == {*found}
    # Transformers now stops there too.
    model: Any = AutoModelForCausalLM.from_pretrained(tmp_path / "run" / "model")
    with torch.no_grad():
        model.lm_head.weight[turn] = 50.0
    asked = torch.tensor([AutoTokenizer.from_pretrained(tmp_path / "run" / "model")("when").input_ids])
    assert model.generate(asked, do_sample=False, max_new_tokens=9)[0, asked.shape[1] :].tolist() == [turn]


def test_one_end_is_saved_as_it_was(tmp_path: Path) -> None:
    lm = tiny_llama()
    save_model(lm, "{{ messages }}", tmp_path / "model")
    assert GenerationConfig.from_pretrained(tmp_path / "model").eos_token_id == lm.tokenizer.eos_token_id


def test_a_generation_configuration_that_transformers_finds_fault_with(tmp_path: Path) -> None:
    """As published ones have: a temperature, and no sampling. It is written as it was read, with the further ends."""
    folder = saved(ending_twice(), tmp_path / "base")
    config = json.loads((folder / "generation_config.json").read_text())
    odd = {**config, "temperature": 0.6, "do_sample": False, "eos_token_id": None}
    (folder / "generation_config.json").write_text(json.dumps(odd))
    lm = load(folder, device="cpu")
    save_model(lm, "{{ messages }}", tmp_path / "model", end_ids={2, 7})
    kept = json.loads((tmp_path / "model" / "generation_config.json").read_text())
    assert (kept["temperature"], kept["eos_token_id"]) == (0.6, sorted({lm.tokenizer.eos_token_id, 2, 7}))


def test_ids_alone_end_where_the_caller_says() -> None:
    lm = ending_twice()
    asked = [PromptIds(ASKED, ChatFormat.of(lm).prompt_ids(ASKED.turns))]
    end, stop = ends_of(lm.tokenizer)
    sampled = sample(lm, asked, Sampling(n=40, seed=1, **PLAIN), [stop])
    assert any(end in one.response_ids[:-1] for one in sampled)
