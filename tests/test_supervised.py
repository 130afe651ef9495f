"""Supervised fine-tuning: which tokens carry loss, told by hand, and losses against plain Transformers."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from tiny import read_jsonl, tiny_llama, tiny_tokenizer, tiny_world, weights_of

from uptake import methods
from uptake.errors import InputError
from uptake.examples.conversations import Conversations, Turns
from uptake.models import TokenTree
from uptake.objective import NextToken
from uptake.reference import NoReference
from uptake.train.loop import run
from uptake.types import Dropped
from uptake.world import World

TALK = ("when does it open ?", "at eight .", "thanks .", "it helped .", "where ?")


def talk(*texts: str) -> dict[str, Any]:
    roles = ("user", "assistant") * len(texts)
    return {"messages": [{"role": role, "content": text} for role, text in zip(roles, texts, strict=False)]}


def trees(world: World, turns: Turns) -> Sequence[TokenTree]:
    return Conversations(turns)(world, 0).examples


def pieces(world: World, turns: Turns) -> list[list[tuple[str, bool]]]:
    decode = world.chat.tokenizer.decode
    return [[(str(decode(list(node.ids))), node.scored) for node in tree.nodes] for tree in trees(world, turns)]


def test_all_turns_carry_loss(tmp_path: Path) -> None:
    world = tiny_world(tmp_path, [talk(*TALK[:3])])
    assert pieces(world, "all") == [
        [("<user> when does it open? <end> <assistant> at eight. <end> <user> thanks. <end>", True)]
    ]


def test_responses_carry_loss_from_their_first_word_to_their_end(tmp_path: Path) -> None:
    expected = [
        ("<user> when does it open? <end> <assistant>", False),
        ("at eight. <end>", True),
        ("<user> thanks. <end> <assistant>", False),
        ("it helped. <end>", True),
    ]
    # What the user says behind the last response is not even read.
    for texts in (TALK[:4], TALK):
        assert pieces(tiny_world(tmp_path, [talk(*texts)]), "responses") == [expected]


def test_only_the_last_response_carries_loss(tmp_path: Path) -> None:
    row = {"prompt": "when ?", "completion": "at eight ."}
    assert pieces(tiny_world(tmp_path, [talk(*TALK[:4]), row]), "last") == [
        [
            ("<user> when does it open? <end> <assistant> at eight. <end> <user> thanks. <end> <assistant>", False),
            ("it helped. <end>", True),
        ],
        [("<user> when? <end> <assistant>", False), ("at eight. <end>", True)],
    ]


def plain_loss(world: World, texts: list[str], turns: Turns) -> float:
    """Cross-entropy of plain Transformers in one row a conversation, labels set where an assistant speaks."""
    total, count = torch.tensor(0.0), 0
    names = world.chat.tokenizer.convert_tokens_to_ids
    for text in texts:
        ids = torch.tensor([world.chat.tokenizer(text)["input_ids"]])
        labels, speaking = torch.full_like(ids, -100), False
        for place, token in enumerate(ids[0].tolist()):
            if speaking or turns == "all":
                labels[0, place] = token
            speaking = token == names("<assistant>") or (speaking and token != names("<end>"))
        wanted = int((labels[:, 1:] != -100).sum())
        model: Any = world.policy.model
        with torch.no_grad():
            total += model(input_ids=ids, labels=labels).loss * wanted
        count += wanted
    return float(total) / count


@pytest.mark.parametrize("turns", ["all", "responses"])
def test_the_loss_is_masked_cross_entropy_of_plain_transformers(tmp_path: Path, turns: Turns) -> None:
    world = tiny_world(tmp_path, [talk(*TALK), talk(*TALK[2:4])])
    texts = [
        "<user> when does it open ? <end> <assistant> at eight . <end> <user> thanks . <end>"
        " <assistant> it helped . <end>",
        "<user> thanks . <end> <assistant> it helped . <end>",
    ]
    texts[0] += " <user> where ? <end>" if turns == "all" else ""
    examples, objective = trees(world, turns), NextToken()
    loss = objective(world.policy, NoReference().start(world), examples).total / sum(map(objective.size, examples))
    assert float(loss.detach()) == pytest.approx(plain_loss(world, texts, turns), rel=1e-5)


def test_a_long_conversation_loses_its_oldest_turns_and_a_long_exchange_is_left_out(tmp_path: Path) -> None:
    long = "bread " * 20
    world = tiny_world(
        tmp_path, [talk(*TALK[:4]), talk(*TALK[:2]), talk("where ?", long)], tiny_llama(max_position_embeddings=16)
    )
    assert pieces(world, "all") == [
        [("<user> thanks. <end> <assistant> it helped. <end>", True)],
        [("<user> when does it open? <end> <assistant> at eight. <end>", True)],
    ]
    summary = Conversations("all")(world, 0).summary
    assert summary == {"samples": 3, "kept": 2, "dropped": {"last exchange longer than the window": 1}}


def test_what_follows_the_last_response_takes_no_room_in_the_window(tmp_path: Path) -> None:
    world = tiny_world(tmp_path, [talk("when ?", "at eight .", "bread " * 20)], tiny_llama(max_position_embeddings=16))
    assert pieces(world, "responses") == [[("<user> when? <end> <assistant>", False), ("at eight. <end>", True)]]


def test_rows_that_are_no_conversation_to_imitate_are_refused(tmp_path: Path) -> None:
    pair = tiny_world(tmp_path, [{"prompt": "when ?", "chosen": "at eight .", "rejected": "where ?"}])
    with pytest.raises(InputError, match="kind Preference"):
        trees(pair, "all")
    question = tiny_world(tmp_path, [{"prompt": "when ?"}])
    assert len(trees(question, "all")) == 1
    with pytest.raises(InputError, match="no response"):
        trees(question, "responses")


@pytest.mark.parametrize("turns", ["responses", "last"])
def test_what_the_assistant_opens_with_is_no_response(tmp_path: Path, turns: Turns) -> None:
    opened = {"messages": [{"role": "assistant", "content": "at eight ."}, {"role": "user", "content": "when ?"}]}
    data = Conversations(turns)(tiny_world(tmp_path, [opened, talk(*TALK[:2])]), 0)
    assert (len(data.examples), data.summary["dropped"][Dropped.NO_WEIGHT]) == (1, 1)


@pytest.mark.parametrize("turns", ["all", "responses", "last"])
def test_a_response_that_is_labeled_bad_is_not_imitated(tmp_path: Path, turns: Turns) -> None:
    rows = [{"prompt": "when ?", "completion": text, "label": text == "at eight ."} for text in TALK[1:4]]
    world = tiny_world(tmp_path, rows)
    data = Conversations(turns)(world, 0)
    assert (data.summary["samples"], data.summary["dropped"][Dropped.LABELED_BAD]) == (3, 2)
    assert pieces(world, turns) == pieces(tiny_world(tmp_path, [talk("when ?", "at eight .")]), turns)


def test_a_template_that_changes_earlier_responses_is_refused(tmp_path: Path) -> None:
    template = (
        "{% for message in messages %}<{{ message.role }}> "
        "{{ 'where' if message.role == 'assistant' and not loop.last else message.content }} <end> {% endfor %}"
        "{% if add_generation_prompt %}<assistant>{% endif %}"
    )
    lm = tiny_llama(tokenizer=tiny_tokenizer(chat_template=template))
    with pytest.raises(InputError, match=r"the template changes earlier turns: expected .*eight.* found .*where"):
        trees(tiny_world(tmp_path, [talk(*TALK[:4])], lm), "responses")


def test_training_lowers_the_loss_of_plain_transformers(tmp_path: Path) -> None:
    world = tiny_world(tmp_path / "run", [talk(*TALK[:4]), talk("where ?", "bread " * 100)])
    text = "<user> when does it open ? <end> <assistant> at eight . <end> "
    text += "<user> thanks . <end> <assistant> it helped . <end>"
    before = plain_loss(world, [text], "responses")
    run(methods.build("sft", {"epochs": 20, "lr": 0.02, "batch_size": 1}), world)
    losses = [line["loss"] for line in read_jsonl(tmp_path / "run/metrics.jsonl")]
    assert losses[0] == pytest.approx(before, rel=1e-5)
    assert plain_loss(world, [text], "responses") < 0.1 * before
    summary = json.loads((tmp_path / "run/rounds/0-0/summary.json").read_text())
    assert summary["dropped"] == {"last exchange longer than the window": 1}


def test_bf16_takes_nearly_the_step_of_fp32(tmp_path: Path) -> None:
    moved = []
    for precision in ("fp32", "bf16"):
        world = tiny_world(tmp_path / precision, [talk(*TALK), talk(*TALK[2:4])])
        before = weights_of(world.policy)
        recipe = methods.build("sft", {"turns": "all", "epochs": 1, "precision": precision, "optimizer": "rmsprop"})
        run(recipe, world)
        after = weights_of(world.policy)
        moved.append(torch.cat([(after[name] - before[name]).flatten() for name in before]))
    assert float(torch.cosine_similarity(*moved, dim=0)) > 0.9
    assert not torch.equal(*moved)
