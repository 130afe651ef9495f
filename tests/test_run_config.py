"""One file for a whole run: what it holds, what flags change, and that a run's own file repeats the run."""

from pathlib import Path
from typing import Any

import pytest
import yaml
from tiny import pair_records, prompt_records, read_jsonl, saved, tiny_llama, write_jsonl
from tiny_cli import Cli

from uptake.errors import InputError
from uptake.judge import annotator_spec, reward_spec
from uptake.tasks.models_used import assigned, models_used
from uptake.tasks.run_config import RunConfig, recipe_of

OPTIONS = {"lr": 0.01, "batch_size": 2, "warmup": 1, "epochs": 2}


@pytest.fixture(scope="session")
def other(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return saved(tiny_llama(1), tmp_path_factory.mktemp("models") / "other")


def write(**config: Any) -> Path:
    path = Path("run.yaml")
    path.write_text(yaml.safe_dump(config, sort_keys=False))
    return path


def test_a_run_of_a_file_is_that_of_its_flags(uptake: Cli, model: Path, other: Path) -> None:
    write_jsonl(Path("pairs.jsonl"), pair_records(6))
    models = {"reference": str(other)}
    write(method="dpo", policy=str(model), data="pairs.jsonl", models=models, options=OPTIONS, limit=5, seed=3)
    uptake("train", "--config", "run.yaml", "--out", "file")
    flags = ["--policy", model, "--data", "pairs.jsonl", "--model", f"reference={other}", "--limit", 5, "--seed", 3]
    uptake("train", "dpo", *flags, *[f"--set={name}={value}" for name, value in OPTIONS.items()], "--out", "flags")
    for name in ("recipe.yaml", "metrics.jsonl", "model/model.safetensors"):
        assert (Path("file") / name).read_bytes() == (Path("flags") / name).read_bytes(), name


@pytest.mark.parametrize("lora", [0, 2])
def test_the_file_of_a_run_repeats_it(lora: int, uptake: Cli, model: Path, other: Path) -> None:
    """Bit by bit; and a recipe that went through a file resumes as the one that did not."""
    write_jsonl(Path("prompts.jsonl"), prompt_records(4))
    sets = {"max_new_tokens": 4, "batch_size": 2, "steps": 4, "lr": 0.01, "optimizer": "adamw"}
    judge = "{follow_up: {followups: followups.yaml, temperature: 0.5}}"
    more = ["--judge", judge, "--model", f"follow_up={other}", "--lora", lora, "--seed", 2]
    more += [f"--set={name}={value}" for name, value in sets.items()]
    uptake("train", "oaif", "--policy", model, "--data", "prompts.jsonl", "--out", "one", *more)
    uptake("train", "--config", "one/recipe.yaml", "--out", "two")
    names = [
        "recipe.yaml",
        "metrics.jsonl",
        *(f"model/{path.name}" for path in Path("one/model").glob("*.safetensors")),
    ]
    for name in names:
        assert (Path("one") / name).read_bytes() == (Path("two") / name).read_bytes(), name
    uptake("train", "--config", "two/recipe.yaml", "--out", "one", "--resume")
    written = yaml.safe_load(Path("one/recipe.yaml").read_text())
    assert [*written] == [*RunConfig.model_fields, "Recipe"]
    assert written["models"] == {"follow_up": str(other)}
    assert written["lora"] == lora


def test_flags_win_over_the_file(uptake: Cli, model: Path) -> None:
    write_jsonl(Path("pairs.jsonl"), pair_records(4))
    write(method="dpo", policy="nowhere", data="pairs.jsonl", options={**OPTIONS, "beta": 0.3}, seed=1)
    more = ["--policy", model, "--set", "beta=0.7", "--seed", 4, "--out", "run"]
    uptake("train", "--config", "run.yaml", *more)
    written = yaml.safe_load(Path("run/recipe.yaml").read_text())
    assert (written["options"], written["seed"]) == ({**OPTIONS, "beta": 0.7}, 4)
    assert "'beta': 0.7" in str(written["Recipe"])
    # A changed option may have another recipe than the one that the file holds, and nothing else may.
    uptake("train", "--config", "run/recipe.yaml", "--set", "beta=0.5", "--out", "again")
    text = Path("run/recipe.yaml").read_text()
    Path("edited.yaml").write_text(text.replace("beta: 0.7\n", "beta: 0.6\n", 1))
    message = uptake.fails("train", "--config", "edited.yaml", "--out", "third")
    assert message.startswith("edited.yaml, field 'Recipe': its options give another recipe now")


def test_check_and_mine_and_show_read_the_same_file(uptake: Cli, model: Path, other: Path) -> None:
    write_jsonl(Path("prompts.jsonl"), prompt_records(4))
    options = {"n": 3, "max_new_tokens": 6, "keep_unfinished": True, "reward": "length", "min_margin_quantile": 0.0}
    write(method="flr", policy=str(model), data="prompts.jsonl", options={**options, "max_length_ratio": 100.0})
    assert "ready" in uptake("check", "--config", "run.yaml")
    assert "Length" in uptake("methods", "show", "flr", "--config", "run.yaml")
    uptake("mine", "prompts.jsonl", "--config", "run.yaml", "--out", "pairs.jsonl")
    for pair in read_jsonl(Path("pairs.jsonl")):
        sizes = [len(pair[side][0]["content"]) for side in ("chosen", "rejected")]
        assert pair["margin"] == sizes[0] - sizes[1] > 0


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"polcy": "x"}, "run.yaml, field 'polcy': no such key; did you mean policy? (allowed: method, policy,"),
        ({"options": {"bta": 1}}, "run.yaml, field 'bta': this method has no such option; did you mean beta?"),
        ({"models": {"refrence": "x"}}, "run.yaml, field 'models': nothing here uses a model called 'refrence'"),
        (
            {"models": {"judge": "x"}},
            "run.yaml, field 'models': nothing here uses a model called 'judge' (allowed: none)",
        ),
        ({"models": ["x"]}, "run.yaml, field 'models': Input should be a valid dictionary"),
        ({"seed": "one"}, "run.yaml, field 'seed': Input should be a valid integer, not 'one'"),
        ({"method": "dop"}, "there is no method 'dop'; did you mean dpo?"),
        ({"policy": None}, "run.yaml, field 'policy': Input should be a valid string"),
    ],
)
def test_a_mistake_names_file_and_key(change: dict[str, Any], message: str, uptake: Cli) -> None:
    write(**{"method": "dpo", "policy": "x", "data": "x", **change})
    assert uptake.fails("train", "--config", "run.yaml", "--out", "run").startswith(message)


