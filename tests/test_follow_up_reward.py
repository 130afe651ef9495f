"""Follow-up likelihood: golden values of a model that can be computed by hand, and what a score must not depend on."""

import random
from collections.abc import Mapping, Sequence
from copy import deepcopy
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from tiny import one_group, saved, sentence, tiny_llama, tiny_world, write_followups
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from torch import Tensor
from transformers import (
    AutoModelForCausalLM,
    LlamaConfig,
    LlamaForCausalLM,
    PreTrainedModel,
    PreTrainedTokenizerFast,
    configuration_utils,
)

from uptake.annotators.from_reward import FromReward
from uptake.data import ChatFormat
from uptake.errors import InputError, ModelError
from uptake.follow_up.reward import FollowUpReward, FollowUpScores, FollowUpSpec
from uptake.follow_up.set import Category, FollowUpSet
from uptake.models import LanguageModel, add_lora, load, prepare
from uptake.rewards.base import Reward
from uptake.rewards.fingerprint import model_fingerprint
from uptake.types import Dialogue, Prompt, Rollout, Turn, Where

# Next-token logits by previous token; columns are BOS, END, SEP, a, b.
BIGRAM = {
    "BOS": (0, 0, 0, 0, 0),
    "END": (0, 1, 0, 0, 0),
    "SEP": (0, 0, 1, 2, 0),
    "a": (1, 0, 0, 1, 3),
    "b": (0, 2, 0, 1, 0),
}
TEMPLATE = (
    "BOS{% for message in messages %}{{ ' SEP ' if message['role'] == 'user' else ' ' }}"
    "{{ message['content'] }} END{% endfor %}"
)
WIDTH = 16  # a square, so that the norm of a one-hot row scales it by exactly 4
NEVER = -1e4  # the logit of words outside the vocabulary


def toy(logits: Mapping[str, Sequence[float]], mixing: float = 0.0) -> LanguageModel:
    """A real Llama in float64 whose next-token logits are a table row of the previous token.

    The MLP adds nothing. Attention adds `mixing` times the mean of all tokens so far: with 0 the last state is the
    embedding, a one-hot row, which the final norm scales by sqrt(width).
    """
    config = LlamaConfig(
        vocab_size=len(logits) + 1,
        hidden_size=WIDTH,
        intermediate_size=4,
        num_hidden_layers=1,
        num_attention_heads=1,
        max_position_embeddings=64,
        rms_norm_eps=0.0,
        bos_token_id=0,
        eos_token_id=1,
    )
    model = LlamaForCausalLM(config).double()
    table = torch.full((len(logits) + 1, len(logits) + 1), NEVER, dtype=torch.float64)
    table[:-1, :-1] = torch.tensor(list(logits.values()), dtype=torch.float64)
    layer, unit = model.model.layers[0], torch.eye(WIDTH, dtype=torch.float64)
    with torch.no_grad():
        for part in (layer.self_attn.q_proj, layer.self_attn.k_proj, layer.mlp.down_proj, model.lm_head):
            part.weight.zero_()
        layer.self_attn.v_proj.weight.copy_(unit)
        layer.self_attn.o_proj.weight.copy_(unit * mixing / WIDTH**0.5)
        model.model.embed_tokens.weight.copy_(unit[: len(table)])
        model.lm_head.weight[:, : len(table)] = table.T / WIDTH**0.5
    return prepare(model, word_tokenizer_with_bos([*logits, "<unk>"]), "toy")


