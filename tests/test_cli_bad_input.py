"""The command line: bad input gets one clear message that says where and what is allowed, and nothing is lost."""

import json
import resource
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
import torch
from tiny import (
    WORDS,
    answered_records,
    command_line,
    in_process,
    pair_records,
    read_jsonl,
    saved,
    tiny_llama,
    tiny_tokenizer,
    write_jsonl,
    written,
)
from tiny_cli import Cli, sets

FAST = {"lr": 0.01, "batch_size": 2, "warmup": 1}


Write = Callable[[Path], object]


def lines(*records: object) -> Write:
    return lambda path: path.write_text(
        "".join(f"{each if isinstance(each, str) else json.dumps(each)}\n" for each in records)
    )


GOOD = {"prompt": "when ?", "chosen": "at eight .", "rejected": "it ."}
TURNS = [
    {"role": "user", "content": "when ?"},
    {"role": "user", "content": "where ?"},
    {"role": "assistant", "content": "it ."},
]
BAD_PAIRS: dict[str, tuple[Write, str]] = {
    "broken JSON": (lines(GOOD, '{"prompt": "when ?", "cho'), "bad.jsonl:2: broken JSON"),
    "role order": (
        lines(GOOD, GOOD, {"chosen": TURNS, "rejected": TURNS}),
        "bad.jsonl:3, field 'chosen': turns out of order",
    ),
    "empty response": (lines(GOOD, {**GOOD, "rejected": ""}), "bad.jsonl:2, field 'rejected': the response is blank"),
    "missing column": (lines({"prompt": "when ?", "chosen": "it ."}), "bad.jsonl:1, field 'rejected': no such column"),
    "unknown columns": (lines({"question": "when ?"}), "bad.jsonl:1: no known row shape"),
    "one response": (lines({"prompt": "when ?", "completion": "it ."}), "bad.jsonl:1: this row has one response"),
    "no response": (lines({"prompt": "when ?"}), "bad.jsonl:1: this row has no response"),
    "too long": (lines(GOOD, {**GOOD, "chosen": "bread " * 200}), "bad.jsonl:2: prompt and response have "),
    "not an object": (lines(GOOD, "[1, 2]"), "bad.jsonl:2: found a list"),
    "no rows": (lines(), "bad.jsonl: no rows"),
}


@pytest.mark.parametrize("command", ["train", "check"])
@pytest.mark.parametrize("kind", BAD_PAIRS)
def test_bad_pairs(kind: str, command: str, uptake: Cli, model: Path) -> None:
    write, expected = BAD_PAIRS[kind]
    write(Path("bad.jsonl"))
    arguments = [
        command,
        "dpo",
        "--policy",
        model,
        "--data",
        "bad.jsonl",
        *(["--out", "run"] if command == "train" else []),
    ]
    code, _, error = uptake.run(*arguments)
    assert (code, "Traceback" in error) == (2, False)
    assert f"error: {expected}" in error
    assert kind == "broken JSON" or "(allowed: " in error
    assert not Path("run/model").exists()


BAD_ANSWERS: dict[str, tuple[Write, str]] = {
    "broken JSON": (lines(GOOD, "{"), "bad.jsonl:2: broken JSON"),
    "no response": (lines(GOOD, {"prompt": "when ?"}), "bad.jsonl:2: this row has no response"),
    "empty response": (
        lines({"prompt": "when ?", "completion": "  "}),
        "bad.jsonl:1, field 'completion': the response is blank",
    ),
    "too long": (
        lines(GOOD, {"prompt": "when ?", "completion": "bread " * 200}),
        "bad.jsonl:2: the last exchange takes ",
    ),
    "role order": (lines({"messages": TURNS}), "bad.jsonl:1, field 'messages': turns out of order"),
}


@pytest.mark.parametrize("kind", BAD_ANSWERS)
def test_bad_answers_to_score(kind: str, uptake: Cli, model: Path) -> None:
    write, expected = BAD_ANSWERS[kind]
    write(Path("bad.jsonl"))
    code, _, error = uptake.run(
        "score", "bad.jsonl", "--model", model, "--out", "out.jsonl", "--followups", "followups.yaml"
    )
    assert (code, "Traceback" in error) == (2, False)
    assert f"error: {expected}" in error
    assert not Path("out.jsonl").exists()


