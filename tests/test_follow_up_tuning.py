"""Feedback tuning: which tokens carry loss in which format, what is learned, and that a scorer asks in the same way."""

import json
import random
from math import exp
from pathlib import Path
from typing import Any

import pytest
import torch
from test_data_chat import CHAT, FOLLOW_UPS, chat_format, every, squeeze
from test_follow_up_reward import flat, plain
from tiny import (
    command_line,
    in_process,
    one_group,
    read_jsonl,
    saved,
    sentence,
    tiny_llama,
    tiny_tokenizer,
    tiny_world,
    write_jsonl,
)

from uptake import load, methods
from uptake.data import ChatFormat, prompts
from uptake.data.role_swap import FollowUpFormat, FormatName, History
from uptake.errors import InputError, ModelError
from uptake.follow_up.reward import FollowUpReward, FollowUpSpec
from uptake.methods.follow_up_tuning import FeedbackTurns
from uptake.models import LanguageModel, add_lora, save_model
from uptake.objective import NextToken
from uptake.reference import NoReference
from uptake.tasks.perplexity import perplexity
from uptake.train.loop import run
from uptake.types import Dialogue, Rollout, Turn
from uptake.world import World

ASK = "does it sell bread ?"
TALK = ("when ?", "at eight .", "where ?", "the bakery .", "when does it close ?", "at nine .", "thanks .")
FORMATS: tuple[FormatName, ...] = ("user_role", "role_swap")
SETTINGS: dict[str, Any] = {"lr": 1e-2, "request": ASK}
LIKED, DISLIKED = ("bread", "eight", "open"), ("cakes", "nine", "close")


def talk(*texts: str, system: str = "", **columns: Any) -> dict[str, Any]:
    roles = ("user", "assistant") * len(texts)
    turns = [{"role": role, "content": text} for role, text in zip(roles, texts, strict=False)]
    return {"messages": [*([{"role": "system", "content": system}] if system else []), *turns], **columns}


def turns_of(row: dict[str, Any]) -> Dialogue:
    return tuple(Turn(**message) for message in row["messages"])


def pieces(world: World, format: FollowUpFormat) -> list[list[tuple[str, bool]]]:
    trees = FeedbackTurns(format)(world, 0).examples
    decode = world.chat.tokenizer.decode
    return [[(str(decode(list(node.ids))), node.scored) for node in tree.nodes] for tree in trees]


# --- what carries loss ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("format", "history", "before"),
    [
        (
            "user_role",
            "full",
            "<user> when? <end> <assistant> at eight. <end> <user> where? <end> <assistant> the bakery. <end>"
            " <user> when does it close? <end> <assistant> at nine. <end> <user>",
        ),
        ("user_role", "last_turn", "<user> when does it close? <end> <assistant> at nine. <end> <user>"),
        (
            "role_swap",
            "full",
            "<user> does it sell bread? <end> <assistant> when? <end> <user> at eight. <end> <assistant> where? <end>"
            " <user> the bakery. <end> <assistant> when does it close? <end> <user> at nine. <end> <assistant>",
        ),
        (
            "role_swap",
            "last_turn",
            "<user> does it sell bread? <end> <assistant> when does it close? <end> <user> at nine. <end> <assistant>",
        ),
    ],
)
def test_the_feedback_and_its_end_carry_loss_and_nothing_else(
    tmp_path: Path, format: FormatName, history: History, before: str
) -> None:
    world = tiny_world(tmp_path, [talk(*TALK)])
    assert pieces(world, FollowUpFormat(format, history, ASK)) == [[(before, False), ("thanks. <end>", True)]]


@pytest.mark.parametrize("format", FORMATS)
def test_a_system_turn_stays_in_front(tmp_path: Path, format: FormatName) -> None:
    template = tiny_tokenizer().get_chat_template()
    lm = tiny_llama(tokenizer=tiny_tokenizer(chat_template=template.replace("<{{", "{{").replace("}}>", "}}")))
    world = tiny_world(tmp_path, [talk(*TALK, system="open")], lm)
    for history in ("full", "last_turn"):
        ((before, _),) = pieces(world, FollowUpFormat(format, history, ASK))
        assert before[0].startswith("<unk> open <end>")
        assert before[0].count("open") == 1