def word_tokenizer_with_bos(words: Sequence[str]) -> PreTrainedTokenizerFast:
    """One token per word; the first word begins every text by default, the second ends a turn."""
    tokenizer = Tokenizer(models.WordLevel({word: index for index, word in enumerate(words)}, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    tokenizer.post_processor = processors.TemplateProcessing(single=f"{words[0]} $A", special_tokens=[(words[0], 0)])
    special = {"bos_token": words[0], "eos_token": words[1], "unk_token": "<unk>"}
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, chat_template=TEMPLATE, **special)


def flat(positive: Sequence[str], negative: Sequence[str] = ()) -> FollowUpSet:
    return FollowUpSet("flat", 1, "en", (Category("k", 1.0, tuple(positive), tuple(negative)),))


def messages(*texts: str) -> list[dict[str, str]]:
    return [{"role": ("user", "assistant")[place % 2], "content": text} for place, text in enumerate(texts)]


def dialogues(count: int, seed: int = 0) -> list[list[dict[str, str]]]:
    rng = random.Random(seed)
    return [messages(*(sentence(rng) for _ in range(rng.choice([2, 4])))) for _ in range(count)]


@pytest.fixture
def followups(tmp_path: Path) -> FollowUpSet:
    return FollowUpSet.load(write_followups(tmp_path))


@pytest.fixture
def lm() -> LanguageModel:
    return tiny_llama(dtype=torch.float64)


def plain(lm: LanguageModel) -> PreTrainedModel:
    """The same weights under Transformers' own attention."""
    model: PreTrainedModel = AutoModelForCausalLM.from_config(
        deepcopy(lm.base.config), dtype=lm.dtype, attn_implementation="sdpa"
    )
    model.load_state_dict(lm.base.state_dict())
    return model.eval()


def by_hand(lm: LanguageModel, turns: Dialogue, text: str) -> Tensor:
    """Log-probabilities of the tokens of a follow-up, from one plain row through Transformers' own attention."""
    spelled = "".join(f"<{turn.role}> {turn.content} <end> " for turn in turns)
    stem, whole = (
        lm.tokenizer(part, return_tensors="pt")["input_ids"] for part in (spelled + "<user>", f"{spelled}<user> {text}")
    )
    with torch.no_grad():
        logps = plain(lm)(whole).logits[0].log_softmax(-1)
    places = range(stem.shape[1], whole.shape[1])
    return torch.stack([logps[place - 1, whole[0, place]] for place in places])


# --- golden values ----------------------------------------------------------------------------------------------------


def test_golden_bigram() -> None:
    reward = FollowUpReward(toy(BIGRAM), flat(["a b", "a a b"], ["b a"]))
    scores = reward.score([messages("b", "a")])
    expected = torch.tensor([[-0.444081, -1.067717, -2.073172]], dtype=torch.float64)
    torch.testing.assert_close(scores.logps, expected, atol=1e-6, rtol=0)
    assert scores.lengths.tolist() == [[2, 3, 2]]
    assert float(scores.rewards) == pytest.approx(1.317273, abs=1e-6)
    assert float(scores.by_category["k"]) == float(scores.rewards)


def test_golden_sums() -> None:
    reward = FollowUpReward(toy(BIGRAM), flat(["a b", "a a b"], ["b a"]), reduction="sum")
    scores = reward.score([messages("b", "a")])
    assert float(scores.rewards) == pytest.approx((-0.888162 - 3.203151) / 2 + 2 * 2.073172, abs=2e-6)


def test_golden_released() -> None:
    reward = FollowUpReward(toy(BIGRAM), flat(["a b", "b a", "a a b"]), mode="legacy_released")
    scores = reward.score([messages("b", "a")])
    expected = torch.tensor([[1.666667, 0.333333, 1.5]], dtype=torch.float64)
    torch.testing.assert_close(scores.logps, expected, atol=1e-6, rtol=0)


def test_golden_full() -> None:
    """exp(2.073172), whatever the positives."""
    for positive in ([], ["a b"], ["a a b", "a b"]):
        reward = FollowUpReward(toy(BIGRAM), flat(positive, ["b a"]), form="full")
        assert float(reward.score([messages("b", "a")]).rewards) == pytest.approx(7.95, abs=1e-4)


def test_golden_fed() -> None:
    reward = FollowUpReward(toy(BIGRAM), flat(["a b", "a a b"], ["b a"]), form="fed", reduction="sum")
    scores = reward.score([messages("b", "a")])
    assert float(scores.rewards) == pytest.approx(-0.888162 - 3.203151 + 2 * 2.073172, abs=3e-6)


def test_the_whole_text_dilutes_the_contrast() -> None:
    """What was said does not show in a bigram's follow-ups, so their sums are divided by ever more tokens."""
    lm, two = toy(BIGRAM), flat(["a b"], ["b a"])
    contrast = 2 * (-0.444081 + 2.073172)
    for words in (1, 10, 45):
        said = messages("b " * words, "a")
        tokens = len(f"SEP {'b ' * words} END a END SEP a b".split())  # all but BOS are predicted
        found = FollowUpReward(lm, two, mode="whole_text").score([said])
        assert float(found.rewards) == pytest.approx(contrast / tokens, abs=1e-6)


def test_planted_quality_is_ranked_without_error() -> None:
    """The model says "thanks" rather than "wrong" in so far as the conversation holds "good" rather than "bad"."""
    words = ("BOS", "END", "SEP", "good", "bad", "thanks", "wrong")
    likes = {"good": "thanks", "bad": "wrong"}
    table = {word: [2.0 * (likes.get(word) == after) for after in words] for word in words}
    reward = FollowUpReward(toy(table, mixing=1.0), flat(["thanks"], ["wrong"]))
    rng = random.Random(0)
    filler = [" ".join(rng.choices(["SEP", "thanks", "wrong"], k=rng.randint(0, 6))) for _ in range(20)]
    good, bad = ([messages("SEP", f"{text} {quality} {text}") for text in filler] for quality in ("good", "bad"))
    assert bool((reward.score(good).rewards > reward.score(bad).rewards).all())


# --- the same by other roads ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-10), (torch.float32, 1e-5)])
def test_every_column_is_its_follow_up_by_hand(dtype: torch.dtype, tolerance: float, followups: FollowUpSet) -> None:
    lm = tiny_llama(dtype=dtype)
    asked = dialogues(3)
    scores = FollowUpReward(lm, followups).score(asked)
    assert scores.followups == ("thanks .", "it helped .", "wrong .", "it helped . thanks .", "where ?", "when ?")
    assert scores.logps.shape == scores.lengths.shape == (3, 6)
    assert scores.logps.dtype == dtype
    for row, spelled in enumerate(asked):
        turns = tuple(Turn(each["role"], each["content"]) for each in spelled)  # type: ignore[arg-type]
        for column, text in enumerate(scores.followups):
            logps = by_hand(lm, turns, text)
            assert int(scores.lengths[row, column]) == len(logps)
            torch.testing.assert_close(scores.logps[row, column], logps.mean(), atol=tolerance, rtol=0)


def test_rewards_are_the_weighted_mean_of_category_contrasts(lm: LanguageModel) -> None:
    two = (Category("one", 3.0, ("thanks .",), ("wrong .",)), Category("two", 1.0, (), ("where ?", "when ?")))
    scores = FollowUpReward(lm, FollowUpSet("two", 1, "en", two)).score(dialogues(4))
    thanks, wrong, where, when = scores.logps.unbind(1)
    one, other = thanks - wrong, -(where + when) / 2
    torch.testing.assert_close(scores.by_category["one"], one, atol=1e-12, rtol=0)
    torch.testing.assert_close(scores.by_category["two"], other, atol=1e-12, rtol=0)
    torch.testing.assert_close(scores.rewards, (3 * one + other) / 4, atol=1e-12, rtol=0)


def test_one_positive_summed_is_the_turns_log_probability(lm: LanguageModel) -> None:
    reward = FollowUpReward(lm, flat(["it helped ."]), reduction="sum")
    turns = (Turn("user", "when ?"), Turn("assistant", "at eight ."))
    expected = by_hand(lm, turns, "it helped .").sum()
    torch.testing.assert_close(reward.score([turns]).rewards[0], expected, atol=1e-10, rtol=0)


def test_sums_are_means_times_length(lm: LanguageModel) -> None:
    three = flat(["it helped .", "thanks thanks ."], ["wrong . ?"])
    mean, total = (FollowUpReward(lm, three, reduction=each).score(dialogues(3)) for each in ("mean", "sum"))
    torch.testing.assert_close(total.rewards, 3 * mean.rewards, atol=1e-12, rtol=0)


def test_fed_is_the_contrast_times_length(lm: LanguageModel) -> None:
    pair = flat(["it helped ."], ["wrong . ?"])
    fed, contrast = FollowUpReward(lm, pair, form="fed", reduction="sum"), FollowUpReward(lm, pair)
    torch.testing.assert_close(
        fed.score(dialogues(3)).rewards, 3 * contrast.score(dialogues(3)).rewards, atol=1e-12, rtol=0
    )


def test_the_whole_text_is_the_loss_of_transformers(lm: LanguageModel, followups: FollowUpSet) -> None:
    scores = FollowUpReward(lm, followups, mode="whole_text").score([messages("when ?", "at eight .")])
    model = plain(lm)
    for column, text in enumerate(scores.followups):
        spelled = f"<user> when ? <end> <assistant> at eight . <end> <user> {text}"
        ids = lm.tokenizer(spelled, return_tensors="pt")["input_ids"]
        with torch.no_grad():
            loss = model(ids, labels=ids).loss
        assert float(scores.logps[0, column]) == pytest.approx(-float(loss), abs=1e-6)  # Transformers' loss is fp32
    columns = followups.columns
    expected = [
        float(scores.logps[0, each.positive].mean() - scores.logps[0, each.negative].mean()) for each in columns
    ]
    assert float(scores.rewards) == pytest.approx(sum(expected) / 2, abs=1e-12)
    assert scores.lengths.tolist() == [[2, 3, 2, 5, 2, 2]]


def test_a_cache_and_padding_on_the_left_give_the_same(lm: LanguageModel, followups: FollowUpSet) -> None:
    """One prefill of the context and the follow-ups after its keys; and whole rows padded on the left."""
    found = FollowUpReward(lm, followups).score([messages("when ?", "at eight .")]).logps[0]
    model, context = plain(lm), "<user> when ? <end> <assistant> at eight . <end> <user>"
    stem = torch.tensor(lm.tokenizer(context)["input_ids"])
    branches = [torch.tensor(lm.tokenizer(text)["input_ids"]) for text in followups.sentences]
    width = len(stem) + max(map(len, branches))
    ids, mask = torch.zeros(2, len(branches), width, dtype=torch.long)
    for row, branch in enumerate(branches):
        ids[row, -len(stem) - len(branch) :] = torch.cat((stem, branch))
        mask[row, -len(stem) - len(branch) :] = 1
    with torch.no_grad():
        places = (mask.cumsum(1) - 1).clamp(min=0)
        left = model(ids, attention_mask=mask, position_ids=places).logits.log_softmax(-1)
        for row, branch in enumerate(branches):
            prefill = model(stem[None], use_cache=True)
            after = model(branch[None], past_key_values=prefill.past_key_values).logits[0]
            logps = torch.cat((prefill.logits[0, -1:], after[:-1])).log_softmax(-1)
            cached = logps.gather(1, branch[:, None]).mean()
            padded = left[row, -len(branch) - 1 : -1].gather(1, branch[:, None]).mean()
            torch.testing.assert_close(torch.stack((cached, padded)), found[row].expand(2), atol=1e-10, rtol=0)


@pytest.mark.parametrize("mode", ["log_likelihood", "whole_text"])
def test_the_prior_is_what_follows_silence(mode: Any, lm: LanguageModel) -> None:
    """Subtracting it moves all responses to one prompt alike, so their ranking stays."""
    rng = random.Random(2)
    prompts = [sentence(rng) for _ in range(3)]
    asked = [messages(prompt, sentence(rng)) for prompt in prompts for _ in range(5)]
    pair = flat(["thanks ."], ["wrong ."])
    plain_scores, less = (
        FollowUpReward(lm, pair, prior=prior, mode=mode).score(asked).rewards.reshape(3, 5)
        for prior in ("none", "prompt_only")
    )
    shift = plain_scores - less
    torch.testing.assert_close(shift, shift[:, :1].expand(3, 5), atol=1e-12, rtol=0)
    assert len(set(shift[:, 0].tolist())) == 3
    assert torch.equal(plain_scores.argsort(1), less.argsort(1))
    if mode == "log_likelihood":
        for row, prompt in enumerate(prompts):
            silence = (Turn("user", prompt), Turn("assistant", ""))
            liked, disliked = (by_hand(lm, silence, text).mean() for text in ("thanks .", "wrong ."))
            torch.testing.assert_close(shift[row, 0], liked - disliked, atol=1e-10, rtol=0)


@pytest.mark.parametrize("standardize", ["none", "within_prompt"])
@pytest.mark.parametrize("reduction", ["mean", "sum"])
def test_the_prior_keeps_the_ranking(
    reduction: Any, standardize: Any, lm: LanguageModel, followups: FollowUpSet
) -> None:
    rng = random.Random(3)
    asked = [messages("when ?", sentence(rng)) for _ in range(20)]
    options = {"reduction": reduction, "standardize": standardize}
    without, less = (FollowUpReward(lm, followups, prior=each, **options) for each in ("none", "prompt_only"))
    assert torch.equal(without.score(asked).rewards.argsort(), less.score(asked).rewards.argsort())


def test_padded_rows_give_the_same(lm: LanguageModel, followups: FollowUpSet) -> None:
    tree = FollowUpReward(replace(lm, attention="tree"), followups)
    rows = FollowUpReward(replace(lm, attention="rows"), followups)
    torch.testing.assert_close(tree.score(dialogues(5)).logps, rows.score(dialogues(5)).logps, atol=1e-10, rtol=0)


def test_swapped_sides_negate_the_reward_exactly(lm: LanguageModel) -> None:
    plus = FollowUpReward(lm, flat(["thanks .", "it helped ."], ["wrong ."])).score(dialogues(4))
    minus = FollowUpReward(lm, flat(["wrong ."], ["thanks .", "it helped ."])).score(dialogues(4))
    torch.testing.assert_close(minus.rewards, -plus.rewards, atol=1e-12, rtol=0)


def test_order_of_follow_ups_and_categories_does_not_matter(lm: LanguageModel, followups: FollowUpSet) -> None:
    turned = [
        replace(each, positive=each.positive[::-1], negative=each.negative[::-1]) for each in followups.categories
    ]
    other = replace(followups, categories=tuple(turned[::-1]))
    one, two = (FollowUpReward(lm, each).score(dialogues(4)) for each in (followups, other))
    torch.testing.assert_close(one.rewards, two.rewards, atol=1e-12, rtol=0)


@pytest.mark.parametrize("standardize", ["none", "within_prompt"])
def test_batch_and_order_do_not_matter(standardize: Any, lm: LanguageModel, followups: FollowUpSet) -> None:
    """21 responses, three to a prompt, are more than one chunk; prompts are never torn, as standardizing needs them."""
    rng = random.Random(1)
    asked = [messages(prompt, sentence(rng)) for prompt in (sentence(rng) for _ in range(7)) for _ in range(3)]
    reward = FollowUpReward(lm, followups, standardize=standardize)
    whole = reward.score(asked).rewards
    alone = torch.cat([reward.score(asked[start : start + 3]).rewards for start in range(0, 21, 3)])
    torch.testing.assert_close(alone, whole, atol=1e-10, rtol=0)
    order = rng.sample(range(21), k=21)
    shuffled = reward.score([asked[place] for place in order], where=[None] * 21).rewards
    torch.testing.assert_close(shuffled, whole[order], atol=1e-10, rtol=0)


def test_turns_are_messages(lm: LanguageModel, followups: FollowUpSet) -> None:
    """Turns and dictionaries are one conversation; a turn that the assistant opens with is read where it is taken."""
    reward = FollowUpReward(lm, followups)
    spelled = messages("when ?", "at eight .")
    turns = (Turn("user", "when ?"), Turn("assistant", "at eight ."))
    led = [{"role": "assistant", "content": "thanks ."}, *spelled]
    one, two, three = reward.score([spelled, turns, led]).rewards.tolist()
    assert one == pytest.approx(two, abs=1e-12)
    assert one != pytest.approx(three, abs=1e-6)


def test_no_dialogue_no_score(lm: LanguageModel, followups: FollowUpSet) -> None:
    scores = FollowUpReward(lm, followups).score([])
    assert (len(scores.rewards), scores.logps.shape, scores.dropped_turns) == (0, (0, 6), ())


def test_progress_counts_every_dialogue(lm: LanguageModel, followups: FollowUpSet) -> None:
    steps: list[int] = []
    FollowUpReward(lm, followups).score(dialogues(20), on_progress=steps.append)
    assert sum(steps) == 20


# --- the window -------------------------------------------------------------------------------------------------------


def test_the_oldest_turns_go_where_the_window_is_small(followups: FollowUpSet) -> None:
    lm = tiny_llama(max_position_embeddings=48)
    long = messages(*(["bread " * 6, "cakes " * 6] * 4), "when ?", "at eight .")
    reward = FollowUpReward(lm, followups)
    scores = reward.score([long, long[-2:]])
    dropped = scores.dropped_turns[0]
    assert 0 < dropped < len(long) - 2
    assert dropped % 2 == 0
    assert scores.dropped_turns[1] == 0
    torch.testing.assert_close(scores.rewards[:1], reward.score([long[dropped:]]).rewards, atol=1e-6, rtol=0)


def test_the_window_may_be_filled_to_the_last_token(followups: FollowUpSet) -> None:
    said = messages("bread", "cakes", "when ?", "at eight .")
    chat = ChatFormat.of(tiny_llama().tokenizer)
    turns = tuple(Turn(each["role"], each["content"]) for each in said)  # type: ignore[arg-type]
    stem, branches = chat.follow_ups(turns, followups.sentences)
    size = len(stem) + max(map(len, branches))
    for window, dropped in ((size, 0), (size - 1, 2)):
        reward = FollowUpReward(tiny_llama(max_position_embeddings=window), followups)
        assert reward.score([said]).dropped_turns == (dropped,)


def test_too_long_for_the_window(followups: FollowUpSet) -> None:
    reward = FollowUpReward(tiny_llama(max_position_embeddings=48), followups)
    asked = [messages("when ?", "at eight ."), messages("when ?", "bread " * 60), messages("when ?", "at nine .")]
    where = [Where(Path("chats.jsonl"), line) for line in (4, 5, 6)]
    with pytest.raises(InputError, match=r"^chats.jsonl:5: .* window of 48"):
        reward.score(asked, where=where)
    unscored: dict[int, InputError] = {}
    scores = reward.score(asked, where=where, unscored=unscored)
    assert list(unscored) == [1]
    assert scores.rewards.isnan().tolist() == [False, True, False]
    assert scores.logps.isnan().all(1).tolist() == [False, True, False]
    expected = reward.score([asked[0], asked[2]]).rewards
    torch.testing.assert_close(scores.rewards[[0, 2]], expected, atol=1e-6, rtol=0)


# --- bad input --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("spelled", "problem"),
    [
        (messages("when ?"), "the last turn is the user's"),
        (messages("when ?", "  "), "the response is empty"),
        (messages("when ?", "at eight .")[::-1], "the last turn is the user's"),
        ([*messages("when ?"), *messages("where ?", "it")], "turns out of order: user, user, assistant"),
        ([], "turns out of order: no turns"),
        ([{"role": "judge", "content": "it"}], "role 'judge'"),
    ],
)
def test_conversations_that_cannot_be_scored(
    spelled: list[dict[str, str]], problem: str, lm: LanguageModel, followups: FollowUpSet
) -> None:
    with pytest.raises(InputError, match=problem) as caught:
        FollowUpReward(lm, followups).score([spelled], where=[Where(Path("chats.jsonl"), 9)])
    assert (caught.value.path, caught.value.line) == (Path("chats.jsonl"), 9)
    assert caught.value.allowed