SHOW = ["methods", "show", "dpo"]
SCORE = ["score", "in.jsonl", "--model", "MODEL", "--out", "out.jsonl"]
EVAL = ["eval", "in.jsonl", "--policy", "nowhere", "--against", "nowhere", "--out", "in.jsonl/run"]
MINE = ["mine", "in.jsonl", "--policy", "MODEL", "--out", "out.jsonl"]


@pytest.mark.unchecked
@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (
            ["train", "dop", "--policy", "x", "--data", "x", "--out", "run"],
            "there is no method 'dop'; did you mean dpo?",
        ),
        ([*SHOW, "--set", "bta=1"], "field 'bta': this method has no such option; did you mean beta?"),
        ([*SHOW, "--set", "beta=-1"], "field 'beta': -1"),
        ([*SHOW, "--set", "beta"], "field '--set': 'beta' (allowed: name=value)"),
        ([*SHOW, "--set", "beta=[1"], "field '--set': 'beta=[1' is not YAML"),
        ([*SHOW, "--config", "options.yaml"], "options.yaml, field 'bta': this method has no such option"),
        ([*SHOW, "--config", "beta.yaml"], "beta.yaml, field 'beta': "),
        ([*SHOW, "--config", "beta.yaml", "--set", "beta=-2"], "field 'beta': -2"),
        ([*SHOW, "--config", "key.yaml"], "key.yaml, field 'optoins': no such key; did you mean options?"),
        ([*SHOW, "--config", "seed.yaml"], "seed.yaml, field 'seed': Input should be a valid integer, not 'one'"),
        ([*SHOW, "--config", "nothing.yaml"], "nothing.yaml: cannot be read as YAML"),
        (["score", "in.jsonl", "--model", "nowhere", "--out", "out.jsonl"], "nowhere: no tokenizer could be loaded"),
        (
            ["score", "in.jsonl", "--model", "MODEL", "--out", "out.txt"],
            "out.txt: unknown file format '.txt' (allowed: .jsonl",
        ),
        (["score", "missing.jsonl", "--model", "MODEL", "--out", "out.jsonl"], "missing.jsonl: no such file"),
        ([*SCORE, "--reward-set", "reduction=median"], "field 'reward': 'median' as 'reduction' of follow_up (allowed"),
        ([*SCORE, "--reward-set", "polarity=up"], "field 'reward': 'up' as 'polarity' of follow_up (allowed: 'both'"),
        (
            [*SCORE, "--reward-set", "mode=new"],
            "field 'reward': 'new' as 'mode' of follow_up (allowed: 'log_likelihood'",
        ),
        ([*SCORE, "--reward", "{sum: ["], "field '--reward': '{sum: [' is not YAML"),
        ([*SCORE, "--model", "MODEL"], "field '--model': "),
        ([*SCORE, "--dtype", "int3"], "field 'dtype': unknown dtype 'int3'"),
        ([*SCORE, "--device", "tpu9"], "field 'device': unknown device 'tpu9'"),
        ([*SCORE, "--followups", "options.yaml"], "options.yaml, field 'name': Field required"),
        ([*SCORE, "--limit", "0"], "field 'limit': limit 0"),
        ([*MINE, "--reward", "gpt"], "field 'reward': no reward 'gpt' (allowed: follow_up"),
        ([*MINE, "--reward-set", "model=x"], "field '--reward-set': not used without --reward"),
        ([*MINE, "--reward", "length", "--reward-set", "x=1"], "field 'reward': length has no setting 'x'"),
        ([*MINE, "--reward", "length", "--set", "reduction=sum"], "field 'reduction': for reward=follow_up only"),
        ([*MINE, "--set", "n=1"], "field 'n': Input should be greater"),
        ([*EVAL, "--reward", "follow_up", "--model", "nowhere"], "in.jsonl/run: cannot be written: Not a directory"),
        ([*EVAL, "--judge", "oracle"], "in.jsonl/run: cannot be written: Not a directory"),
        (["report", "missing"], "missing"),
    ],
)
def test_bad_arguments(arguments: Sequence[str], expected: str, uptake: Cli, model: Path) -> None:
    write_jsonl(Path("in.jsonl"), answered_records(2))
    Path("options.yaml").write_text("options: {bta: 1}\n")
    Path("beta.yaml").write_text("options: {beta: -1}\n")
    Path("key.yaml").write_text("optoins: {beta: 1}\n")
    Path("seed.yaml").write_text("seed: one\n")
    message = uptake.fails(*[str(model) if each == "MODEL" else each for each in arguments])
    assert message.startswith(expected)