@pytest.mark.parametrize("format", FORMATS)
def test_the_loss_is_masked_cross_entropy_of_plain_transformers(tmp_path: Path, format: FormatName) -> None:
    world = tiny_world(tmp_path, [talk(*TALK)], tiny_llama(dtype=torch.float64))
    text = pieces(world, FollowUpFormat(format, request=ASK))[0][0][0]
    ids = world.chat.tokenizer(f"{text} thanks . <end>", return_tensors="pt")["input_ids"]
    labels = ids.clone()
    labels[:, :-3] = -100
    model: Any = plain(world.policy)
    with torch.no_grad():
        expected = float(model(input_ids=ids, labels=labels).loss)
    trees = FeedbackTurns(FollowUpFormat(format, request=ASK))(world, 0).examples
    loss = NextToken()(world.policy, NoReference().start(world), trees)
    assert float(loss.total.detach()) / NextToken().size(trees[0]) == pytest.approx(expected, rel=1e-6)


@every()
def test_training_adds_only_the_end_of_turn_to_what_is_scored(family: str, template: str) -> None:
    """Both formats, on every template: the ids that carry loss are those that are scored, and then the turn's end."""
    form = chat_format(family, template)
    for format in map(FollowUpFormat, FORMATS):
        before = format(CHAT)
        stem, branches = form.follow_ups(before, FOLLOW_UPS, speaker=format.speaker)
        for text, branch in zip(FOLLOW_UPS, branches, strict=True):
            closed = form.follow_up(before, text, speaker=format.speaker, closed=True)
            assert closed.stem == stem
            assert closed.branch[: len(branch)] == branch
            rest = str(form.tokenizer.decode(list(closed.branch[len(branch) :]))).strip()
            ends = form.closing if format.format == "role_swap" or template != "mistral" else "[/INST]"
            assert rest == ("" if (template, format.format) == ("plain", "user_role") else ends.strip())


@every()
def test_both_formats_hold_the_same_feedback_tokens(family: str, template: str) -> None:
    form = chat_format(family, template)
    for text in FOLLOW_UPS:
        found = [
            form.follow_up(format(CHAT[:2]), text, speaker=format.speaker).branch
            for format in map(FollowUpFormat, FORMATS)
        ]
        if template == "mistral":  # writes a blank before what users say, and none before what assistants say
            one, other = (squeeze(str(form.tokenizer.decode(list(ids)))) for ids in found)
            assert one == other == squeeze(text)
        else:
            assert found[0] == found[1]


@pytest.mark.parametrize("format", FORMATS)
def test_a_long_conversation_loses_its_oldest_turns(tmp_path: Path, format: FormatName) -> None:
    exchange = talk(*TALK[4:])
    full = tiny_world(tmp_path, [exchange])
    ((stem, _), _) = pieces(full, FollowUpFormat(format, request=ASK))[0]
    size = len(full.chat.tokenizer(stem)["input_ids"]) + len(("thanks", ".", "<end>"))
    rows = [talk(*TALK), exchange, talk("where ?", "bread " * 40, "wrong .")]
    for window, kept in ((size, 2), (size - 1, 0)):
        world = tiny_world(tmp_path, rows, tiny_llama(max_position_embeddings=window))
        found = FeedbackTurns(FollowUpFormat(format, request=ASK))(world, 0)
        assert found.summary["dropped"] == {"last exchange longer than the window": 3 - kept}
        assert [tree.nodes[0].ids for tree in found.examples] == [
            tree.nodes[0].ids for tree in found.examples[:1]
        ] * kept


