"""What makes a run, or a result, the same one: contents and not names."""

import re
import shutil
import signal
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
from test_classifier import write_llama
from test_loop import FAST
from tiny import (
    answered_records,
    command_line,
    in_process,
    pair_records,
    read_jsonl,
    saved,
    tiny_llama,
    tiny_world,
    write_followups,
    write_jsonl,
)
from tiny_cli import Cli, sets

from uptake import methods
from uptake.annotators import question
from uptake.data.lock import FOLDER_LOCK
from uptake.errors import InputError
from uptake.recipe import EveryRow, Recipe
from uptake.train import identity
from uptake.train.run_folder import open_run
from uptake.types import Row
from uptake.world import World

TRAIN = ("train", "dpo", "--model", "reference=r", "--save-every", "2", *sets({**FAST, "epochs": 2}))
Change = Callable[[], Mapping[str, str] | None]  # of the files; what is given otherwise, by flag


def arguments(**changed: str) -> list[str]:
    flags = {"policy": "m", "data": "pairs.jsonl", "out": "run", **changed}
    return [*TRAIN, *(part for name, value in flags.items() for part in (f"--{name}", value))]


@pytest.fixture(scope="module")
def begun(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a whole run, and one that was killed after the first of its checkpoints."""
    folder = tmp_path_factory.mktemp("begun")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        saved(tiny_llama(), Path("m"))
        saved(tiny_llama(seed=1), Path("r"))
        write_jsonl(Path("pairs.jsonl"), [{**row, "note": n, "margin": 1.0} for n, row in enumerate(pair_records(8))])
        assert in_process(command_line, arguments(out="whole")) == 0
        moment = ("os.mkdir", "00000004.partial", 1)
        assert in_process(command_line, arguments(), moment) == -signal.SIGKILL
        (Path("run") / FOLDER_LOCK).unlink()
    return folder


@pytest.fixture
def there(begun: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of that folder to change."""
    shutil.copytree(begun, tmp_path / "there")
    monkeypatch.chdir(tmp_path / "there")
    return tmp_path / "there"


def renamed(old: str, new: str) -> None:
    Path(new).parent.mkdir(exist_ok=True)
    Path(old).rename(new)


def rewritten(change: Callable[[dict[str, Any]], dict[str, Any]]) -> None:
    write_jsonl(Path("pairs.jsonl"), map(change, read_jsonl(Path("pairs.jsonl"))))


def moved_model() -> dict[str, str]:
    renamed("m", "deep/n")
    return {"policy": "deep/n"}


def moved_run() -> dict[str, str]:
    renamed("run", "deep/run")
    return {"out": "deep/run"}


def moved_data() -> dict[str, str]:
    renamed("pairs.jsonl", "deep/others.jsonl")
    return {"data": "deep/others.jsonl"}


def one_column_less() -> None:
    rewritten(lambda row: {name: row[name] for name in row if name != "note"})


def unused_columns_otherwise() -> None:
    rewritten(lambda row: {**row, "more": [row["note"]], "note": None, "margin": 2.0})


SAME: Sequence[Change] = (
    *(lambda: {"policy": "./m"}, lambda: {"policy": str(Path("m").absolute())}),
    *(moved_model, moved_run, moved_data, one_column_less, unused_columns_otherwise),
)


@pytest.mark.parametrize("change", SAME)
def test_the_same_run_goes_on(change: Change, there: Path) -> None:
    changed = change() or {}
    assert in_process(command_line, [*arguments(**changed), "--resume"]) == 0
    run = Path(changed.get("out", "run"))
    for name in ("metrics.jsonl", "model/model.safetensors"):
        assert (run / name).read_bytes() == (there / "whole" / name).read_bytes()


def other_policy() -> None:
    saved(tiny_llama(seed=2), Path("m"))


def other_reference() -> None:
    saved(tiny_llama(seed=2), Path("r"))


def other_template() -> None:
    template = Path("m/chat_template.jinja")
    template.write_text(template.read_text() + "{# the same texts #}")


def other_response() -> None:
    rewritten(lambda row: {**row, "chosen": row["chosen"] + " ."})


def other_tokens() -> None:
    rewritten(lambda row: {**row, "token_ids": {"tokenizer": "another"}})


OTHER: Mapping[str, Change] = {
    r"field 'weights': .*other weights of the model 'policy': m, \w{16} there, m, \w{16} now": other_policy,
    r"field 'weights': .*other weights of the model 'reference': r, \w{16} there, r, \w{16} now": other_reference,
    r"field 'chat': .*another chat template": other_template,
    r"field 'rows': .*other rows: 8 rows, \w{16} there, 8 rows, \w{16} now": other_response,
    r"field 'rows': .*another column 'token_ids'": other_tokens,
}


@pytest.mark.parametrize(("message", "change"), OTHER.items())
def test_another_run_does_not_go_on(message: str, change: Change, begun: Path, uptake: Cli) -> None:
    shutil.copytree(begun, uptake.folder, dirs_exist_ok=True)
    change()
    assert re.search(message, uptake.fails(*arguments(), "--resume"))


# --- what a recipe names ----------------------------------------------------------------------------------------------


def judged(reward: Any) -> Recipe:
    return methods.build("follow_up_likelihood", {"reward": reward, "n": 2})


def begin(recipe: Recipe, world: World) -> None:
    """A run that has taken a step."""
    with open_run(recipe, world, False) as folder:
        (folder / "metrics.jsonl").write_text('{"step": 1}\n')


def go_on(recipe: Recipe, world: World) -> None:
    with open_run(recipe, world, True):
        pass


def test_a_set_that_a_recipe_names_may_move_and_may_not_change(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    path, world = str(write_followups(tmp_path)), tiny_world(tmp_path / "run", [])

    def summed(path: str, weight: float = 0.1) -> Recipe:
        terms = {"follow_up": {"followups": path}}, "length"
        return judged({"sum": [{"reward": reward, "weight": weight} for reward in terms]})

    begin(summed(path), world)
    Path(path).rename("moved.yaml")
    go_on(summed("./moved.yaml"), world)
    Path("moved.yaml").write_text(Path("moved.yaml").read_text().replace("wrong .", "bread ."))
    with pytest.raises(InputError, match=r"field 'contents': what FollowUpSpec\.followups names has changed"):
        go_on(summed("./moved.yaml"), world)
    with pytest.raises(InputError, match=r"another recipe: 'weight: 0\.1' there, 'weight: 0\.2' now"):
        go_on(summed("./moved.yaml", 0.2), world)


def test_a_reward_model_may_move_and_may_not_change(tmp_path: Path) -> None:
    world, folder = tiny_world(tmp_path / "run", []), write_llama(tmp_path / "rm")
    begin(judged(f"classifier:{folder}"), world)
    folder.rename(tmp_path / "moved")
    go_on(judged(f"classifier:{tmp_path}/moved"), world)
    write_llama(folder, initializer_range=0.3)
    # Under another spelling, since a process loads a folder once.
    with pytest.raises(InputError, match=r"field 'contents': what ClassifierSpec\.path names has changed"):
        go_on(judged(f"classifier:{tmp_path}/./rm/."), world)


def test_instructions_may_move_and_may_not_change(tmp_path: Path) -> None:
    world = tiny_world(tmp_path / "run", [], models={"judge": tiny_llama(seed=1)})
    presets, file = Path(question.__file__).with_name("instructions"), tmp_path / "brief.txt"
    shutil.copy(presets / "harmlessness.txt", file)

    def asked(instructions: object) -> Recipe:
        return methods.build("online_ai_feedback", {"judge": {"model": {"instructions": str(instructions)}}})

    begin(asked("harmlessness"), world)
    go_on(asked(file), world)
    shutil.copy(presets / "helpfulness.txt", file)
    with pytest.raises(InputError, match=r"what LLMJudgeSpec\.instructions names has changed"):
        go_on(asked(file), world)


def test_a_function_may_be_mended(tmp_path: Path) -> None:
    """What it has rated before it failed stays; a function of another name is another one."""
    world, file = tiny_world(tmp_path / "run", []), tmp_path / "mine.py"
    file.write_text("def polite(rollout):\n    return 1 / 0\n\n\nshort = polite\n")
    begin(judged(f"function:{file}:polite"), world)
    (tmp_path / "deep").mkdir()
    file = file.rename(tmp_path / "deep" / "mine.py")
    file.write_text(file.read_text().replace("1 / 0", "1.0"))
    go_on(judged(f"function:{file}:polite"), world)
    with pytest.raises(InputError, match=r"what FunctionSpec\.path names has changed"):
        go_on(judged(f"function:{file}:short"), world)


@dataclass(frozen=True)
class Mine:
    """A selection that may look at any column."""

    def __call__(self, world: World, round_: int) -> Sequence[Row]:
        return world.rows


@pytest.mark.parametrize(
    ("recipe", "counts"),
    [
        (judged("length"), False),
        (judged("function:mine.py:polite"), True),
        (Recipe((replace(judged("length").stages[0], select=Mine()),)), True),
        (Recipe((replace(judged("length").stages[0], select=EveryRow()),)), False),
        (methods.build("dpo"), False),
        (methods.build("reward_model", {"margin_scale": 1.0}), True),
    ],
    ids=["reward", "function", "own part", "part", "dpo", "margins"],
)
def test_a_column_counts_where_something_uses_it(recipe: Recipe, counts: bool, there: Path) -> None:
    Path("mine.py").write_text("def polite(rollout):\n    return 1.0\n")
    records = [{**row, "margin": 1.0} for row in pair_records(3)]
    begin(recipe, tiny_world(there / "other", records))
    go_on(recipe, tiny_world(there / "other", [{**row, "none": None} for row in records]))
    for changed in ({**records[1], "margin": 2.0}, pair_records(3)[1]):
        other = tiny_world(there / "other", [records[0], changed, records[2]])
        if counts:
            with pytest.raises(InputError, match="another column 'margin'"):
                go_on(recipe, other)
        else:
            go_on(recipe, other)


def test_the_facts_of_a_run_that_cannot_be_read(tmp_path: Path) -> None:
    world, facts = tiny_world(tmp_path / "run", []), tmp_path / "run" / "run.json"
    begin(judged("length"), world)
    for text in ("", "[]", facts.read_text()[:-9], '{"weights": null}'):
        facts.write_text(text)
        with pytest.raises(InputError, match=r"run\.json"):
            go_on(judged("length"), world)
    facts.unlink()
    with pytest.raises(InputError, match=r"run\.json: cannot be read"):
        go_on(judged("length"), world)


# --- results ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("change", "anew"), [(dict, 0), (moved_model, 0), (other_policy, 6), (other_template, 6)])
def test_results_are_those_of_the_weights(change: Change, anew: int, there: Path, uptake: Cli) -> None:
    """A killed `score` goes on with a model that has moved; with another one under the name, all is computed anew."""
    shutil.copytree(there / "m", "m")
    write_jsonl(Path("in.jsonl"), answered_records(6))
    command = ["score", "in.jsonl", "--followups", "followups.yaml", "--out", "out.jsonl", "--model"]
    assert in_process(command_line, [*command, "m"], ("os.rename", "out.jsonl", 1)) == -signal.SIGKILL
    lines = read_jsonl(Path("out.jsonl.journal.jsonl"))
    for line in lines[1:]:
        line["result"][0]["reward"] = 1000.0
    write_jsonl(Path("out.jsonl.journal.jsonl"), lines)
    changed = change() or {}
    uptake(*command, changed.get("policy", "./m"))
    assert sum(row["reward"] != 1000.0 for row in read_jsonl(Path("out.jsonl"))) == anew


def test_facts_of_another_form_are_refused(tmp_path: Path) -> None:
    """Valid JSON, with a list where a table belongs."""
    for held in ("[]", '{"weights": [1]}', '{"rows": "all"}', "{"):
        (tmp_path / "run.json").write_text(held)
        with pytest.raises(InputError, match=r"run.json: (holds no facts of a run|cannot be read)"):
            identity._written(tmp_path / "run.json")