NOWHERE = {
    "score": "score in.jsonl --model nowhere",
    "judge": "judge pairs.jsonl --model nowhere",
    "mine": "mine in.jsonl --policy nowhere",
    "mine-logs": "mine-logs in.jsonl --model nowhere",
    "edit": "edit pairs.jsonl --editor model --model editor=nowhere --judge none",
}


@pytest.mark.unchecked
@pytest.mark.parametrize("command", NOWHERE)
@pytest.mark.parametrize(
    ("more", "expected"),
    [
        ("--out here.jsonl", "here.jsonl: the output file exists"),
        ("--out folder.jsonl --overwrite", "folder.jsonl: this is a folder"),
        ("--out here.jsonl/x.jsonl", "here.jsonl/x.jsonl: cannot be written"),
        ("--out new.txt", "new.txt: unknown file format"),
        ("--out new.jsonl --limit 0", "field 'limit': limit 0"),
    ],
)
def test_mistakes_are_said_before_a_model_is_loaded(command: str, more: str, expected: str, uptake: Cli) -> None:
    """The model is nowhere to be found, and yet the message is about the mistake."""
    write_jsonl(Path("in.jsonl"), answered_records(2))
    write_jsonl(Path("pairs.jsonl"), pair_records(2))
    Path("here.jsonl").write_text("precious\n")
    Path("folder.jsonl").mkdir()
    arguments = NOWHERE[command].split()
    assert uptake.fails(*arguments, *more.split()).startswith(expected)
    arguments[1] = "missing.jsonl"
    assert uptake.fails(*arguments, "--out", "new.jsonl").startswith("missing.jsonl: no such file")


@pytest.mark.unchecked
@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ("calibrate in.jsonl --model nowhere --out here.yaml", "here.yaml: the output file exists"),
        ("calibrate in.jsonl --model nowhere --out new.txt", "new.txt: unknown file format"),
        ("discover in.jsonl --model nowhere --out here.yaml", "here.yaml: the output file exists"),
        ("discover in.jsonl --model nowhere --out new.jsonl", "new.jsonl: unknown file format"),
        ("show-tokens in.jsonl --model nowhere --page here.yaml", "here.yaml: the output file exists"),
        ("edit in.jsonl --editor model --model editor=nowhere --out new.jsonl", "field '--judge': no judge"),
        (
            "edit in.jsonl --editor model --model editor=nowhere --judge nobody --out new.jsonl",
            "field 'judge': no judge 'nobody'",
        ),
        ("bench fed --model nowhere --out new --limit 0", "field 'limit': 0"),
        ("bench fed --model nowhere --out here.yaml", "here.yaml/results.json: cannot be written"),
        ("bench fed --model nowhere --out new --reward nobody", "field 'reward': no reward 'nobody'"),
        ("train dpo --policy nowhere --data missing.jsonl --out new", "missing.jsonl: no such file"),
        ("train dpo --policy nowhere --data in.jsonl --out here.yaml", "here.yaml: this is a file"),
        ("train dpo --policy nowhere --data in.jsonl --out new --lora -1", "field 'lora': Input should be greater"),
        ("check dpo --policy nowhere --data missing.jsonl", "missing.jsonl: no such file"),
        (
            "eval in.jsonl --policy nowhere --against nowhere --judge model --out new",
            "field '--model': this needs a model called 'judge'",
        ),
        (
            "eval in.jsonl --policy nowhere --against nowhere --reward follow_up --judge-set a=1 --out new",
            "field '--judge-set': not used without --judge",
        ),
        (
            "eval in.jsonl --policy nowhere --against nowhere --judge oracle --followups here.yaml --out new",
            "field '--followups': not used with --judge",
        ),
        ("datasets shepherd --kind feedback --data nowhere --out here.jsonl", "here.jsonl: the output file exists"),
        ("corpus --data nowhere --out here.jsonl", "here.jsonl: the output file exists"),
    ],
)
def test_mistakes_of_one_command_before_a_model_is_loaded(arguments: str, expected: str, uptake: Cli) -> None:
    write_jsonl(Path("in.jsonl"), answered_records(2))
    for name in ("here.jsonl", "here.yaml"):
        Path(name).write_text("precious\n")
    assert uptake.fails(*arguments.split()).startswith(expected)