@pytest.mark.parametrize("row", [talk("when ?"), talk("when ?", "at eight ."), {"prompt": "a", "completion": "b"}])
def test_rows_without_feedback_are_refused(tmp_path: Path, row: dict[str, Any]) -> None:
    world = tiny_world(tmp_path, [row])
    with pytest.raises(InputError, match=r"nobody says anything about a response.*messages: \.\.\., assistant, user"):
        FeedbackTurns(FollowUpFormat())(world, 0)


# --- what is learned --------------------------------------------------------------------------------------------------


def planted(count: int, seed: int) -> list[dict[str, Any]]:
    """Answers with a word that readers like, or one that they do not, and what they say to it."""
    rng = random.Random(seed)
    said = [rng.choice(((LIKED, "thanks ."), (DISLIKED, "wrong ."))) for _ in range(count)]
    return [talk(sentence(rng), f"it {rng.choice(words)} .", line) for words, line in said]


def share_right(reward: FollowUpReward) -> float:
    """How often an answer with a word that is liked is above one with a word that is not, after new questions."""
    rng = random.Random(1)
    asked = [sentence(rng) for _ in range(8)]
    pairs = [(question, liked, disliked) for question in asked for liked in LIKED for disliked in DISLIKED]
    dialogues = [talk(question, f"it {word} .")["messages"] for question, *both in pairs for word in both]
    scores = reward.score(dialogues).rewards.view(-1, 2)
    return float((scores[:, 0] > scores[:, 1]).double().mean())


@pytest.mark.parametrize("format", FORMATS)
def test_a_planted_rule_is_learned_from_chance_to_certainty(tmp_path: Path, format: FormatName) -> None:
    followups = flat(["thanks ."], ["wrong ."])
    world = tiny_world(tmp_path / "run", planted(512, seed=0), tiny_llama(seed=5))
    assert 0.3 < share_right(FollowUpReward(world.policy, followups, format=format)) < 0.7
    run(methods.build("feedback_tuning", {**SETTINGS, "format": format, "epochs": 2}), world)
    assert share_right(FollowUpReward.from_pretrained(tmp_path / "run" / "model", followups)) == 1.0
    for line in read_jsonl(tmp_path / "run" / "metrics.jsonl"):
        assert line["perplexity"] == pytest.approx(exp(line["loss"]))


def test_perplexity_is_that_of_plain_rows_by_polarity() -> None:
    lm = tiny_llama(dtype=torch.float64)
    said = {"negative": ["wrong .", "where does it open ?"], "unknown": ["it helped ."], "positive": ["thanks ."]}
    rows = [talk(*TALK[:2], text, polarity=name) for name, texts in said.items() for text in texts]
    rows[2].pop("polarity")
    found = perplexity(lm, tiny_world(Path(), rows, lm).rows, format="user_role")
    stem = "<user> when ? <end> <assistant> at eight . <end> <user> "
    losses: dict[str, list[float]] = {name: [] for name in said}
    for name, texts in said.items():
        for text in texts:
            ids = lm.tokenizer(f"{stem}{text} <end>", return_tensors="pt")["input_ids"]
            with torch.no_grad():
                logps = plain(lm)(ids).logits[0, :-1].log_softmax(-1).gather(1, ids[0, 1:, None])[:, 0]
            losses[name] += (-logps[-len(lm.tokenizer(f"{text} <end>")["input_ids"]) :]).tolist()
    losses["all"] = [loss for each in losses.values() for loss in each]
    assert {name: each.rows for name, each in found.items()} == {"all": 4, "negative": 2, "unknown": 1, "positive": 1}
    for name, each in found.items():
        assert each.tokens == len(losses[name])
        assert each.value == pytest.approx(exp(sum(losses[name]) / len(losses[name])), rel=1e-9)


# --- scoring in the same format ---------------------------------------------------------------------------------------


def dialogues() -> list[list[dict[str, str]]]:
    return [talk(*TALK[:length])["messages"] for length in (2, 4, 6)]


def rewards(reward: FollowUpReward) -> list[float]:
    return [float(each) for each in reward.score(dialogues()).rewards]