@pytest.mark.unchecked
@pytest.mark.parametrize("option", ["reduction", "polarity", "standardize", "form", "prior", "mode"])
def test_unknown_options(option: str, lm: LanguageModel, followups: FollowUpSet) -> None:
    options: dict[str, Any] = {option: "median"}
    with pytest.raises(InputError, match=f"field '{option}': 'median' .allowed: "):
        FollowUpReward(lm, followups, **options)


@pytest.mark.parametrize("option", [{"form": "full"}, {"mode": "whole_text"}, {"mode": "legacy_released"}])
def test_sums_of_what_is_no_sum(option: Any, lm: LanguageModel, followups: FollowUpSet) -> None:
    with pytest.raises(InputError, match=r"field 'reduction': 'sum' .allowed: mean"):
        FollowUpReward(lm, followups, reduction="sum", **option)


def test_not_a_number_is_an_error_that_names_the_row(lm: LanguageModel, followups: FollowUpSet) -> None:
    with torch.no_grad():
        lm.base.model.norm.weight.fill_(torch.nan)
    with pytest.raises(ModelError, match=r"^chats.jsonl:3: tiny-0 gives not-a-number"):
        FollowUpReward(lm, followups).score(dialogues(1), where=[Where(Path("chats.jsonl"), 3)])