def test_an_output_that_exists_is_kept(uptake: Cli, model: Path) -> None:
    write_jsonl(Path("in.jsonl"), answered_records(2))
    Path("out.jsonl").write_text("precious\n")
    arguments = ["--out", "out.jsonl", "--limit", 1]
    message = uptake.fails("score", "in.jsonl", "--model", model, "--followups", "followups.yaml", *arguments)
    assert message == "out.jsonl: the output file exists (allowed: a new path, or --overwrite)"
    assert uptake.fails("mine", "in.jsonl", "--policy", model, *arguments).startswith(
        "out.jsonl: the output file exists"
    )
    uptake("score", "in.jsonl", "--model", model, "--followups", "followups.yaml", "--overwrite", *arguments)
    assert len(read_jsonl(Path("out.jsonl"))) == 1


def test_a_folder_that_holds_a_run_is_kept(uptake: Cli, model: Path) -> None:
    write_jsonl(Path("pairs.jsonl"), pair_records(2))
    arguments = ["train", "dpo", "--policy", model, "--data", "pairs.jsonl", "--out", "run"]
    uptake(*arguments)
    assert "run: this folder holds a run" in uptake.fails(*arguments)
    assert "another recipe" in uptake.fails(*arguments, "--resume", "--set", "beta=0.2")
    write_jsonl(Path("other.jsonl"), pair_records(3))
    assert "field 'rows'" in uptake.fails(*arguments[:5], "other.jsonl", *arguments[6:], "--resume")
    assert "field 'seed'" in uptake.fails(*arguments, "--resume", "--seed", 1)


def test_a_model_folder_without_weights(uptake: Cli, model: Path) -> None:
    write_jsonl(Path("in.jsonl"), answered_records(1))
    tiny_tokenizer().save_pretrained("empty")
    Path("empty/config.json").write_text((model / "config.json").read_text())
    message = uptake.fails(
        "score", "in.jsonl", "--model", "empty", "--out", "out.jsonl", "--followups", "followups.yaml"
    )
    assert message.startswith("empty: no causal language model could be loaded")


def test_no_end_of_turn_token(uptake: Cli, tmp_path: Path) -> None:
    """A template that ends the assistant's turn without a special token teaches no model to stop."""
    lm = tiny_llama(tokenizer=tiny_tokenizer())
    folder = saved(lm, tmp_path / "endless")
    tokenizer = tiny_tokenizer(
        chat_template="{% for m in messages %}{{ m['role'] }} : {{ m['content'] }} . {% endfor %}"
    )
    tokenizer.save_pretrained(folder)
    write_jsonl(Path("pairs.jsonl"), pair_records(2))
    assert "without a special token" in uptake.fails("check", "dpo", "--policy", folder, "--data", "pairs.jsonl")
    code, _, error = uptake.run("train", "dpo", "--policy", folder, "--data", "pairs.jsonl", "--out", "run")
    assert (code, "Traceback" in error, "without a special token" in error) == (2, False, True)


def test_two_tokenizers(uptake: Cli, model: Path, tmp_path: Path) -> None:
    other = saved(tiny_llama(tokenizer=tiny_tokenizer(WORDS[::-1])), tmp_path / "other")
    write_jsonl(Path("pairs.jsonl"), pair_records(2))
    arguments = ["dpo", "--policy", model, "--data", "pairs.jsonl", "--model", f"reference={other}"]
    assert "have different tokenizers, for example" in uptake.fails("check", *arguments)
    code, _, error = uptake.run("train", *arguments, "--out", "run")
    assert (code, "Traceback" in error) == (2, False)
    assert "different tokenizers, for example" in error


