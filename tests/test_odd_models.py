"""Models that are odd as real ones are: every command works with them, or says in one line what is wrong."""

import re
from collections.abc import Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import torch
from tiny import WORDS, read_jsonl, saved, tiny_llama, tiny_tokenizer, write_jsonl
from tiny_cli import Cli, sets
from tiny_creatures import Habits, creature, digit_tokenizer
from tokenizers import normalizers
from transformers import PreTrainedTokenizerFast

from uptake.data.template import PLAIN_TEMPLATE
from uptake.errors import ModelError
from uptake.models import LanguageModel, load, prepare
from uptake.sampling import PromptIds, Sampling, sample
from uptake.types import Prompt, Turn

PAIRS = [
    {"prompt": f"{one} ?", "chosen": f"at {two} .", "rejected": f"it {two} ."}
    for one, two in [("when", "eight"), ("where", "nine"), ("does", "bread"), ("the", "cakes")]
]
SYSTEM = [{"role": "system", "content": "the bakery ."}]
BRIEF = "{prompt} A {first} B {second} Say one.\nBetter="
TURN = "<{{ m.role }}>{{ m.content }}<s>"
TEMPLATE = f"{{% for m in messages %}}{TURN}{{% endfor %}}{{% if add_generation_prompt %}}<assistant>{{% endif %}}"
NO_SYSTEM = "{% if messages[0].role == 'system' %}{{ raise_exception('no system turns here') }}{% endif %}"
SHORT = sets({"max_new_tokens": 6, "batch_size": 2, "lr": 1e-3})
FOLLOW_UPS = sets({"followups": "followups.yaml", "n": 3})

# Every command that loads a model, with MODEL for its path.
RATED = ("--followups", "followups.yaml")
TRAINED: Mapping[str, Sequence[str]] = {
    "dpo": ("pairs.jsonl",),
    "reward_model": ("pairs.jsonl",),
    "kto": ("rated.jsonl",),
    "supervised": ("chats.jsonl",),
    "follow_up_tuning": ("chats.jsonl",),
    "token_reward_model": ("edits.jsonl",),
    "flr": ("prompts.jsonl", "--set", "followups=followups.yaml"),
    "flr_kto": ("prompts.jsonl", "--set", "followups=followups.yaml"),
    "oaif": ("prompts.jsonl", "--judge", "length"),
    "ppo": ("prompts.jsonl", "--reward", "length"),
    "fine_grained_ppo": ("prompts.jsonl", "--reward", "token_reward:MODEL"),
}
COMMANDS: Mapping[str, Sequence[str]] = {
    "score": ("score", "answered.jsonl", "--model", "MODEL", "--out", "out.jsonl", *RATED),
    "mine": ("mine", "prompts.jsonl", "--policy", "MODEL", "--out", "out.jsonl"),
    "mine-logs": ("mine-logs", "chats.jsonl", "--model", "MODEL", "--out", "out.jsonl", *RATED),
    "judge": ("judge", "pairs.jsonl", "--model", "MODEL", "--out", "out.jsonl"),
    "bench": ("bench", "fed", "--data", "data", "--model", "MODEL", "--reward", "direct", "--out", "out"),
    "discover": ("discover", "chats.jsonl", "--model", "MODEL", "--out", "out.yaml", *RATED),
    "calibrate": ("calibrate", "pairs.jsonl", "--model", "MODEL", "--out", "out.yaml", *RATED),
    "edit": ("edit", "pairs.jsonl", "--editor", "model", "--judge", "none", "--model", "MODEL", "--out", "out.jsonl"),
    "eval": (
        *("eval", "prompts.jsonl", "--policy", "MODEL", "--against", "MODEL", "--judge", "length"),
        *("--out", "out"),
    ),
    "can-judge": ("can-judge", "pairs.jsonl", "--model", "MODEL", *RATED),
    **{f"check {name}": ("check", name, "--policy", "MODEL", "--data", *more) for name, more in TRAINED.items()},
    **{
        f"train {name}": ("train", name, "--policy", "MODEL", "--out", "run", "--data", *more)
        for name, more in TRAINED.items()
    },
}