# --- as part of the rest ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("training", [False, True])
def test_scoring_leaves_no_trace(training: bool, lm: LanguageModel, followups: FollowUpSet) -> None:
    lm.model.train(training)
    random_state, weights = torch.get_rng_state(), [weight.detach().clone() for weight in lm.model.parameters()]
    with torch.enable_grad():
        scores = FollowUpReward(lm, followups).score(dialogues(2))
        assert torch.is_grad_enabled()
    assert not scores.logps.requires_grad
    assert torch.equal(torch.get_rng_state(), random_state)
    assert all(module.training is training for module in lm.model.modules())
    assert all(weight.grad is None and weight.requires_grad for weight in lm.model.parameters())
    assert all(torch.equal(old, new) for old, new in zip(weights, lm.model.parameters(), strict=True))


def test_from_a_folder(tmp_path: Path, followups: FollowUpSet) -> None:
    lm = tiny_llama()
    folder = saved(lm, tmp_path / "model")
    loaded = FollowUpReward.from_pretrained(folder, tmp_path / "followups.yaml", dtype="float64", reduction="sum")
    assert loaded.lm.dtype == torch.float64
    given = FollowUpReward.from_pretrained(lm, followups, reduction="sum")
    torch.testing.assert_close(
        loaded.score(dialogues(2)).rewards, given.score(dialogues(2)).rewards.double(), atol=1e-4, rtol=0
    )


