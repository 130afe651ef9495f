"""Agents' logs through the commands: tool turns in the history, calls and thoughts in what is learned."""

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from tiny import read_jsonl, saved, tiny_llama, write_jsonl
from tiny_cli import Cli
from tiny_templates import ASKED, AT_EIGHT, CALL, CALLED, QWEN, RESULT, SYSTEM, THANKS, TOOLS
from tiny_tokenizers import TEMPLATES, tokenizer_of
from transformers import PreTrainedTokenizerFast

from uptake.data import ChatFormat, to_row
from uptake.examples.conversations import Conversations
from uptake.examples.preferences import PreferenceRows
from uptake.losses.pairwise import logistic
from uptake.models import LanguageModel, branches, load, score_trees
from uptake.support.notes import clear_notes
from uptake.types import Dropped, Pair
from uptake.world import World

WRONG = {"role": "assistant", "content": "At nine."}
OTHER = {**CALLED, "tool_calls": [{**CALL, "function": {"name": "opening", "arguments": {"shop": "library"}}}]}
LOG = [SYSTEM, ASKED, CALLED, RESULT, AT_EIGHT, THANKS]
PAIRS: list[dict[str, Any]] = [
    {"prompt": [SYSTEM, ASKED], "chosen": [CALLED], "rejected": [OTHER], "tools": TOOLS},
    {"prompt": [SYSTEM, ASKED, CALLED, RESULT], "chosen": [AT_EIGHT], "rejected": [WRONG], "tools": TOOLS},
    {"chosen": [ASKED, CALLED, RESULT, AT_EIGHT], "rejected": [ASKED, CALLED, RESULT, WRONG], "tools": TOOLS},
]


@pytest.fixture(autouse=True)
def _forget() -> Iterator[None]:
    clear_notes()
    yield
    clear_notes()


def chat_tokenizer(template: str) -> PreTrainedTokenizerFast:
    trained = tokenizer_of("byte_level").backend_tokenizer
    return PreTrainedTokenizerFast(
        tokenizer_object=trained, eos_token="<|im_end|>", pad_token="</s>", chat_template=template
    )


def model(folder: Path, template: str = QWEN) -> Path:
    return saved(tiny_llama(tokenizer=chat_tokenizer(template), max_position_embeddings=1024), folder)


def parity_models() -> tuple[LanguageModel, LanguageModel]:
    """Policy and reference, under the template without the line break after the last end of turn."""
    after = "{%- endgeneration %}\n{{- '\n' }}"
    assert after in QWEN
    template = QWEN.replace(after, "{%- endgeneration %}{%- if not loop.last %}{{- '\n' }}{%- endif %}")
    policy, reference = (
        tiny_llama(seed, tokenizer=chat_tokenizer(template), max_position_embeddings=1024) for seed in (0, 1)
    )
    return policy, reference


def dpo_loss(policy: LanguageModel, reference: LanguageModel) -> tuple[float, Sequence[Pair]]:
    """The DPO loss of the pairs, by Uptake's scorer and kernel, and the pairs as ids."""
    world = World(policy, ChatFormat.of(policy), list(map(to_row, PAIRS)), {}, Path("unused"), 0)
    pairs = PreferenceRows()(world, 0).examples
    trees = [branches(each.prompt_ids, each.chosen_ids, each.rejected_ids) for each in pairs]
    with torch.no_grad():
        ours, theirs = (
            torch.stack(
                [torch.stack([logps.double().sum() for logps in tree]) for tree in score_trees(lm, trees, 4096)]
            )
            for lm in (policy, reference)
        )
    ratios = ours - theirs
    return float(logistic(ratios[:, 0] - ratios[:, 1], beta=0.1).mean()), pairs


@pytest.mark.parametrize("method", ["dpo", "kto", "reward_model"])
def test_calls_and_thoughts_are_learned(uptake: Cli, method: str) -> None:
    path, pairs = model(uptake.folder / "m"), write_jsonl(uptake.folder / "pairs.jsonl", PAIRS)
    options = {"batch_size": 2, "lr": 1e-3}
    arguments = [f"--set={name}={value}" for name, value in options.items()]
    said = uptake("train", method, "--policy", path, "--data", pairs, "--out", "run", *arguments)
    assert "which the chat template" not in said
    assert "report:" in said