@pytest.fixture
def rows(uptake: Cli) -> Cli:
    """A folder with rows for every command."""
    turns = [
        [{"role": "user", "content": each["prompt"]}, {"role": "assistant", "content": each["chosen"]}]
        for each in PAIRS
    ]
    answer = [{"role": "user", "content": "thanks ."}]
    write_jsonl(Path("pairs.jsonl"), PAIRS * 5)
    write_jsonl(Path("prompts.jsonl"), [{"prompt": each["prompt"]} for each in PAIRS])
    write_jsonl(Path("answered.jsonl"), [{"messages": each} for each in turns])
    write_jsonl(Path("chats.jsonl"), [{"messages": each + answer} for each in turns])
    write_jsonl(Path("rated.jsonl"), [{"messages": each, "label": number < 2} for number, each in enumerate(turns)])
    edits = [{"prompt": each["prompt"], "completion": each["rejected"], "edited": each["chosen"]} for each in PAIRS]
    write_jsonl(Path("edits.jsonl"), edits)
    write_jsonl(Path("system.jsonl"), [{"prompt": [*SYSTEM, *each[:1]]} for each in turns])
    write_jsonl(Path("system_chats.jsonl"), [{"messages": SYSTEM + each + answer} for each in turns])
    Path("brief.txt").write_text(BRIEF)
    Path("data/fed").mkdir(parents=True)
    heard = {
        "context": "User: when ?",
        "response": "System: at eight .",
        "system": "Meena",
        "annotations": {"Overall": [2]},
    }
    write_jsonl(Path("data/fed/fed_data.jsonl"), [heard] * 4)
    return uptake


# --- folders that hold no model, or half of one -----------------------------------------------------------------------


def without_weights(folder: Path) -> str:
    (saved(tiny_llama(), folder) / "model.safetensors").unlink()
    return "no causal language model could be loaded: Error no file named model.safetensors"


def without_anything(folder: Path) -> str:
    folder.mkdir()
    return "no model in this folder (allowed: a folder with config.json or adapter_config.json)"


def without_some_rows(folder: Path) -> str:
    """The tokenizer has four words that the model was never resized for."""
    saved(tiny_llama(), folder)
    tokenizer = tiny_tokenizer((*WORDS, "jam", "tea", "rolls", "pie"))
    tokenizer.save_pretrained(folder)
    count = len(tokenizer)
    return f"its tokenizer has {count} tokens and its embedding {count - 4} rows: none for 'jam', 'tea', 'rolls' ..."


@pytest.mark.parametrize("name", COMMANDS)
def test_what_is_no_model_is_one_line_on_every_command(name: str, rows: Cli, tmp_path: Path) -> None:
    for number, broken in enumerate((without_weights, without_anything, without_some_rows)):
        expected = broken(tmp_path / f"odd{number}")
        said = rows.fails(*(part.replace("MODEL", f"odd{number}") for part in COMMANDS[name]))
        assert said.startswith(f"odd{number}: {expected}")


@pytest.mark.parametrize(
    "command",
    [
        "eval prompts.jsonl --policy ./nowhere --against empty --reward follow_up --model empty --out new",
        "eval prompts.jsonl --policy ./nowhere --against empty --judge model --model empty --out new",
        "train oaif --policy empty --model judge=./nowhere --data prompts.jsonl --out new",
        "edit pairs.jsonl --editor model --model editor=empty --judge model --model judge=./nowhere --out new.jsonl",
    ],
)
def test_a_model_that_is_not_there_is_said_before_another_is_loaded(command: str, rows: Cli, tmp_path: Path) -> None:
    """A large one takes minutes. The other one here has no weights, which would be complained of if it were read."""
    without_weights(tmp_path / "empty")
    assert rows.fails(*command.split()).startswith("./nowhere: no such folder")


def test_a_classifier_with_more_tokens_than_rows_is_refused(rows: Cli, tmp_path: Path) -> None:
    rows(
        "train",
        "reward_model",
        "--policy",
        saved(tiny_llama(), tmp_path / "model"),
        "--data",
        "pairs.jsonl",
        "--out",
        "rm",
        *SHORT[1:],
    )
    tiny_tokenizer((*WORDS, "jam")).save_pretrained("rm/model")
    said = rows.fails("score", "answered.jsonl", "--reward", "classifier:rm/model", "--out", "out.jsonl")
    assert said.startswith("rm/model: its tokenizer has ")


def test_a_special_token_without_a_row_may_stand_unused(tmp_path: Path) -> None:
    """As in models whose tokenizer knows marks for images, or had a token for padding added."""
    tokenizer = tiny_tokenizer()
    model = tiny_llama(tokenizer=tokenizer).base
    tokenizer.add_special_tokens({"additional_special_tokens": ["<image>"]})
    assert prepare(model, tokenizer).tokens == len(tokenizer) == model.config.vocab_size + 1
    tokenizer.chat_template = str(tokenizer.chat_template) + "<image>"
    with pytest.raises(ModelError, match="none for '<image>'"):
        prepare(model, tokenizer)
    other = tiny_tokenizer()
    other.add_special_tokens({"eos_token": "<eos>"})
    with pytest.raises(ModelError, match="none for '<eos>'"):
        prepare(model, other)