@pytest.mark.parametrize(
    ("text", "message"),
    [("beta: [1", "cannot be read as YAML"), ("- beta", "holds no run"), ("beta", "holds no run")],
)
def test_a_file_that_is_no_run(text: str, message: str, tmp_path: Path) -> None:
    path = tmp_path / "run.yaml"
    path.write_text(text)
    with pytest.raises(InputError, match=message) as caught:
        RunConfig.of(path)
    assert caught.value.path == path


def test_what_is_missing_is_named(uptake: Cli) -> None:
    write(method="dpo", data="x")
    message = "run.yaml, field 'policy': no policy (allowed: --policy, or policy in --config)"
    assert uptake.fails("train", "--config", "run.yaml", "--out", "run") == message
    assert uptake.fails("train", "--policy", "x", "--data", "x", "--out", "run").startswith("field 'method': no method")


# --- models by name ---------------------------------------------------------------------------------------------------


def test_names_that_parts_ask_for() -> None:
    config = RunConfig(method="oaif", policy="p", data="d", models={"reference": "r"}, options={"judge": "implicit"})
    assert models_used(recipe_of(config)) == ("judge", "reference")
    assert models_used([reward_spec("fed"), reward_spec("direct"), annotator_spec("model")]) == ("follow_up", "judge")
    assert models_used(reward_spec({"sum": [{"reward": "fed", "weight": 1}, {"reward": "implicit", "weight": 1}]})) == (
        *("follow_up", "judge", "reference"),
    )


def test_models_go_to_who_asks_for_them() -> None:
    assert assigned(("judge", "follow_up"), {"judge": "a"}, "b") == {"judge": "a", "follow_up": "b"}
    assert assigned(("follow_up",), {}, optional=("follow_up",)) == {}
    with pytest.raises(InputError, match=r"a model called 'judge' .allowed: --model judge=PATH, or --model PATH"):
        assigned(("judge",), {})
    with pytest.raises(InputError, match=r"nothing here uses a model called 'jduge'; did you mean judge\?"):
        assigned(("judge",), {"jduge": "a"}, "b")
    with pytest.raises(InputError, match=r"nothing here uses b .allowed: judge"):
        assigned(("judge",), {"judge": "a"}, "b")


@pytest.mark.parametrize(
    "given", [["judge=a", "judge=b"], ["judge=a", "jud-ge=b", "jud_ge=c"], ["a", "b"], ["judge="], [""]]
)
def test_a_name_is_given_once(given: list[str], uptake: Cli) -> None:
    write_jsonl(Path("in.jsonl"), pair_records(2))
    models = [f"--model={each}" for each in given]
    assert "(allowed: NAME=PATH" in uptake.fails("judge", "in.jsonl", "--out", "out.jsonl", *models)


def test_hyphens_and_underscores_are_alike(uptake: Cli, model: Path) -> None:
    """In commands, options and names."""
    write_jsonl(Path("in.jsonl"), [{"prompt": "when ?", "completion": "at eight ."}])
    more = ["--drop_bad", "--follow_ups", "followups.yaml", "--reward", "follow-up", "--model", f"follow-up={model}"]
    uptake("score", "in.jsonl", "--out", "one.jsonl", *more)
    uptake("score", "in.jsonl", "--out", "two.jsonl", "--model", model, "--followups", "followups.yaml")
    assert Path("one.jsonl").read_bytes() == Path("two.jsonl").read_bytes()
    assert "no labels" in uptake.fails("show_tokens", "in.jsonl")