def test_as_a_reward(lm: LanguageModel, followups: FollowUpSet) -> None:
    reward: Reward = FollowUpReward(lm, followups)
    asked = [
        (Turn("user", "when ?"), Turn("assistant", text)) for text in ("at eight .", " ", "bread " * 90, "at nine .")
    ]
    found = reward.rate(asked)
    assert [each.valid for each in found] == [True, False, False, True]
    assert "the response is empty" in found[1].detail
    assert "window" in found[2].detail
    scores = FollowUpReward(lm, followups).score([asked[0], asked[3]])
    assert [found[0].score, found[3].score] == pytest.approx(scores.rewards.tolist(), abs=1e-12)
    assert found[3].parts == pytest.approx({name: float(each[1]) for name, each in scores.by_category.items()})


def test_a_reward_of_one_response_is_not_standardized(lm: LanguageModel, followups: FollowUpSet) -> None:
    with pytest.raises(InputError, match="standardize"):
        FromReward(FollowUpReward(lm, followups, standardize="within_prompt"))


def test_the_fingerprint_tells_apart_whatever_changes_a_score(tmp_path: Path, followups: FollowUpSet) -> None:
    lm, other = tiny_llama(), tiny_llama()
    with torch.no_grad():
        other.base.lm_head.weight[3, 3] += 1e-3
    rewards = [
        FollowUpReward(lm, followups),
        FollowUpReward(other, followups),
        FollowUpReward(tiny_llama(dtype=torch.float64), followups),
        FollowUpReward(tiny_llama(rope_theta=500.0), followups),
        FollowUpReward(lm, flat(["thanks ."])),
        FollowUpReward(lm, followups, chat=ChatFormat.of(lm.tokenizer, lm.tokenizer.chat_template + " ")),
    ]
    options: list[dict[str, Any]] = [
        {"reduction": "sum"},
        {"polarity": "negative_only"},
        {"standardize": "within_prompt"},
        {"form": "full"},
        {"prior": "prompt_only"},
        {"mode": "whole_text"},
    ]
    rewards += [FollowUpReward(lm, followups, **option) for option in options]
    assert len({reward.fingerprint for reward in rewards}) == len(rewards)
    assert FollowUpReward(tiny_llama(), followups).fingerprint == rewards[0].fingerprint
    folder = saved(lm, tmp_path / "model")
    one, two = (FollowUpReward.from_pretrained(folder, followups, device="cpu").fingerprint for _ in range(2))
    assert one == two