# --- more rows than tokens --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("temperature", [0.0, 1.0])
def test_a_row_that_is_no_token_is_never_drawn(temperature: float) -> None:
    """Though it is the likeliest by far; what is drawn has the shares of the model without these rows."""
    whole = tiny_llama()
    count, width = whole.vocabulary, whole.config.hidden_size
    padded: Any = tiny_llama(tokenizer=whole.tokenizer).base
    padded.resize_token_embeddings(count + 5, mean_resizing=False)
    with torch.no_grad():
        padded.lm_head.weight[count:] = 40 * torch.randn(5, width, generator=torch.Generator().manual_seed(0))
    asked = [PromptIds(Prompt((Turn("user", "when ?"),), key="when"), (3, 4, 5))]
    how = Sampling(n=8, temperature=temperature, top_p=1.0, max_new_tokens=12)
    found, expected = (sample(lm, asked, how, ()) for lm in (prepare(padded, whole.tokenizer), whole))
    assert [one.response_ids for one in found] == [one.response_ids for one in expected]
    assert all(one.logps == pytest.approx(other.logps, abs=1e-4) for one, other in zip(found, expected, strict=True))


# --- templates --------------------------------------------------------------------------------------------------------


def base_tokenizer() -> PreTrainedTokenizerFast:
    tokenizer = tiny_tokenizer()
    tokenizer.chat_template = None
    return tokenizer


