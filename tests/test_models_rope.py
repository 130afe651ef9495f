"""Rotary types: a score is that of the plain model called on the row alone, whatever stands beside it."""

import copy
from collections.abc import Sequence
from dataclasses import replace
from functools import cache
from itertools import chain
from pathlib import Path
from typing import Any

import pytest
import torch
from tiny import read_jsonl, tiny_tokenizer, write_followups, write_jsonl
from tiny_cli import Cli
from tiny_models import path_ids, random_ids, ready, tiny
from torch import Tensor, nn
from transformers import AutoModelForSequenceClassification, PreTrainedModel

from uptake.data.chat import ChatFormat
from uptake.models import LanguageModel, Node, TokenTree, branches, check, load, pack, score_trees, token_logps
from uptake.models.heads import ScalarHead, read, token_values
from uptake.models.rope import RopeTables, apart
from uptake.models.scorer import by_table
from uptake.models.tree import Packed
from uptake.rewards.classifier import Classifier
from uptake.sampling import PromptIds, Sampling, sample
from uptake.types import Prompt, Turn

EXACT = {"atol": 1e-5, "rtol": 1e-5}
NEAR = {"atol": 1e-4, "rtol": 1e-4}
# Where a table ends in every model here that has more than one.
SWITCH = 64

Rope = dict[str, Any]
LONG = {"rope_type": "longrope", "short_factor": [1.0] * 4, "long_factor": [1.0, 2.0, 8.0, 16.0], "factor": 4.0}
TYPES: dict[str, tuple[str, Rope, dict[str, Any]]] = {
    "default": ("Llama", {"rope_type": "default"}, {}),
    "linear": ("Llama", {"rope_type": "linear", "factor": 4.0}, {}),
    "yarn": ("Llama", {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": SWITCH}, {}),
    "llama3": (
        "Llama",
        {
            "rope_type": "llama3",
            "factor": 4.0,
            "original_max_position_embeddings": SWITCH,
            "low_freq_factor": 1.0,
            "high_freq_factor": 4.0,
        },
        {},
    ),
    "dynamic": ("Llama", {"rope_type": "dynamic", "factor": 4.0}, {"max_position_embeddings": SWITCH}),
    "longrope": ("Llama", {**LONG, "original_max_position_embeddings": SWITCH}, {}),
    "Phi-3": ("Phi3", LONG, {"original_max_position_embeddings": SWITCH}),
    "Phi-3.5-MoE": (
        "Phimoe",
        {**LONG, "short_mscale": 1.2, "long_mscale": 1.5, "original_max_position_embeddings": SWITCH},
        {"sliding_window": None},
    ),
}
# Those whose numbers are one function of the position.
ONE_TABLE = ("default", "linear", "yarn", "llama3")
TABLES = [name for name in TYPES if name not in ONE_TABLE]


def model_of(name: str) -> PreTrainedModel:
    family, rope, changes = TYPES[name]
    return tiny(family, rope_parameters={"rope_theta": 10000.0, **rope}, **{"max_position_embeddings": 256, **changes})


shared = cache(model_of)


def unread(name: str) -> PreTrainedModel:
    """A model that no other row has moved: made for this one, but where there is one table and nothing to move."""
    return shared(name) if name in ONE_TABLE else model_of(name)


def row_logps(model: PreTrainedModel, tree: TokenTree, node: int) -> Tensor:
    """Log-probabilities of a node from the plain row that ends with it."""
    ids = path_ids(tree, node)
    rows = model(input_ids=torch.tensor([ids]), use_cache=False).logits[0].log_softmax(-1)[:-1]
    return rows.gather(1, torch.tensor(ids)[1:, None])[:, 0][-min(len(tree.nodes[node].ids), len(ids) - 1) :]


def plain(name: str, trees: Sequence[TokenTree]) -> list[list[Tensor]]:
    """Per tree and scored node, its log-probabilities from a model that has seen no other row."""
    return [
        [row_logps(unread(name), tree, index) for index, node in enumerate(tree.nodes) if node.scored] for tree in trees
    ]


def text(length: int, seed: int) -> TokenTree:
    """A prompt with a scored response of eight tokens, `length` tokens in all."""
    return branches(random_ids(length - 8, seed), random_ids(8, seed + 100))


def mixed() -> list[TokenTree]:
    """Rows short and long, ends on both sides of the switch and on it, nested, and unscored beyond."""
    stem = random_ids(60, 1)
    return [
        text(18, 2),
        text(120, 3),
        text(SWITCH, 4),
        text(SWITCH + 1, 5),
        TokenTree(
            (
                Node(stem, scored=False),
                Node(random_ids(30, 6), 0),
                Node(random_ids(3, 7), 0),
                Node(random_ids(4, 8), 2),
                Node(random_ids(1, 9), 0),
                Node(random_ids(5, 10), 1, scored=False),
                Node(random_ids(2, 11), 5),
            )
        ),
        TokenTree((Node(random_ids(20, 12)), Node(random_ids(90, 13), 0, scored=False))),
        *(branches((*stem, token), random_ids(size, 14 + size)) for token in (1, 2) for size in (2, 3, 4, 20)),
    ]


@pytest.fixture(params=[(name, attention) for name in TYPES for attention in ("tree", "rows")], ids="-".join)
def kind(request: pytest.FixtureRequest) -> tuple[str, LanguageModel]:
    """A rope type, and a model of it in trees or in padded rows."""
    name, attention = request.param
    return name, prepared(name, attention)


def prepared(name: str, attention: str = "tree") -> LanguageModel:
    lm = ready(model_of(name))
    assert lm.attention == "tree"
    if attention == "tree":
        return lm
    lm.base.set_attn_implementation("sdpa")
    return replace(lm, attention="rows")


@torch.no_grad()
def test_a_score_is_that_of_the_row_alone(kind: tuple[str, LanguageModel]) -> None:
    name, lm = kind
    trees = mixed()
    expected = plain(name, trees)
    for budget in (1, 300, 10_000):
        for found, right in zip(score_trees(lm, trees, budget), expected, strict=True):
            torch.testing.assert_close(torch.cat(found), torch.cat(right), **EXACT)
    for tree, right in zip(trees, expected, strict=True):
        for lean in (False, True):
            torch.testing.assert_close(token_logps(lm, pack([tree], lean=lean)), torch.cat(right), **EXACT)


@pytest.mark.parametrize("name", TABLES)
@torch.no_grad()
def test_the_plain_model_itself_moves_beside_a_long_row(name: str) -> None:
    """Else the test above could not fail."""
    model, (row, longer) = model_of(name), (random_ids(18, 1), random_ids(120, 2))
    alone = model(input_ids=torch.tensor([row])).logits[0]
    both = torch.zeros(2, 120, dtype=torch.long)
    both[0, :18], both[1] = torch.tensor(row), torch.tensor(longer)
    mask = torch.ones_like(both)
    mask[0, 18:] = 0
    assert float((model(input_ids=both, attention_mask=mask).logits[0, :18] - alone).abs().max()) > 0.01


@pytest.mark.parametrize("name", ONE_TABLE)
def test_one_table_leaves_a_packed_row_as_it_is(name: str) -> None:
    lm, packed = ready(model_of(name)), pack(mixed(), lean=True)
    calls: list[Packed] = []
    by_table(lm, packed, lambda part: (calls.append(part), part.targets)[1])
    (same,) = calls
    assert same is packed


@pytest.mark.parametrize("name", TABLES)
def test_short_rows_of_two_tables_stay_packed(name: str) -> None:
    lm = ready(model_of(name))
    for size, parts in ((SWITCH, 1), (SWITCH + 1, 2)):
        trees = [text(20, 1), text(size, 2)]
        assert len(apart(pack(trees, lean=True), lm.rope)) == parts


def test_gradients_are_those_of_the_rows_alone(kind: tuple[str, LanguageModel]) -> None:
    name, lm = kind
    trees = mixed()
    token_logps(lm, pack(trees, lean=True)).sum().backward()
    expected = [torch.zeros_like(weight) for weight in lm.model.parameters()]
    for tree in trees:
        for index in (index for index, node in enumerate(tree.nodes) if node.scored):
            model = model_of(name)
            row_logps(model, tree, index).sum().backward()
            for whole, weight in zip(expected, model.parameters(), strict=True):
                whole.add_(torch.zeros_like(weight) if weight.grad is None else weight.grad)
    for weight, right in zip(lm.model.parameters(), expected, strict=True):
        torch.testing.assert_close(weight.grad, right, atol=1e-3, rtol=1e-3)


@torch.no_grad()
def test_heads_read_the_states_of_the_row_alone(kind: tuple[str, LanguageModel]) -> None:
    name, plain_lm = kind
    head = ScalarHead(32, std=0.3)
    lm = replace(plain_lm, heads={"value": head})
    trees = mixed()
    before, at = [], []
    for tree in trees:
        for index, node in enumerate(tree.nodes):
            if node.scored:
                ids = path_ids(tree, index)
                values = head(unread(name).base_model(input_ids=torch.tensor([ids])).last_hidden_state[0])
                count = min(len(node.ids), len(ids) - 1)
                before.append(values[-count - 1 : -1])
                at.append(values[-count:])
    right = torch.cat(list(chain(*plain(name, trees))))
    for lean in (False, True):
        torch.testing.assert_close(read(lm, pack(trees, lean=lean), "value").values, torch.cat(before), **NEAR)
    torch.testing.assert_close(read(lm, pack(trees), "value").logps, right, **EXACT)
    torch.testing.assert_close(token_values(lm, pack(trees), "value"), torch.cat(at), **NEAR)


@torch.no_grad()
def test_a_sampled_token_comes_after_its_own_row_alone(kind: tuple[str, LanguageModel]) -> None:
    """Below the switch, past it and across it, all in one call, with samples that end at different times."""
    name, lm = kind
    sizes = (10, SWITCH - 12, SWITCH - 11, SWITCH - 10, SWITCH - 6, SWITCH - 1, SWITCH, SWITCH + 1, 90)
    prompts = [PromptIds(Prompt((Turn("user", str(size)),), key=str(size)), random_ids(size, size)) for size in sizes]
    prompts = [prompt for prompt in prompts if lm.window is None or len(prompt.ids) < lm.window]
    rollouts = sample(lm, prompts, Sampling(n=3, temperature=1.0, top_p=1.0, max_new_tokens=12, seed=5), range(6))
    assert len({len(each.response_ids) for each in rollouts}) > 3
    crossing = 0
    for each in rollouts:
        found = []
        for place, token in enumerate(each.response_ids):
            ids = torch.tensor([[*each.prompt_ids, *each.response_ids[:place]]])
            found.append(float(unread(name)(input_ids=ids).logits[0, -1].log_softmax(-1)[token]))
            crossing += ids.shape[1] == SWITCH + 1 and place > 0
        torch.testing.assert_close(torch.tensor(each.logps), torch.tensor(found), **EXACT)
    assert crossing > 2 or name == "dynamic"  # whose window ends at the switch


@torch.no_grad()
def test_greedy_answers_are_those_of_transformers_across_the_switch() -> None:
    lm, ids = prepared("Phi-3"), random_ids(SWITCH - 6, 3)
    prompt = PromptIds(Prompt((Turn("user", "a"),), key="a"), ids)
    (found,) = sample(lm, [prompt], Sampling(n=1, temperature=0, max_new_tokens=20), [])
    whole = model_of("Phi-3").generate(torch.tensor([ids]), max_new_tokens=20, do_sample=False, eos_token_id=[-1])
    assert found.response_ids == tuple(whole[0, len(ids) :].tolist())


@pytest.mark.parametrize("order", [(18, 120, 100), (120, 18, SWITCH), (120, 100, 90)])
@torch.no_grad()
def test_a_loaded_dynamic_model_forgets_what_it_has_read(order: Sequence[int]) -> None:
    model = model_of("dynamic")
    lm = ready(model)
    for size in order:
        ids = torch.tensor([random_ids(size, size)])
        expected = model_of("dynamic")(input_ids=ids, use_cache=False).logits
        torch.testing.assert_close(lm.model(input_ids=ids, use_cache=False).logits, expected, **EXACT)


@pytest.mark.parametrize("rope", [{"rope_type": "dynamic", "factor": 4.0}, LONG])
@torch.no_grad()
def test_layers_of_different_rope(rope: Rope) -> None:
    """Of some models each kind of layer has a rope of its own."""
    base = {"rope_theta": 10000.0}
    kinds = {"full_attention": {**base, **rope}, "sliding_attention": {**base, "rope_type": "default"}}
    if rope is LONG:
        kinds["full_attention"]["original_max_position_embeddings"] = SWITCH

    def fresh() -> PreTrainedModel:
        return tiny("Gemma3Text", rope_parameters=copy.deepcopy(kinds), max_position_embeddings=SWITCH * 2)

    lm = ready(fresh())
    trees = [text(18, 2), text(150, 3), text(SWITCH + 1, 4), text(140, 5), text(18, 6)]
    expected = [row_logps(fresh(), tree, 1) for tree in trees]
    found = [nodes[0] for nodes in score_trees(lm, trees, 10_000)]
    torch.testing.assert_close(torch.cat(found), torch.cat(expected), **EXACT)


class Stretched(nn.Module):
    """A rotary embedding whose frequencies go by the longest row of a call, of which no configuration knows."""

    def __init__(self, rotary: nn.Module, switch: int) -> None:
        super().__init__()
        self.rotary, self.switch = rotary, switch

    def forward(self, x: Tensor, position_ids: Tensor) -> Any:
        longest = int(position_ids.max()) + 1
        return self.rotary(x, position_ids * (1.0 if longest <= self.switch else 0.5))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_the_load_time_check_sees_it_in_half_precision(dtype: torch.dtype) -> None:
    for stretched in (True, False):
        model: Any = tiny("Llama").to(dtype)
        if stretched:
            model.model.rotary_emb = Stretched(model.model.rotary_emb, 200)
        assert ready(model).rope == (RopeTables(0, by_length=True) if stretched else None)


@pytest.mark.parametrize("switch", [20, 200])
@torch.no_grad()
def test_the_load_time_check_sees_what_no_configuration_tells(switch: int, caplog: pytest.LogCaptureFixture) -> None:
    def fresh() -> PreTrainedModel:
        model: Any = tiny("Llama")
        model.model.rotary_emb = Stretched(model.model.rotary_emb, switch)
        return model  # type: ignore[no-any-return]

    lm = ready(fresh())
    assert lm.rope == RopeTables(0, by_length=True)
    assert "its numbers depend on the longest row of a call" in caplog.text
    trees = [text(18, 2), text(230, 3), text(30, 4)]
    expected = torch.cat([row_logps(fresh(), tree, 1) for tree in trees])
    for one in (lm, replace(lm, attention="rows")):
        found = torch.cat([nodes[0] for nodes in score_trees(one, trees, 10_000)])
        torch.testing.assert_close(found, expected, **EXACT)


@pytest.mark.parametrize("name", [name for name in TABLES if name != "dynamic"])
def test_the_load_time_check_sees_each_type_undeclared(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """That of "dynamic" lies past the window, where there is nothing to look at."""
    monkeypatch.setattr(check, "declared_tables", lambda _: None)
    assert ready(model_of(name)).rope == RopeTables(0, by_length=True)


@pytest.mark.parametrize("name", TABLES)
def test_the_load_time_check_sees_a_switch_that_is_declared_too_late(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(check, "declared_tables", lambda _: RopeTables(SWITCH + 1, by_length=False))
    assert ready(model_of(name)).rope == RopeTables(0, by_length=True)


def test_the_load_time_check_sees_a_second_table_past_the_switch(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(check, "declared_tables", lambda _: RopeTables(SWITCH, by_length=False))
    model: Any = tiny("Llama")
    model.model.rotary_emb = Stretched(model.model.rotary_emb, 200)
    assert ready(model).rope == RopeTables(0, by_length=True)


@pytest.mark.parametrize("name", TABLES)
def test_the_load_time_check_agrees_with_the_configuration(name: str, caplog: pytest.LogCaptureFixture) -> None:
    assert ready(model_of(name)).rope == RopeTables(SWITCH, by_length=name == "dynamic")
    assert "longest row" not in caplog.text


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A model of Phi-3's kind with a chat template, as a folder."""
    words = tiny_tokenizer()
    model = model_of("Phi-3")
    assert len(words) <= model.config.vocab_size
    model.save_pretrained(tmp_path / "m")
    words.save_pretrained(tmp_path / "m")
    return tmp_path / "m"


TALKS = [("when ?", 1), ("where the bakery ", 40)]


def test_a_command_scores_a_short_conversation_alone_as_beside_a_long_one(folder: Path, uptake: Cli) -> None:
    rows = [{"prompt": prompt * times, "completion": "it helped ."} for prompt, times in TALKS]
    write_followups(folder.parent)
    rewards = []
    for count in (1, 2):
        write_jsonl(folder.parent / "in.jsonl", rows[:count])
        options = ["--model", folder, "--followups", folder.parent / "followups.yaml", "--out", f"out{count}.jsonl"]
        uptake("score", folder.parent / "in.jsonl", *options)
        rewards.append(read_jsonl(folder.parent / f"out{count}.jsonl")[0]["reward"])
    assert rewards[0] == pytest.approx(rewards[1], abs=1e-5)


def test_a_classifier_rates_a_short_conversation_alone_as_beside_a_long_one(folder: Path) -> None:
    config = copy.deepcopy(load(folder, device="cpu").base.config)
    config.num_labels = 1
    torch.manual_seed(0)
    model = AutoModelForSequenceClassification.from_config(config).eval()
    reward = Classifier(model, ChatFormat.of(tiny_tokenizer()))
    talks = [(Turn("user", prompt * times), Turn("assistant", "it helped .")) for prompt, times in TALKS]
    both = reward.rate(talks)
    for talk, one in zip(talks, both, strict=True):
        assert one.score == pytest.approx(reward.rate([talk])[0].score, abs=1e-5)