# PEFT still asks Transformers by an old name.
def test_a_fingerprint_is_of_the_weights_and_not_of_their_place(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    saved(tiny_llama(), Path("m"))
    Path("deep").mkdir()
    names = ["m", "./m", str(tmp_path / "m")]
    prints = [model_fingerprint(load(name).model) for name in names]
    Path("m").rename("deep/n")
    saved(tiny_llama(seed=1), Path("m"))
    monkeypatch.setattr(configuration_utils, "__version__", "99.0")  # the library has moved on
    assert set(prints) == {model_fingerprint(load("deep/n").model)}
    swapped, lm = tiny_llama(), tiny_llama()
    with torch.no_grad():
        swapped.base.lm_head.weight[[3, 4]] = swapped.base.lm_head.weight[[4, 3]]
    adapted = []
    for alpha in (2, 4):
        torch.manual_seed(0)
        adapted.append(add_lora(tiny_llama(), rank=2, alpha=alpha))
    others = {model_fingerprint(each.model) for each in (load("m"), swapped, *adapted)}
    assert len(others) == 4
    assert model_fingerprint(lm.model) not in others


def test_the_judge_of_a_recipe(tmp_path: Path, followups: FollowUpSet) -> None:
    """Judgements are the rewards under the world's follow-up model; what has no score is invalid, and says why."""
    world = tiny_world(tmp_path, [])
    prompt = Prompt((Turn("user", "when ?"),), key="k", where=Where(Path("prompts.jsonl"), 2))
    said = ["at eight .", "", "bread " * 90, "at nine ."]
    rollouts = [Rollout(prompt, (1,), (2,), text, finished=True, sample=index) for index, text in enumerate(said)]
    found = one_group(FollowUpSpec(str(tmp_path / "followups.yaml")))(world, rollouts)
    assert [each.valid for each in found] == [True, False, False, True]
    assert found[1].detail == "field 'messages': the response is empty (allowed: some text)"
    assert "window" in found[2].detail
    scores = FollowUpReward(world.models["follow_up"], followups).score(
        [messages("when ?", said[0]), messages("when ?", said[3])]
    )
    assert [found[0].score, found[3].score] == pytest.approx(scores.rewards.tolist(), abs=1e-6)
    assert found[0].parts["relevance"] == pytest.approx(float(scores.by_category["relevance"][0]), abs=1e-6)


def test_a_chat_format_of_ones_own(lm: LanguageModel, followups: FollowUpSet) -> None:
    """Another template gives other scores, and they are those of that template."""
    loud = ChatFormat.of(lm.tokenizer, lm.tokenizer.chat_template.replace("<end>", "? <end>"))
    scores: FollowUpScores = FollowUpReward(lm, followups, chat=loud).score([messages("when", "at eight")])
    asked = (Turn("user", "when ?"), Turn("assistant", "at eight ?"))
    torch.testing.assert_close(scores.logps[0, 0], by_hand(lm, asked, "thanks .").mean(), atol=1e-10, rtol=0)


@pytest.mark.parametrize(("only", "side"), [("positive_only", "positive"), ("negative_only", "negative")])
def test_a_polarity_without_its_side_is_refused(only: Any, side: str, lm: LanguageModel) -> None:
    """Every reward would be 0, which looks like a result."""
    others = flat(("thanks .",)) if side == "negative" else flat((), ("wrong .",))
    with pytest.raises(InputError, match=f"has no {side} follow-up"):
        FollowUpReward(lm, others, polarity=only)


def test_a_missing_set_is_said_before_the_model_is_loaded(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"nothing\.yaml: cannot be read"):
        FollowUpReward.from_pretrained("nowhere", tmp_path / "nothing.yaml")