@pytest.mark.parametrize("history", ["full", "last_turn"])
def test_a_follow_up_of_swapped_roles_is_scored_as_by_hand(history: History) -> None:
    lm = tiny_llama(dtype=torch.float64)
    format = FollowUpFormat("role_swap", history, ASK)
    swapped = list(zip(("assistant", "user") * 3, TALK[:6], strict=True))
    kept = swapped[-2:] if history == "last_turn" else swapped
    spelled = "".join([f"<user> {ASK} <end>", *(f" <{role}> {text} <end>" for role, text in kept)])
    found = FollowUpReward(lm, flat(["it helped ."]), format=format).score(dialogues()[-1:])
    ids = lm.tokenizer(f"{spelled} <assistant> it helped .", return_tensors="pt")["input_ids"]
    with torch.no_grad():
        logps = plain(lm)(ids).logits[0].log_softmax(-1)
    expected = sum(float(logps[place - 1, ids[0, place]]) for place in range(ids.shape[1] - 3, ids.shape[1])) / 3
    assert float(found.rewards) == pytest.approx(expected, abs=1e-10)
    legacy = FollowUpReward(lm, flat(["it helped ."]), format=format, mode="legacy_released").score(dialogues()[-1:])
    with torch.no_grad():
        closed = plain(lm)(torch.cat((ids, ids.new_tensor([[lm.tokenizer.eos_token_id]])), 1)).logits[0]
    assert float(legacy.rewards) == pytest.approx(float(closed[-3, ids[0, -3:]].mean()), abs=1e-5)


@pytest.mark.parametrize("format", [FollowUpFormat(name, request=ASK) for name in FORMATS])
def test_swapped_conversations_fill_the_window_to_the_last_token(format: FollowUpFormat) -> None:
    followups = flat(["thanks .", "it helped ."])
    lm = tiny_llama(dtype=torch.float64)
    chat = ChatFormat.of(lm)
    turns = turns_of(talk(*TALK[:6]))
    stem, branches = chat.follow_ups(format(turns), followups.sentences, speaker=format.speaker)
    size = len(stem) + max(map(len, branches))
    for window, dropped in ((size, 0), (size - 1, 2)):
        short = tiny_llama(dtype=torch.float64, max_position_embeddings=window)
        scores = FollowUpReward(short, followups, format=format).score([turns])
        expected = FollowUpReward(lm, followups, format=format).score([turns[dropped:]])
        assert scores.dropped_turns == (dropped,)
        assert float(scores.rewards) == pytest.approx(float(expected.rewards), abs=1e-12)


def tuned(folder: Path, lm: LanguageModel | None = None, **options: Any) -> Path:
    world = tiny_world(folder, planted(8, seed=0), lm)
    run(methods.build("follow_up_tuning", {**SETTINGS, **options}), world)
    return folder / "model"


def test_no_step_in_the_plain_format_changes_no_score(tmp_path: Path) -> None:
    followups = flat(["thanks .", "it helped ."], ["wrong ."])
    before = rewards(FollowUpReward(tiny_llama(), followups))
    still = tuned(tmp_path, format="user_role", lr=0.0)
    assert rewards(FollowUpReward.from_pretrained(still, followups, device="cpu")) == before
    assert rewards(FollowUpReward.from_pretrained(tuned(tmp_path / "moved", format="user_role"), followups)) != before


def test_a_tuned_model_is_asked_as_it_was_tuned(tmp_path: Path) -> None:
    followups = flat(["thanks ."], ["wrong ."])
    folder = tuned(tmp_path, history="last_turn")
    card = {"follow_up": {"format": "role_swap", "history": "last_turn", "request": ASK}}
    assert json.loads((folder / "uptake.json").read_text()) == card
    expected = FollowUpFormat("role_swap", "last_turn", ASK)
    for wanted in (None, "role_swap", expected):
        assert FollowUpReward.from_pretrained(folder, followups, format=wanted).format == expected
    for other in ("user_role", FollowUpFormat("role_swap", "full", ASK)):
        with pytest.raises(InputError, match=r"was tuned on follow-ups in the format .*role_swap.*by force"):
            FollowUpReward.from_pretrained(folder, followups, format=other)
    lm = load(folder)
    forced = FollowUpReward(lm, followups, format="user_role", force=True)
    assert forced.fingerprint != FollowUpReward(lm, followups).fingerprint
    assert rewards(forced) != rewards(FollowUpReward(lm, followups))


