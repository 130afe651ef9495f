"""Odd options, tokenizers, adapters and run folders end in one line that says what is wrong, each by its kind."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tiny import answered_records, pair_records, saved, tiny_llama, tiny_tokenizer, write_jsonl
from tiny_cli import Cli

from uptake.data import ChatFormat, Journal
from uptake.errors import InputError, UptakeError
from uptake.models import add_lora
from uptake.support.damage import undamaged
from uptake.support.method_files import read_method
from uptake.town import CHAT_TEMPLATE
from uptake.train.run_folder import RunLog

TRAIN = "train dpo --policy MODEL --data pairs.jsonl --out run --set batch_size=2"
SCORE = "score in.jsonl --model MODEL --out out.jsonl --followups followups.yaml"
LONG = "a" * 300


@pytest.fixture(autouse=True)
def rows(uptake: Cli) -> None:
    write_jsonl(Path("in.jsonl"), answered_records(2))
    write_jsonl(Path("pairs.jsonl"), pair_records(2))


@pytest.mark.parametrize(
    ("command", "message"),
    [
        (f"{SCORE} --device meta", "field 'device': unknown device 'meta' (allowed: auto, cpu, cuda"),
        (f"{SCORE} --device mps", "field 'device': unknown device 'mps'"),
        (f"{SCORE} --device cpu:1", "field 'device': unknown device 'cpu:1'"),
        (f"{TRAIN} --lora 1000000000", "field 'rank': 1000000000 (allowed: a rank from 1 to 16, the full one"),
        (f"{SCORE} --limit {10**30}", f"field 'limit': limit {10**30}"),
        (f"score {LONG}.jsonl --model MODEL --out out.jsonl", f"{LONG}.jsonl: File name too long"),
        (f"score in.jsonl --reward length --out {LONG}.jsonl", "File name too long"),
        (f"score in.jsonl --model {LONG} --out out.jsonl", LONG),
        (f"{TRAIN} --set beta=2024-13-45", "field 'beta': "),
        (f"{TRAIN} --set beta=0x_", "field '--set': 'beta=0x_' is not YAML: invalid literal"),
        (f"{TRAIN} --set beta=!!bool", "is not YAML"),
        (f"{TRAIN} --set beta={'[' * 2000}", "is not YAML"),
        ("methods show ./odd.py", "odd.py: does not parse"),
        (f"check dpo --policy MODEL --data pairs.jsonl --memory {'9' * 400}", "field '--memory': '999"),
    ],
)
def test_one_line(command: str, message: str, uptake: Cli, model: Path) -> None:
    Path("odd.py").write_bytes(b"ALIASES = ()\n\x00")
    said = uptake.fails(*command.replace("MODEL", str(model)).split())
    assert message in said
    assert len(said) < 3_000


@pytest.mark.parametrize("seed", [-1, 2**32, 10**30])
@pytest.mark.parametrize("command", [TRAIN, "annotate pairs.jsonl --out out.jsonl", "check dpo --config run.yaml"])
def test_seeds_are_those_that_every_library_takes(command: str, seed: int, uptake: Cli, model: Path) -> None:
    Path("run.yaml").write_text(f"method: dpo\npolicy: {model}\ndata: pairs.jsonl\nseed: {seed}\n")
    words = command.replace("MODEL", str(model)).split()
    code, _, error = uptake.run(*words, *([] if "--config" in words else ["--seed", seed]))
    assert (code, "seed" in error, "Traceback" in error) == (2, True, False)


def test_an_argument_that_is_no_text(uptake: Cli) -> None:
    odd = os.fsdecode(b"score\xff")
    assert uptake.fails(odd).startswith(r"argument 1 is not UTF-8 text: 'score\udcff'")


def test_what_the_machine_refuses(uptake: Cli) -> None:
    """The memory of a process is a file, whose beginning no system gives."""
    Path("memory.jsonl").symlink_to("/proc/self/mem")
    code, _, error = uptake.run("score", "memory.jsonl", "--reward", "length", "--out", "out.jsonl")
    assert (code, error.count("\n"), "Input/output error" in error) == (2, 1, True)


def test_a_full_disk_behind_what_is_printed() -> None:
    with Path("/dev/full").open("w") as full:
        command = [sys.executable, "-m", "uptake", "--version"]
        ended = subprocess.run(command, stdout=full, stderr=subprocess.PIPE, text=True, check=False)
    assert (ended.returncode, ended.stderr) == (2, "error: No space left on device\n")


def test_several_chat_templates(uptake: Cli, tmp_path: Path) -> None:
    """Which of them is meant only their owner knows; "default" is the one that Transformers would take."""
    templates = {"tool_use": CHAT_TEMPLATE, "rag": CHAT_TEMPLATE.replace("user", "asker")}
    tokenizer = tiny_tokenizer()
    tokenizer.chat_template = templates
    lm = tiny_llama(tokenizer=tokenizer)
    folder = str(saved(lm, tmp_path / "several"))
    said = uptake.fails(*SCORE.replace("MODEL", folder).split())
    assert said == (
        "field '--chat-template': the tokenizer has several chat templates, and none is called 'default' "
        "(allowed: uptake --chat-template NAME: rag, tool_use)"
    )
    uptake("--chat-template", "tool_use", *SCORE.replace("MODEL", folder).split())
    assert "UPTAKE_CHAT_TEMPLATE" not in os.environ
    assert ChatFormat.of(lm, template="rag").template == templates["rag"]
    tokenizer.chat_template = {**templates, "default": CHAT_TEMPLATE}
    assert ChatFormat.of(tokenizer).template == CHAT_TEMPLATE


def test_the_token_of_an_unknown_character_ends_no_turn() -> None:
    """It is special, and no template writes it."""
    turns = "{% for m in messages %}<{{ m['role'] }}> {{ m['content'] }} \u2603 <end> {% endfor %}"
    tokenizer = tiny_tokenizer(chat_template=turns + "{% if add_generation_prompt %}<assistant>{% endif %}")
    assert ChatFormat.of(tokenizer).closing == " \u2603 <end>"


def tokenizer_setting(name: str, value: Any) -> Callable[[Path], None]:
    def change(folder: Path) -> None:
        file = folder / "tokenizer_config.json"
        file.write_text(json.dumps({**json.loads(file.read_text()), name: value}))

    return change


def chat_template(folder: Path) -> None:
    for file in folder.glob("chat_template*"):
        file.unlink()
    tokenizer_setting("chat_template", 5)(folder)


ODD_FOLDERS: dict[str, Callable[[Path], object]] = {
    "a length that is a text": tokenizer_setting("model_max_length", "x"),
    "a template that is a number": chat_template,
    "a configuration that is a list": lambda folder: (folder / "config.json").write_text("[]"),
    "a configuration that nests": lambda folder: (folder / "config.json").write_text("[" * 9_000),
    "an adapter that is a list": lambda folder: (folder / "adapter_config.json").write_text("[1]"),
    "an adapter of half a character": lambda folder: (folder / "adapter_config.json").write_text('{"a": "\\ud800"}'),
    "a card of another form": lambda folder: (folder / "uptake.json").write_text("[1]"),
    "a tokenizer of another form": lambda folder: (folder / "tokenizer.json").write_text("{}"),
    "weights that are cut off": lambda folder: os.truncate(folder / "model.safetensors", 99),
}


@pytest.mark.parametrize("kind", ODD_FOLDERS)
def test_odd_model_folders(kind: str, uptake: Cli, model: Path) -> None:
    shutil.copytree(model, "odd")
    ODD_FOLDERS[kind](Path("odd"))
    uptake.fails(*SCORE.replace("MODEL", "odd").split())


def change_json(name: str, **changes: Any) -> Callable[[Path], object]:
    def change(folder: Path) -> None:
        (folder / name).write_text(json.dumps({**json.loads((folder / name).read_text()), **changes}))

    return change


def change_line(name: str, line: str) -> Callable[[Path], object]:
    return lambda folder: (folder / name).write_text(f"{line}\n")


ODD_RUNS: dict[str, tuple[Callable[[Path], object], str]] = {
    "limits": (change_json("run.json", limits={"policy": {"call": "x"}}), "run.json, limits: not what Uptake writes"),
    "other limits": (change_json("run.json", limits={"x": {}}), "run.json, limits: not what Uptake writes"),
    "metrics": (change_line("metrics.jsonl", '{"stage": 0}'), "metrics.jsonl, record 1: not what Uptake writes"),
    "steps": (change_line("metrics.jsonl", '{"step": [1]}'), "metrics.jsonl, record 1: not what Uptake writes"),
    "tokens": (change_line("metrics.jsonl", "[]"), "metrics.jsonl:1: found a list"),
    "recipe": (lambda folder: (folder / "recipe.yaml").write_bytes(b"\xff"), "recipe.yaml: cannot be read"),
}


@pytest.mark.parametrize("kind", ODD_RUNS)
def test_odd_runs(kind: str, uptake: Cli, model: Path) -> None:
    words = TRAIN.replace("MODEL", str(model)).split()
    uptake(*words)
    change, message = ODD_RUNS[kind]
    change(Path("run"))
    assert message in uptake.fails(*words, "--resume")


def test_an_odd_micro_batch(tmp_path: Path) -> None:
    (tmp_path / "run.json").write_text('{"micro_tokens": {"0": "many"}}')
    with pytest.raises(UptakeError, match=r"run\.json, micro_tokens: not what Uptake writes"):
        RunLog(tmp_path, 0).micro_tokens(0)


def test_a_journal_names_the_record_of_another_form(tmp_path: Path) -> None:
    path = write_jsonl(tmp_path / "a.jsonl", [{"a": 1}, {"b": 1}])
    with (
        Journal(path) as journal,
        pytest.raises(UptakeError, match=r"a\.jsonl, record 2: not what .* \(KeyError: 'a'\)"),
    ):
        journal.each(lambda record: record["a"])
    with pytest.raises(ZeroDivisionError), undamaged(path):  # not what damage raises: a fault of ours
        raise ZeroDivisionError


@pytest.mark.parametrize("aliases", ["5", "[1]", "'a'", "a()", "{'a': 1}"])
def test_aliases_that_are_no_names(aliases: str, tmp_path: Path) -> None:
    (tmp_path / "own.py").write_text(f"Config = build = None\nALIASES = {aliases}\n")
    with pytest.raises(InputError, match="field 'ALIASES': no names"):
        read_method(tmp_path / "own.py")


def test_ranks_end_where_the_weights_do() -> None:
    """Those of its layers are 24 by 16 or 16 by 16."""
    add_lora(tiny_llama(), rank=16)
    with pytest.raises(InputError, match=r"17 .*a rank from 1 to 16"):
        add_lora(tiny_llama(), rank=17)