def test_a_log_is_scored_and_mined(uptake: Cli) -> None:
    path = model(uptake.folder / "m")
    rows = [{"messages": LOG[:-1], "tools": TOOLS}, {"messages": [SYSTEM, ASKED, CALLED], "tools": TOOLS}]
    said = uptake("score", write_jsonl(uptake.folder / "in.jsonl", rows), "--model", path, "--out", "out.jsonl")
    assert "2 responses in 2 rows" in said
    scored = read_jsonl(uptake.folder / "out.jsonl")
    assert [[*row["prompt"], *row["completion"]] for row in scored] == [row["messages"] for row in rows]
    assert all(row["tools"] == TOOLS for row in scored)
    bare = write_jsonl(uptake.folder / "bare.jsonl", [{"messages": rows[0]["messages"]}])
    uptake("score", bare, "--model", path, "--out", "without.jsonl")
    (without,) = read_jsonl(uptake.folder / "without.jsonl")
    assert without["reward"] != scored[0]["reward"]  # the tools are read
    logs = [{"messages": [*LOG, AT_EIGHT, {"role": "user", "content": text}], "tools": TOOLS} for text in ("Yes", "No")]
    said = uptake(
        *("mine-logs", write_jsonl(uptake.folder / "logs.jsonl", logs), "--out", "mined.jsonl"),
        *("--by", "actual_follow_up", "--low", 0.4, "--high", 0.6, "--model", path),
    )
    mined = read_jsonl(uptake.folder / "mined.jsonl")
    assert {json.dumps(row["completion"]) for row in mined} == {json.dumps([AT_EIGHT])}


def test_calls_that_differ_are_read_each_by_itself(uptake: Cli) -> None:
    """The responses have no words but their calls, and get the same reaction."""
    path = model(uptake.folder / "m")
    yes = {"role": "user", "content": "Yes"}
    logs = [{"messages": [SYSTEM, ASKED, called, yes], "tools": TOOLS} for called in (CALLED, OTHER)]
    both = write_jsonl(uptake.folder / "both.jsonl", logs)
    uptake("mine-logs", both, "--keep", "scored", "--any-language", "--model", path, "--out", "both.out.jsonl")
    one, other = read_jsonl(uptake.folder / "both.out.jsonl")
    assert one["reward_actual_follow_up"] != other["reward_actual_follow_up"]
    alone = write_jsonl(uptake.folder / "alone.jsonl", logs[1:])
    uptake("mine-logs", alone, "--keep", "scored", "--any-language", "--model", path, "--out", "alone.out.jsonl")
    (expected,) = read_jsonl(uptake.folder / "alone.out.jsonl")
    assert other["reward_actual_follow_up"] == pytest.approx(expected["reward_actual_follow_up"], abs=1e-5)


def test_what_no_model_read_is_on_the_last_line(uptake: Cli) -> None:
    path = model(uptake.folder / "m", TEMPLATES["chatml"] or "")
    rows = [{"messages": [SYSTEM, ASKED, AT_EIGHT]}, {"prompt": "Why?", "completion": "So<|im_end|>"}]
    said = uptake("score", write_jsonl(uptake.folder / "in.jsonl", rows), "--model", path, "--out", "out.jsonl")
    assert said.splitlines()[-2:] == [
        "1 messages hold reasoning_content, which the chat template does not read",
        "1 texts spell out a special token, and are read as these letters",
    ]
    clear_notes()
    said = uptake(
        *("--spelled-tokens", "tokens", "score", "in.jsonl", "--model", path, "--out", "tokens.jsonl"),
    )
    assert "spell out" not in said
    one, other = (read_jsonl(uptake.folder / name)[1]["reward"] for name in ("out.jsonl", "tokens.jsonl"))
    assert one != other


def test_a_turn_of_weight_0_teaches_nothing(uptake: Cli) -> None:
    """The example of a conversation in which one response has no weight is the one without its loss."""
    lm = load(model(uptake.folder / "m"))
    row = {"messages": [ASKED, {**AT_EIGHT, "weight": 0}, THANKS, WRONG]}
    world = World(lm, ChatFormat.of(lm), [to_row(row)], {}, uptake.folder / "run", 0)
    (tree,) = Conversations("responses")(world, 0).examples
    learned = [lm.tokenizer.decode(list(node.ids)) for node in tree.nodes if node.scored]
    assert learned == ["<think>\n\n</think>\n\nAt nine.<|im_end|>"]


def test_a_conversation_without_weight_is_dropped_and_counted(uptake: Cli) -> None:
    rows = [{"messages": [ASKED, {**AT_EIGHT, "weight": 0}]}, {"messages": [ASKED, AT_EIGHT]}]
    lm = load(model(uptake.folder / "m"))
    world = World(lm, ChatFormat.of(lm), list(map(to_row, rows)), {}, uptake.folder / "run", 0)
    data = Conversations("responses")(world, 0)
    assert (len(data.examples), data.summary["dropped"][Dropped.NO_WEIGHT]) == (1, 1)


def test_calls_that_no_template_writes_have_no_score(uptake: Cli) -> None:
    path = model(uptake.folder / "m", TEMPLATES["chatml"] or "")
    rows = write_jsonl(uptake.folder / "in.jsonl", [{"messages": [ASKED, CALLED]}])
    message = uptake.fails("score", rows, "--model", path, "--out", "out.jsonl")
    assert "in.jsonl:1: the chat template does not write tool calls" in message