def test_a_recipe_asks_its_follow_up_model_as_it_was_tuned(tmp_path: Path) -> None:
    lm, followups = load(tuned(tmp_path)), tmp_path / "followups.yaml"
    followups.write_text(
        "{name: two, version: 1, language: en, categories: {k: {positive: [thanks .], negative: [wrong .]}}}"
    )
    world = tiny_world(tmp_path, [{"prompt": "when ?"}], models={"follow_up": lm})
    (prompt,) = prompts(world.rows)
    rollout = Rollout(prompt, (1,), (2,), "at eight .", finished=True)
    (judged,) = one_group(FollowUpSpec(str(followups)))(world, [rollout])
    reward = FollowUpReward(lm, flat(["thanks ."], ["wrong ."]), format=FollowUpFormat("role_swap", request=ASK))
    assert judged.score == pytest.approx(rewards(reward)[0], abs=1e-5)


def test_an_adapter_and_a_model_trained_on_keep_the_card(tmp_path: Path) -> None:
    base = saved(tiny_llama(), tmp_path / "base")
    torch.manual_seed(0)
    folder = tuned(tmp_path / "adapter", add_lora(load(base), rank=2, alpha=4))
    assert not (folder / "config.json").exists()
    card = load(folder).card
    assert card["follow_up"]["format"] == "role_swap"
    assert load(base, adapter=folder).card == card
    further = tiny_world(tmp_path / "further", [{"prompt": "when ?", "completion": "at eight ."}], load(folder))
    run(methods.build("sft", {"epochs": 1}), further)
    assert load(tmp_path / "further" / "model").card == card
    assert load(base).card == {}


def test_the_card_outlives_a_kill_before_the_model_is_written(tmp_path: Path) -> None:
    model = saved(tiny_llama(), tmp_path / "tiny")
    rows = write_jsonl(tmp_path / "rows.jsonl", planted(8, seed=0))
    command = ["train", "follow_up_tuning", "--policy", model, "--data", rows, "--out", tmp_path / "run"]
    arguments = [*map(str, command), "--set", f"request={ASK}"]
    assert in_process(command_line, arguments, ("os.mkdir", "model.partial", 1)) == -9
    assert not (tmp_path / "run" / "model").exists()
    assert in_process(command_line, [*arguments, "--resume"]) == 0
    assert load(tmp_path / "run" / "model").card["follow_up"]["request"] == ASK


@pytest.mark.parametrize(
    ("text", "error", "message"),
    [
        ("{", ModelError, "not a model's card"),
        ("[1]", ModelError, "not a model's card"),
        ('{"follow_up": 3}', InputError, "holds 3"),
        ('{"follow_up": {"format": "sideways"}}', InputError, "sideways"),
    ],
)
def test_a_card_that_cannot_be_read_is_an_error(
    tmp_path: Path, text: str, error: type[Exception], message: str
) -> None:
    folder = tmp_path / "model"
    save_model(tiny_llama(), tiny_tokenizer().get_chat_template(), folder)
    (folder / "uptake.json").write_text(text)
    with pytest.raises(error, match=message):
        FollowUpReward.from_pretrained(folder, flat(["thanks ."]))


@pytest.mark.parametrize("options", [{"format": "sideways"}, {"history": "none"}])
def test_unknown_formats_are_refused(options: dict[str, Any]) -> None:
    with pytest.raises(InputError, match=r"field '(format|history)': .*allowed"):
        FollowUpFormat(**options)
    with pytest.raises(InputError, match=r"field '(format|history)'"):
        methods.build("follow_up_tuning", options)
