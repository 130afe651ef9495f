"""Scalar heads against the hidden states of plain rows, and score heads as classifiers of Transformers."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest
import torch
from tiny_models import VOCABULARY, forest, path_ids, plain_logps, random_ids, ready, tiny, tokenizer, twin
from torch import Tensor
from transformers import AutoModelForSequenceClassification, PreTrainedModel

from uptake.errors import InputError, ModelError
from uptake.models import LanguageModel, Node, TokenTree, branches, pack, save_model, token_logps
from uptake.models.classifier import classifier_tokenizer, ending_with
from uptake.models.heads import AddHead, ScalarHead, node_last, read, token_states, token_values

BOTH = ["Llama", "Gemma2", "GPT2", "Bloom", "Mamba", "Jamba"]


def with_head(model: PreTrainedModel, name: str = "value", **options: Any) -> LanguageModel:
    torch.manual_seed(1)
    lm = ready(model)
    return replace(lm, heads=AddHead(name, **{"std": 1.0, **options})(lm))


def plain_states(model: PreTrainedModel, trees: Sequence[TokenTree]) -> tuple[Tensor, Tensor]:
    """Final states at, and just before, the wanted tokens of all scored nodes, each from one unpadded row."""
    at, before = [], []
    for tree in trees:
        for index, node in enumerate(tree.nodes):
            if node.scored:
                ids = torch.tensor(path_ids(tree, index))
                states = model.base_model(input_ids=ids[None], use_cache=False).last_hidden_state[0]
                first = max(1, len(ids) - len(node.ids))
                at.append(states[first:])
                before.append(states[first - 1 : -1])
    return torch.cat(at), torch.cat(before)


@pytest.mark.parametrize("family", BOTH)
def test_states_and_values_are_those_of_plain_rows(family: str) -> None:
    model = tiny(family)
    other = twin(model, None if family in ("Bloom", "Mamba", "Jamba") else "eager")
    lm = with_head(model, bias=True)
    assert lm.attention == ("rows" if family in ("Bloom", "Mamba", "Jamba") else "tree")
    packed = pack(forest())
    with torch.no_grad():
        torch.nn.init.constant_(lm.heads["value"].bias, 0.5)
        at, before = plain_states(other, forest())
        torch.testing.assert_close(token_states(lm, packed), at, atol=1e-4, rtol=1e-4)
        weight, found = lm.heads["value"].weight[0], read(lm, packed, "value")
        torch.testing.assert_close(token_values(lm, packed, "value"), at @ weight + 0.5, atol=1e-4, rtol=1e-4)
        torch.testing.assert_close(found.values, before @ weight + 0.5, atol=1e-4, rtol=1e-4)
        torch.testing.assert_close(found.logps, token_logps(lm, packed))


@pytest.mark.parametrize("family", ["Llama", "Bloom"])
def test_a_critic_learns_through_head_and_trunk(family: str) -> None:
    """The gradient of values and log-probabilities together is that of plain rows; stems count once."""
    model = tiny(family)
    other = twin(model)
    lm = with_head(model)
    found, at = read(lm, pack(forest()), "value"), token_values(lm, pack(forest()), "value")
    (found.values.square().sum() + found.logps.sum() + at.sum()).backward()
    weight = lm.heads["value"].weight.detach().clone().requires_grad_()
    here, before = plain_states(other, forest())
    values, logps = before @ weight[0], plain_logps(other, forest())
    (values.square().sum() + logps.sum() + (here @ weight[0]).sum()).backward()
    torch.testing.assert_close(lm.heads["value"].weight.grad, weight.grad, atol=1e-2, rtol=1e-3)
    for ours, theirs in zip(model.base_model.parameters(), other.base_model.parameters(), strict=True):
        torch.testing.assert_close(ours.grad, theirs.grad, atol=1e-2, rtol=1e-3)


def test_a_value_knows_nothing_of_the_token_that_follows_it() -> None:
    lm = with_head(tiny("Llama"))
    stem = random_ids(5, 0)
    with torch.no_grad():
        one, other = (read(lm, pack([branches(stem, (token, 7))]), "value") for token in (3, 4))
        at = [token_values(lm, pack([branches(stem, (token, 7))]), "value") for token in (3, 4)]
    assert one.values[0] == other.values[0]
    assert one.values[1] != other.values[1]
    assert at[0][0] != at[1][0]


def test_the_last_token_of_every_node() -> None:
    packed = pack([branches((1, 2), (3, 4, 5), (6,)), TokenTree((Node((7, 8)), Node((9, 1), 0)))])
    places = torch.arange(len(packed.targets))
    assert packed.targets[node_last(packed, places)].tolist() == [5, 6, 8, 1]
    table = torch.stack((places, -places), 1)
    assert node_last(packed, table).tolist() == [[place, -place] for place in (2, 3, 4, 6)]
    with pytest.raises(InputError, match="a scored root of one token"):
        node_last(pack([TokenTree((Node((7,)),))]), torch.zeros(0))


def test_heads_compute_in_full_precision() -> None:
    lm = with_head(tiny("Llama", dtype=torch.bfloat16, initializer_range=0.05))
    assert lm.heads["value"].weight.dtype == torch.float32
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        states = token_states(lm, pack(forest()))
        found = lm.heads["value"](states)
    assert torch.equal(found, states.float() @ lm.heads["value"].weight[0])
    assert not ScalarHead(4).weight.any()


def test_a_score_has_no_bias() -> None:
    with pytest.raises(InputError, match="field 'bias'"):
        AddHead(bias=True)


def test_a_missing_head_is_named() -> None:
    lm = with_head(tiny("Llama"))
    with pytest.raises(InputError, match="no head called 'score'; it has: value"):
        token_values(lm, pack(forest()), "score")


# --- classifiers ------------------------------------------------------------------------------------------------------

CLOSING = "<end>"
TEMPLATE = "{% for m in messages %}{{ m['content'] }}<end>{{ '\\n' }}{% endfor %}"


@pytest.mark.parametrize("family", ["Llama", "Qwen3", "Gemma2", "GPT2", "GPTNeoX", "Phi3", "Bloom", "Jamba"])
def test_a_saved_score_head_is_a_classifier(family: str, tmp_path: Any) -> None:
    """Rows of unequal length in one padded batch of Transformers get the scores that the head gives in the tree."""
    lm = with_head(tiny(family), "score")
    before = lm.base.state_dict().keys()
    end = lm.tokenizer.eos_token_id
    tree = branches(random_ids(6, 0, VOCABULARY), (*random_ids(4, 1), end), (*random_ids(9, 2), end))
    packed = pack([tree])
    with torch.no_grad():
        scores = node_last(packed, token_values(lm, packed, "score"))
    save_model(lm, TEMPLATE, tmp_path / "model", CLOSING)
    assert lm.base.state_dict().keys() == before
    loaded: Any = AutoModelForSequenceClassification.from_pretrained(tmp_path / "model", num_labels=1, dtype="auto")
    pad = loaded.config.pad_token_id
    assert pad not in (None, end)
    rows = [path_ids(tree, 1), path_ids(tree, 2)]
    longest = max(map(len, rows))
    ids = torch.tensor([row + [pad] * (longest - len(row)) for row in rows])
    mask = torch.tensor([[1] * len(row) + [0] * (longest - len(row)) for row in rows])
    with torch.no_grad():
        logits = loaded.eval()(input_ids=ids, attention_mask=mask).logits[:, 0]
    torch.testing.assert_close(logits, scores, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("family", ["Mamba", "Cohere"])
def test_what_could_not_be_saved_is_refused_before_training(family: str) -> None:
    with pytest.raises(ModelError, match=f"no sequence classifier of {family.lower()}"):
        with_head(tiny(family), "score")


@pytest.mark.parametrize(
    ("changes", "pad"),
    [({}, "<pad>"), ({"pad_token": "<end>"}, "<unk>"), ({"pad_token": None, "unk_token": None}, None)],
)
def test_padding_is_never_the_end_of_a_turn(changes: dict[str, Any], pad: str | None) -> None:
    words = tokenizer()
    for name, token in changes.items():
        setattr(words, name, token)
    before = words.pad_token
    assert classifier_tokenizer(words, TEMPLATE, CLOSING).pad_token == pad
    assert words.pad_token == before


ASKED = [{"role": "user", "content": "w1 w2"}]
ANSWERED = [*ASKED, {"role": "assistant", "content": "w3"}]


@pytest.mark.parametrize(
    "template",
    [
        TEMPLATE,
        "\n  {%- for m in messages %}{{ m['content'] }}<end>\n{% endfor %}  \n",
        "{{ messages[0]['content'] }}<end>{% if messages[1:] %}{{ messages[1]['content'] }}<end>\n<|stop|>{% endif %}"
        "{% if add_generation_prompt %}say:\n{% endif %}",
    ],
)
@pytest.mark.parametrize("closing", ["<end>", "\n<end>", "<\uff5cend\u2581of\u2581turn\uff5c>'\"\\"])
def test_a_template_that_ends_with_the_end_of_the_turn(template: str, closing: str) -> None:
    template = template.replace("<end>", "{{ '" + closing.replace("\\", "\\\\").replace("'", "\\'") + "' }}")
    words = tokenizer()

    def rendered(template: str, messages: Any, **options: Any) -> str:
        return str(words.apply_chat_template(messages, chat_template=template, tokenize=False, **options))

    cut = ending_with(closing, template)
    whole = rendered(template, ANSWERED)
    assert whole.startswith(rendered(cut, ANSWERED))
    assert rendered(cut, ANSWERED).endswith(f"w3{closing}")
    assert rendered(cut, ASKED) == rendered(template, ASKED)
    for messages in (ASKED, ANSWERED):
        kept = [rendered(each, messages, add_generation_prompt=True) for each in (cut, template)]
        assert kept[0] == kept[1]


def test_a_lean_row_has_no_state_at_its_leaves() -> None:
    lm = ready(tiny("Llama"))
    packed = pack([branches((1, 2, 3), (4, 5))], lean=True)
    with pytest.raises(InputError, match="a lean row has no state at the last token of a leaf"):
        token_states(lm, packed)
