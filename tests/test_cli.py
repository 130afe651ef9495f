"""The command line: what every command does."""

import json
import os
import re
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from safetensors.torch import load_file
from tiny import (
    answered_records,
    command_line,
    in_process,
    pair_records,
    prompt_records,
    read_jsonl,
    saved,
    tiny_llama,
    write_jsonl,
)
from tiny_cli import Cli, sets

from uptake import __version__, methods

MINING = {
    "n": 3, "temperature": 1.0, "top_p": 1.0, "max_new_tokens": 6, "keep_unfinished": True,
    "min_margin_quantile": 0.0, "max_length_ratio": 100.0, "min_category_agreement": 0.0,
}  # fmt: skip
FAST = {"lr": 0.01, "batch_size": 2, "warmup": 1}
# PEFT still asks Transformers by an old name.


@pytest.fixture(scope="session")
def judge(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return saved(tiny_llama(1), tmp_path_factory.mktemp("models") / "judge")


def test_score_answers(uptake: Cli, model: Path) -> None:
    rows = [{**row, "id": index} for index, row in enumerate(answered_records(20))]
    write_jsonl(Path("in.jsonl"), rows)
    out = uptake(
        "score", "in.jsonl", "--model", model, "--out", "out.jsonl", "--followups", "followups.yaml", "--logps"
    )
    assert "20 responses in 20 rows -> out.jsonl" in out
    scored = read_jsonl(Path("out.jsonl"))
    assert [each["id"] for each in scored] == list(range(20))
    assert [len(each["logps"]) for each in scored] == [6] * 20
    assert all(each["reward"] == pytest.approx(sum(each["by_category"].values()) / 2) for each in scored)
    assert sorted(path.name for path in Path().iterdir()) == ["followups.yaml", "in.jsonl", "out.jsonl"]
    mean = sum(each["reward"] for each in scored) / 20
    assert f"{mean:+.4f}" in out


def test_score_preferences(uptake: Cli, model: Path) -> None:
    write_jsonl(Path("in.jsonl"), pair_records(12))
    out = uptake(
        "score", "in.jsonl", "--model", model, "--out", "out.csv", "--followups", "followups.yaml", "--limit", 11
    )
    assert "22 responses in 11 rows" in out
    assert "by length alone" in out
    header = Path("out.csv").read_text().splitlines()[0].split(",")
    assert {"chosen_reward", "rejected_reward", "chosen_by_category", "followups"} < set(header)
    assert "chosen_logps" not in header


def test_score_goes_on_where_it_was_killed(uptake: Cli, model: Path) -> None:
    """A planted figure in the journal shows up in the output: what the journal holds is not scored again."""
    write_jsonl(Path("in.jsonl"), answered_records(40))
    arguments = ["score", "in.jsonl", "--model", str(model), "--followups", "followups.yaml"]
    uptake(*arguments, "--out", "whole.jsonl")
    assert (
        in_process(command_line, [*arguments, "--out", "out.jsonl"], ("os.rename", "out.jsonl", 1)) == -signal.SIGKILL
    )
    journal = Path("out.jsonl.journal.jsonl")
    lines = journal.read_bytes().splitlines(keepends=True)
    assert not Path("out.jsonl").exists()
    first = json.loads(lines[1])
    first["result"][0]["reward"] = 123.0
    # The last line is torn, the first after the header carries the mark.
    journal.write_bytes(b"".join([lines[0], json.dumps(first).encode() + b"\n", *lines[2:]])[:-30])
    uptake(*arguments, "--out", "out.jsonl")
    found, whole = read_jsonl(Path("out.jsonl")), read_jsonl(Path("whole.jsonl"))
    assert found[0]["reward"] == 123.0
    assert found[1:] == whole[1:]
    assert not journal.exists()


def test_a_journal_of_other_scores_is_not_used(uptake: Cli, model: Path) -> None:
    write_jsonl(Path("in.jsonl"), answered_records(3))
    arguments = ["score", "in.jsonl", "--model", str(model), "--followups", "followups.yaml"]
    assert (
        in_process(command_line, [*arguments, "--out", "out.jsonl"], ("os.rename", "out.jsonl", 1)) == -signal.SIGKILL
    )
    uptake(*arguments, "--out", "out.jsonl", "--reward-set", "reduction=sum")
    uptake(*arguments, "--out", "sum.jsonl", "--reward-set", "reduction=sum")
    assert Path("out.jsonl").read_bytes() == Path("sum.jsonl").read_bytes()


def test_drop_bad_leaves_out_and_counts(uptake: Cli, model: Path) -> None:
    good = answered_records(3)
    bad: list[dict[str, Any]] = [
        {"prompt": "when ?"},
        {"prompt": "when ?", "completion": " "},
        {"prompt": "when ?", "completion": "bread " * 200},
        {"x": 1},
    ]
    write_jsonl(Path("in.jsonl"), [good[0], *bad[:2], good[1], *bad[2:], good[2]])
    out = uptake(
        "score", "in.jsonl", "--model", model, "--out", "out.jsonl", "--followups", "followups.yaml", "--drop-bad"
    )
    assert "4 rows were left out" in out
    write_jsonl(Path("good.jsonl"), good)
    uptake("score", "good.jsonl", "--model", model, "--out", "alone.jsonl", "--followups", "followups.yaml")
    rewards, alone = ([each["reward"] for each in read_jsonl(Path(name))] for name in ("out.jsonl", "alone.jsonl"))
    assert rewards == pytest.approx(alone, abs=1e-5)


def test_nothing_but_bad_rows(uptake: Cli, model: Path) -> None:
    write_jsonl(Path("in.jsonl"), [{"prompt": "when ?", "completion": "bread " * 200}] * 2)
    options = ["--model", model, "--out", "out.jsonl", "--followups", "followups.yaml", "--drop-bad"]
    code, _, error = uptake.run("score", "in.jsonl", *options)
    assert (code, Path("out.jsonl").exists()) == (2, False)
    assert "in.jsonl: no row could be scored" in error


def test_mine_then_train_then_eval_then_report(uptake: Cli, model: Path, judge: Path) -> None:
    write_jsonl(Path("prompts.jsonl"), prompt_records(6))
    options = [*sets(MINING), "--set", "followups=followups.yaml"]
    out = uptake(
        "mine", "prompts.jsonl", "--policy", model, "--model", f"follow_up={judge}", "--out", "pairs.jsonl", *options
    )
    pairs = read_jsonl(Path("pairs.jsonl"))
    assert f"{len(pairs)} pairs -> pairs.jsonl" in out
    assert len(pairs) > 3
    assert all(pair["margin"] > 0 and pair["token_ids"]["chosen"] for pair in pairs)
    assert json.loads(Path("pairs.jsonl.summary.json").read_text())["pairs"] == len(pairs)
    assert not Path("pairs.jsonl.work").exists()
    out = uptake("train", "dpo", "--policy", model, "--data", "pairs.jsonl", "--out", "run", *sets(FAST))
    assert f"model: {Path('run/model')}" in out
    assert Path("run/report.html").is_file()
    sampling = ["--max-new-tokens", 5, "--followups", "followups.yaml"]
    out = uptake(
        "eval",
        "prompts.jsonl",
        "--policy",
        "run/model",
        "--against",
        model,
        "--reward",
        "follow_up",
        "--model",
        judge,
        "--out",
        "run",
        *sampling,
    )
    assert "win rate" in out
    assert json.loads(Path("run/evaluation.json").read_text())["prompts"] == 6
    uptake("report", "run", "--out", "page.html")
    assert "win rate" in Path("page.html").read_text().lower()


def test_train_follow_up_likelihood(uptake: Cli, model: Path, judge: Path) -> None:
    write_jsonl(Path("prompts.jsonl"), prompt_records(4))
    options = {**MINING, **FAST, "epochs": 1, "followups": "followups.yaml"}
    Path("run.yaml").write_text(yaml.safe_dump({"method": "flr", "data": "prompts.jsonl", "options": options}))
    more = ["--config", "run.yaml", "--model", f"follow-up={judge}", "--set", "epochs=2"]
    uptake("train", "--policy", model, "--out", "run", *more)
    recipe = yaml.safe_load(Path("run/recipe.yaml").read_text())
    update = recipe["Recipe"]["stages"][0]["Stage"]["update"]["Optimization"]
    assert (update["epochs"], update["lr"]) == (2, 0.01)
    # The method has its own name in the report, by whatever name it was asked for.
    assert "Uptake \N{MIDDLE DOT} follow-up likelihood</p>" in Path("run/report.html").read_text()


def test_train_an_adapter(uptake: Cli, model: Path) -> None:
    """The adapter switched off is the reference, and the folder holds the adapter alone, which can be scored with."""
    write_jsonl(Path("pairs.jsonl"), pair_records(4))
    uptake("train", "dpo", "--policy", model, "--data", "pairs.jsonl", "--out", "run", "--lora", 2, *sets(FAST))
    assert "AdapterOff" in Path("run/recipe.yaml").read_text()
    assert all("lora" in name for name in load_file("run/model/adapter_model.safetensors"))
    assert read_jsonl(Path("run/metrics.jsonl"))[0]["loss"] == pytest.approx(0.693147, abs=1e-5)
    write_jsonl(Path("in.jsonl"), answered_records(2))
    uptake("score", "in.jsonl", "--model", "run/model", "--out", "out.jsonl", "--followups", "followups.yaml")
    assert len(read_jsonl(Path("out.jsonl"))) == 2


def test_train_against_another_reference(uptake: Cli, model: Path, judge: Path) -> None:
    named = f"reference={judge}"
    write_jsonl(Path("pairs.jsonl"), pair_records(4))
    uptake("train", "dpo", "--policy", model, "--data", "pairs.jsonl", "--out", "run", "--model", named, *sets(FAST))
    assert "Given" in Path("run/recipe.yaml").read_text()
    assert read_jsonl(Path("run/metrics.jsonl"))[0]["loss"] != pytest.approx(0.693147, abs=1e-3)
    message = uptake.fails(
        "check", "dpo", "--policy", model, "--data", "pairs.jsonl", "--model", named, "--set", "reference=initial"
    )
    assert "nothing here uses a model called 'reference'" in message
    assert "ready" in uptake("check", "dpo", "--policy", model, "--data", "pairs.jsonl", "--model", named)


def test_check_before_a_start(uptake: Cli, model: Path) -> None:
    records = pair_records(5)
    write_jsonl(Path("pairs.jsonl"), records)
    before = uptake.files()
    out = uptake(
        "check", "dpo", "--policy", model, "--data", "pairs.jsonl", "--set", "batch_size=2", "--set", "epochs=3"
    )
    assert uptake.files() == before
    facts = {
        line.split("│")[1].strip(): line.split("│")[2].strip() for line in out.splitlines() if line.count("│") == 3
    }
    assert facts["rows"] == "5"
    assert facts["optimizer steps"] == "9"
    assert facts["loss before step 1"] == "0.693147, 0.693147"
    assert "'<end>'" in facts["stop token"]
    assert records[0]["chosen"].replace(" .", ".").replace(" ?", "?") in out
    assert "ready" in out


def test_check_of_a_method_that_samples(uptake: Cli, model: Path) -> None:
    write_jsonl(Path("prompts.jsonl"), prompt_records(3))
    out = uptake("check", "flr", "--policy", model, "--data", "prompts.jsonl")
    assert "sampled when the run starts" in out


def test_list_and_show_methods(uptake: Cli) -> None:
    listed = uptake("methods")
    assert all(name in listed for name in methods.names())
    shown = uptake("methods", "show", "flr", "--set", "n=4")
    assert "Follow-up likelihood as reward" in shown
    text = shown[shown.index("Recipe:") :]
    assert yaml.safe_load(text) == yaml.safe_load(str(methods.build("flr", {"n": 4})))


SHOWN_TWICE = """
import sys
from uptake import cli
names = sys.argv[1:]
for name in names:
    sys.argv = ["uptake", "methods", "show", name]
    try:
        cli.main()
    except SystemExit as end:
        if end.code:
            raise
"""


def test_texts_are_utf8_whatever_the_locale(tmp_path: Path) -> None:
    """A method's file, and what is printed of it and of one that is gone, under a locale that knows ASCII only."""
    source = Path(methods.__file__).with_name("dpo.py").read_text(encoding="utf-8")
    lines = [line for line in source.replace("Direct", "Führend", 1).splitlines() if not line.startswith("ALIASES")]
    (tmp_path / "mine.py").write_text("\n".join(lines), encoding="utf-8")
    ascii_only = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
    command = [sys.executable, "-c", SHOWN_TWICE, "./mine.py", "./gone_\u00fc.py"]
    done = subprocess.run(command, cwd=tmp_path, env={**os.environ, **ascii_only}, capture_output=True, check=False)
    assert done.returncode == 2
    assert "Führend" in done.stdout.decode()
    assert "gone_" in done.stderr.decode()


def test_train_with_the_method_of_the_architecture_page(uptake: Cli, model: Path) -> None:
    """The example of the page is a method from outside: a file that `uptake train` takes by its path."""
    page = (Path(__file__).parents[1] / "docs" / "architecture.md").read_text()
    (example,) = re.findall(r"```python\n(.*?ALIASES.*?)```", page, re.DOTALL)
    Path("best_of_n.py").write_text(example)
    write_jsonl(Path("prompts.jsonl"), prompt_records(2))
    options = sets({"n": 2, "max_new_tokens": 6, "lr": 1e-3, "batch_size": 2, "followups": "followups.yaml"})
    said = uptake("train", "./best_of_n.py", "--policy", model, "--data", "prompts.jsonl", "--out", "run", *options)
    assert "report: run/report.html" in said
    assert "signal: Best" in Path("run/recipe.yaml").read_text()
    assert len(read_jsonl(Path("run/metrics.jsonl"))) == 1
    assert "Best-of-n imitation" in uptake("methods", "show", "./best_of_n.py")


def test_threads_that_wait_do_so_asleep(uptake: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    """Unless the user says how they are to wait."""
    for name in ("GOMP_SPINCOUNT", "KMP_BLOCKTIME", "OMP_WAIT_POLICY"):
        monkeypatch.setenv(name, "")
        monkeypatch.delenv(name)
    uptake("--version")
    assert (os.environ["GOMP_SPINCOUNT"], os.environ["KMP_BLOCKTIME"]) == ("5000", "1")
    monkeypatch.delenv("GOMP_SPINCOUNT")
    monkeypatch.setenv("OMP_WAIT_POLICY", "ACTIVE")
    uptake("--version")
    assert "GOMP_SPINCOUNT" not in os.environ


def test_version_and_help(uptake: Cli) -> None:
    assert uptake("--version").strip() == f"uptake {__version__}"
    assert uptake("-h") == uptake("--help")
    assert "--model" in uptake("score", "-h")


def test_what_nobody_foresaw_is_one_line_and_a_file(uptake: Cli, model: Path) -> None:
    page = (Path(__file__).parents[1] / "docs" / "architecture.md").read_text()
    (example,) = re.findall(r"```python\n(.*?ALIASES.*?)```", page, re.DOTALL)
    Path("own.py").write_text(example.replace("valid = [", "valid = {}['nothing'] or ["))
    write_jsonl(Path("prompts.jsonl"), prompt_records(2))
    options = sets({"n": 2, "max_new_tokens": 6, "batch_size": 2, "followups": "followups.yaml"})
    code, _, error = uptake.run(
        "train", "./own.py", "--policy", model, "--data", "prompts.jsonl", "--out", "run", *options
    )
    assert code == 70
    assert "Traceback" not in error
    (line,) = [each for each in error.splitlines() if "nobody foresaw" in each]
    assert "KeyError: 'nothing': a fault of Uptake, unless code of your own raised it" in line
    written = Path(line.rpartition(" ")[2])
    assert written.read_text().startswith("Traceback")
    written.unlink()