def test_not_a_number(uptake: Cli, tmp_path: Path) -> None:
    lm = tiny_llama()
    with torch.no_grad():
        lm.base.model.norm.weight.fill_(torch.nan)
    folder = saved(lm, tmp_path / "broken")
    write_jsonl(Path("in.jsonl"), answered_records(1))
    message = uptake.fails(
        "score", "in.jsonl", "--model", folder, "--out", "out.jsonl", "--followups", "followups.yaml"
    )
    assert "broken: the model gives not-a-number" in message


def test_training_that_runs_away_keeps_the_last_checkpoint(uptake: Cli, model: Path) -> None:
    write_jsonl(Path("pairs.jsonl"), pair_records(8))
    wild = sets({"lr": 1e30, "batch_size": 1, "warmup": 0, "clip": "null"})
    arguments = ["train", "dpo", "--policy", model, "--data", "pairs.jsonl", "--out", "run", "--save-every", 1, *wild]
    code, _, error = uptake.run(*arguments)
    assert (code, "Traceback" in error) == (2, False)
    assert "the weights were left as they were" in error
    assert list(Path("run/checkpoints").iterdir())
    assert not Path("run/model").exists()


# --- a full disk, and a real process ----------------------------------------------------------------------------------


def limited(arguments: Sequence[str], size: int) -> None:
    """Run `uptake` where no file may grow beyond `size` bytes, as on a disk that is full; messages go to errors.txt."""
    sys.stderr = Path("errors.txt").open("w", buffering=1)  # noqa: SIM115  # it stays for as long as the process
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, size))
    command_line(arguments)


def test_a_full_disk_while_scoring(uptake: Cli, model: Path) -> None:
    write_jsonl(Path("in.jsonl"), answered_records(40))
    Path("out.jsonl").write_text("precious\n")
    arguments = [
        "score",
        "in.jsonl",
        "--model",
        str(model),
        "--followups",
        "followups.yaml",
        "--out",
        "out.jsonl",
        "--overwrite",
    ]
    assert in_process(limited, arguments, 6000) == 2
    error = Path("errors.txt").read_text()
    assert "Traceback" not in error
    assert "out.jsonl.journal.jsonl: cannot be written: File too large" in error
    assert Path("out.jsonl").read_text() == "precious\n"
    assert len(read_jsonl(Path("out.jsonl.journal.jsonl"))) == 17
    assert in_process(command_line, arguments) == 0
    assert len(read_jsonl(Path("out.jsonl"))) == 40


@pytest.mark.parametrize("size", [600, 20_000])
def test_a_full_disk_while_training(size: int, uptake: Cli, model: Path) -> None:
    """The first files fail at the smaller size, checkpoints at the larger; resumed with room, nothing is amiss."""
    write_jsonl(Path("pairs.jsonl"), pair_records(6))
    arguments = ["train", "dpo", "--policy", str(model), "--data", "pairs.jsonl", "--save-every", "2", *sets(FAST)]
    uptake(*arguments, "--out", "whole")
    arguments += ["--out", "run"]
    assert in_process(limited, arguments, size) == 2
    error = Path("errors.txt").read_text()
    assert "Traceback" not in error
    assert "run/" in error
    assert "could not be written" in error or "cannot be written" in error
    assert not list(Path("run").rglob("*.partial"))
    assert in_process(command_line, [*arguments, "--resume"]) == 0
    names = ("metrics.jsonl", "model/model.safetensors")
    assert all(Path("run", name).read_bytes() == Path("whole", name).read_bytes() for name in names)


def test_a_real_process(uptake: Cli, model: Path) -> None:
    """The installed command prints nothing but its result, and a process nothing but the error on standard error."""
    write_jsonl(Path("in.jsonl"), answered_records(2))
    arguments = ["score", "in.jsonl", "--model", str(model), "--followups", "followups.yaml", "--out", "out.jsonl"]
    command = Path(sys.executable).with_name("uptake")
    done = subprocess.run([command, *arguments], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert "2 responses in 2 rows" in done.stdout
    assert in_process(written, Path(), command_line, arguments) == 2
    assert Path("out.txt").read_text() == ""
    refused = "error: out.jsonl: the output file exists (allowed: a new path, or --overwrite)\n"
    assert Path("error.txt").read_text() == refused