def test_a_base_model_is_said_to_be_read_under_the_plain_template(
    rows: Cli, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    saved(tiny_llama(tokenizer=base_tokenizer()), tmp_path / "base")
    line = "base brings no chat template; the plain one is used: 'User: ...' and 'Assistant: ...' lines"
    for name, count in (("train dpo", 1), ("edit", 1), ("eval", 2)):
        caplog.clear()
        _, out, _ = rows.run(*(part.replace("MODEL", "base") for part in COMMANDS[name]))
        assert (out + caplog.text).count(line) == count
    assert load("run/model").tokenizer.chat_template == PLAIN_TEMPLATE


def test_a_template_that_forbids_system_turns_is_named_with_the_row(rows: Cli, tmp_path: Path) -> None:
    plain = tiny_tokenizer()
    strict = tiny_tokenizer(chat_template=NO_SYSTEM + str(plain.chat_template))
    saved(tiny_llama(tokenizer=strict), tmp_path / "strict")
    saved(tiny_llama(), tmp_path / "plain")
    refused = "the chat template refuses a conversation of system, user{}: no system turns here"
    told = f"system.jsonl:1: {refused.format('')} (allowed: rows without a system turn, where that is what it refuses)"
    _, _, error = rows.run("mine", "system.jsonl", "--policy", "strict", "--out", "out.jsonl", *FOLLOW_UPS)
    assert f"error: {told}" in error
    # The follow-up model reads what the policy has answered, and no row at all.
    given = ("--policy", "plain", "--model", "follow_up=strict", "--set", "keep_unfinished=true", *FOLLOW_UPS)
    _, _, error = rows.run("mine", "system.jsonl", *given, "--out", "out.jsonl")
    assert re.search(r"dropped: cannot be read \(\d+; the chat template refuses", error)
    assert refused.format(", assistant") in error
    said = rows.fails("mine-logs", "system_chats.jsonl", "--model", "strict", "--out", "logs.jsonl", *RATED)
    assert said.startswith("system_chats.jsonl: nothing is left to write (")
    assert refused.format(", assistant") in said


# --- digits in pieces, and answers that say nothing ------------------------------------------------------------------


def in_pieces(lm: LanguageModel) -> LanguageModel:
    """The model under a tokenizer that has no token for a digit."""
    spelled = normalizers.Sequence([normalizers.Replace("1", "an"), normalizers.Replace("2", "bt")])
    lm.tokenizer.backend_tokenizer.normalizer = spelled
    return lm


def asked_of(name: str, model: str) -> list[str]:
    """A command with the model as a judge by a brief of a few tokens."""
    by = ("--judge", "model", "--judge-set", "instructions=brief.txt", "--model")
    commands: Mapping[str, Sequence[str]] = {
        "judge": ("judge", "pairs.jsonl", *by, model, "--out", "out.jsonl"),
        "eval": ("eval", "prompts.jsonl", *by, model, "--policy", "one", "--against", "other", "--out", "out"),
        "check": ("check", "oaif", "--data", "prompts.jsonl", "--policy", "one", *by, f"judge={model}", *SHORT),
        "train": (
            "train",
            "oaif",
            "--data",
            "prompts.jsonl",
            "--policy",
            "one",
            *by,
            f"judge={model}",
            *SHORT,
            "--out",
            "run",
        ),
        "can-judge": ("can-judge", "pairs.jsonl", "--model", model, "--instructions", "brief.txt", *RATED),
    }
    return [*commands[name]]


@pytest.fixture(scope="module")
def digit_models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two models that answer at random, and one that says each of some habits after the cue."""
    folder = tmp_path_factory.mktemp("digits")
    for seed, name in enumerate(("one", "other")):
        saved(tiny_llama(seed, tokenizer=digit_tokenizer(TEMPLATE)), folder / name)
    habits: Mapping[str, Habits] = {
        "digits": {"=": {"Ġ": 0.9}, "Ġ": {"1": 0.6, "2": 0.3}},
        "always_1": {"=": {"1": 0.98, "2": 0.01}},
        "neither": {"=": {"R": 0.6, "S": 0.3}},
    }
    for name, each in habits.items():
        saved(creature(each, TEMPLATE), folder / name)
    saved(in_pieces(creature({}, TEMPLATE)), folder / "pieces")
    return folder


@pytest.fixture
def judges(rows: Cli, digit_models: Path) -> Cli:
    """Rows, and those models beside them."""
    for folder in digit_models.iterdir():
        Path(folder.name).symlink_to(folder)
    return rows


def test_a_tokenizer_that_cuts_digits_judges_after_a_blank(judges: Cli) -> None:
    judges(*asked_of("judge", "digits"))
    assert [row["p_by_order"] for row in read_jsonl(Path("out.jsonl"))] == [
        pytest.approx([2 / 3, 1 / 3], abs=1e-3)
    ] * 20


def test_digits_in_pieces_judge_nothing(judges: Cli) -> None:
    """Only `can-judge` goes on, since a model may judge in other ways."""
    for name in ("judge", "eval", "check", "train"):
        said = judges.fails(*asked_of(name, "pieces"))
        assert said.startswith("pieces: after the cue 'Better=', 1 and 2 are not single tokens that differ: ")
    assert "1 and 2 are not single tokens" in judges(*asked_of("can-judge", "pieces"))


def test_a_judge_that_always_answers_1_is_said_to_go_by_place(judges: Cli) -> None:
    line = "this judge goes by the place of a response, not by its text: both orders agree in 0% of"
    for name in ("judge", "check", "can-judge"):
        assert line in " ".join(judges(*asked_of(name, "always_1")).split())
    said = judges.fails(*asked_of("train", "always_1"))
    assert line in said
    assert "allow_position_bias=true" in said


def test_a_judge_that_says_neither_is_refused_before_the_run(judges: Cli) -> None:
    line = "this judge gives no valid verdict on {0} pairs: neither 1 nor 2 ({0})"
    assert line.format(8) in judges(*asked_of("check", "neither"))
    assert line.format(32) in judges.fails(*asked_of("train", "neither"))
    assert "no pair could be judged; the first: " in judges.fails(*asked_of("judge", "neither"))


# --- a model that repeats the question --------------------------------------------------------------------------------


def test_a_model_that_repeats_the_question_is_counted(rows: Cli, tmp_path: Path) -> None:
    question, turn = "Why so?", ">"
    chain = [turn, *("Ġ" if letter == " " else letter for letter in question), "<s>"]
    habits = {one: {other: 0.9999999} for one, other in pairwise(chain)}
    saved(creature(habits, TEMPLATE, max_position_embeddings=4096), tmp_path / "echo")
    write_jsonl(Path("asked.jsonl"), [{"prompt": question}, {"prompt": question, "n": 2}])
    write_jsonl(
        Path("answered.jsonl"), [{"prompt": question, "completion": "Because he said so, and no more than that."}]
    )
    policy, longer = ("--policy", "echo", "--set", "max_new_tokens=12"), ("--set", "batch_size=2")
    said = rows.run("mine", "asked.jsonl", *policy, *FOLLOW_UPS, "--out", "out.jsonl")[2]
    assert "no training example is left; dropped: duplicate (5), fewer than two candidates (1)" in said
    said = rows.run("train", "flr", "--data", "asked.jsonl", *policy, *longer, *FOLLOW_UPS, "--out", "flr")[2]
    assert "no training example is left; dropped: duplicate (5), fewer than two candidates (1)" in said
    said = rows.run("train", "oaif", "--data", "asked.jsonl", *policy, *longer, "--judge", "length", "--out", "oaif")[2]
    assert "no training example is left; dropped: equal responses (2)" in said
    edit = (
        "edit",
        "answered.jsonl",
        "--editor",
        "model",
        "--judge",
        "none",
        "--model",
        "echo",
        "--out",
        "better.jsonl",
    )
    said = rows.run(*edit)[2]
    assert "no edit can be written: length 1; see better.rejects.jsonl" in said
