"""The registry of methods: names, options, and the published settings that a method without options stands for."""

import subprocess
import sys
from pathlib import Path
from typing import Any, Literal, get_args, get_origin

import pytest
import yaml
from pydantic import BaseModel, ValidationError, model_validator
from tiny import write_followups

from uptake import methods
from uptake.errors import InputError
from uptake.follow_up.reward import FollowUpSpec
from uptake.judge import PointwiseJudge
from uptake.losses.pairwise import IPO, Hinge, Logistic, Robust
from uptake.methods import MethodConfig
from uptake.objective import Pairs
from uptake.recipe import describe
from uptake.reference import AdapterOff, Frozen, Given
from uptake.rollout.policy import PolicySamples
from uptake.signal import BestWorst
from uptake.support.options import built

# Rafailov et al. 2023 and the authors' repository: batch 64, linear warmup over 150 steps, then constant, RMSprop.
DPO = {
    "beta": 0.1,
    "loss": "dpo",
    "label_smoothing": 0.0,
    "lr": 5e-7,
    "optimizer": "rmsprop",
    "warmup": 150,
    "schedule": "constant",
    "clip": 10.0,
    "epochs": 1,
    "batch_size": 64,
}
# The released generation script; mining thresholds of ours; the defaults of the trainer that the authors name.
FLR = {
    "n": 8,
    "temperature": 0.7,
    "top_p": 0.9,
    "top_k": 0,
    "max_new_tokens": 2048,
    "reduction": "mean",
    "polarity": "both",
    "standardize": "none",
    "min_margin_quantile": 0.2,
    "max_length_ratio": 2.0,
    "min_category_agreement": 2 / 3,
    "keep_unfinished": False,
    "beta": 0.1,
    "loss": "dpo",
    "label_smoothing": 0.0,
    "lr": 5e-6,
    "epochs": 3,
    "batch_size": 8,
    "schedule": "cosine",
    "warmup": 0.1,
}


def test_the_methods_there_are() -> None:
    assert methods.names() == [
        "bpo",
        "conditional_alignment",
        "dpo",
        "expo",
        "filtering_alignment",
        "fine_grained_ppo",
        "follow_up_kto",
        "follow_up_likelihood",
        "follow_up_tuning",
        "kto",
        "multi_reference_po",
        "online_ai_feedback",
        "online_self_preferring",
        "ppo",
        "reward_model",
        "reward_weighted_regression",
        "selm",
        "spa",
        "spin",
        "supervised",
        "token_reward_model",
        "town_model",
    ]


# Methods over another one, whose options they take beside their own.
OVER_ANOTHER = ("expo",)


@pytest.mark.parametrize("name", methods.names())
def test_every_method_is_whole(name: str) -> None:
    """A docstring that starts with what it does, aliases, frozen options with defaults only, and a recipe of them."""
    module = methods.find(name)
    assert (module.__doc__ or "").split("\n")[0].endswith(".")
    assert issubclass(module.Config, MethodConfig) or name in OVER_ANOTHER
    config = module.Config()
    first = next(iter(type(config).model_fields))
    with pytest.raises(ValidationError):
        setattr(config, first, None)
    assert methods.build(name).stages == module.build(config).stages


@pytest.mark.parametrize(
    ("spelled", "name"),
    [
        ("flr", "follow_up_likelihood"),
        ("FLR", "follow_up_likelihood"),
        ("follow-up-likelihood", "follow_up_likelihood"),
        ("followup", "follow_up_likelihood"),
        (" dpo ", "dpo"),
        ("direct_preference_optimization", "dpo"),
        ("town", "town_model"),
    ],
)
def test_names_and_aliases(spelled: str, name: str) -> None:
    assert methods.find(spelled).__name__ == f"uptake.methods.{name}"


def test_no_two_methods_share_a_name() -> None:
    spelled = [each for name in methods.names() for each in (name, *methods.find(name).ALIASES)]
    assert len(spelled) == len(set(spelled))


@pytest.mark.parametrize(
    ("wrong", "near"), [("dop", "dpo"), ("fllr", "flr"), ("follow_up_likelyhood", "follow_up_likelihood")]
)
def test_a_wrong_name_gets_the_nearest(wrong: str, near: str) -> None:
    with pytest.raises(InputError, match=f"no method '{wrong}'; did you mean {near}.*dpo, .*follow_up_kto"):
        methods.find(wrong)


def test_a_name_like_no_other_gets_the_list() -> None:
    with pytest.raises(InputError, match=r"^there is no method 'xyzzy' \(allowed: bpo, conditional_alignment, "):
        methods.find("xyzzy")


@pytest.mark.parametrize(("name", "published"), [("dpo", DPO), ("follow_up_likelihood", FLR)])
def test_without_options_a_method_is_what_was_published(name: str, published: dict[str, Any]) -> None:
    config = methods.configure(name, {}).model_dump()
    assert {option: config[option] for option in published} == published


@pytest.mark.parametrize("name", methods.names())
def test_the_recipe_prints_every_part_with_its_defaults(name: str) -> None:
    """What is printed is YAML, and every option of the method that a part has stands in it with its value."""
    recipe = methods.build(name)
    text = str(recipe)
    assert yaml.safe_load(text) == describe(recipe)
    config = methods.configure(name, {}).model_dump()
    update = yaml.safe_load(text)["Recipe"]["stages"][0]["Stage"]["update"]["Optimization"]
    assert {option: update[option] for option in update.keys() & config.keys()} == {
        option: list(config[option]) if isinstance(config[option], tuple) else config[option]
        for option in update.keys() & config.keys()
    }
    names = "lr batch_size epochs warmup warmup_cap schedule optimizer clip precision"
    assert update.keys() >= set(names.split())


# Options whose other value is none that can be guessed from its type.
OTHER: dict[str, Any] = {
    "engine": {"server": {"url": "http://localhost:1/v1", "model": "m"}},
    "reward": {"server": {"url": "http://localhost:1/score"}},
    "judge": "oracle",
    "method": "supervised",
    "max_length_ratio": 3.0,
    "dual_clip": 3.0,
    "minibatches": 2,
    "steps": 936,
    "steps_per_round": 2,
    "threshold_unit": "score",
    "kl_horizon": 5_000,
    "batch_size": 96,
    "condition": " asked for {reward}",
    "references": ("third",),
    "weights": (0.5, 0.5),
}
# What an option needs beside it to have an effect.
NEEDS: dict[str, dict[str, Any]] = {
    "label_smoothing": {"loss": "cdpo"},
    "ipo_normalize": {"loss": "ipo"},
    "betas": {"optimizer": "adamw"},
    "eps": {"optimizer": "adamw"},
}
# Options with one value only: they say what a method does not leave open.
FIXED = {(name, option) for name in ("online_ai_feedback", "bpo") for option in ("n", "epochs")}
FIXED |= {("spin", "n"), ("selm", "n"), ("bpo", "ahead")}


def another(name: str, annotation: Any, value: Any) -> Any:
    """A value that an option may have and has not."""
    if name in OTHER:
        return OTHER[name]
    if get_origin(annotation) is Literal:
        return [each for each in get_args(annotation) if each != value][-1]
    by_type: dict[type, Any] = {
        bool: lambda: not value,
        int: lambda: value + 1,
        float: lambda: value / 2 or 0.25,
        tuple: lambda: tuple(each / 2 for each in value),
        str: lambda: "another",
        type(None): lambda: 3,
    }
    return by_type[type(value)]()


@pytest.mark.parametrize(
    ("name", "option"),
    [
        (name, option)
        for name in methods.names()
        for option in methods.find(name).Config.model_fields
        if (name, option) not in FIXED
    ],
)
def test_every_option_reaches_a_part(name: str, option: str, tmp_path: Path) -> None:
    """Changing any option of any method changes its recipe: none is decoration."""
    config = methods.find(name).Config
    needs = {key: value for key, value in NEEDS.get(option, {}).items() if key in config.model_fields}
    field = config.model_fields[option]
    others = {"followups": str(write_followups(tmp_path))}
    value = others[option] if option in others else another(option, field.annotation, field.default)
    before, after = methods.build(name, needs), methods.build(name, {**needs, option: value})
    assert before.stages != after.stages


@pytest.mark.parametrize("name", methods.names())
def test_a_misspelt_field_of_the_options_is_an_error_of_every_method(name: str) -> None:
    """A field that no part takes and no code reads, as a slip of the pen makes it, stops the build and is named."""
    module = methods.find(name)

    class Misspelt(module.Config):  # type: ignore[name-defined,misc]
        max_new_token: int = 7

    with pytest.raises(InputError, match="no part takes max_new_token, and no code reads it"):
        built(module.build, Misspelt())


def test_what_only_a_check_reads_is_no_option() -> None:
    class Checked(BaseModel):
        used: int = 1
        checked: int = 1

        @model_validator(mode="after")
        def _check(self) -> "Checked":
            assert self.checked
            return self

    with pytest.raises(InputError, match="no part takes checked"):
        built(lambda config: config.used, Checked())
    assert built(lambda config: config.used + config.checked, Checked(used=2)) == 3


def test_options_that_an_optimizer_has_no_use_for_are_refused() -> None:
    with pytest.raises(InputError, match="betas is not used by optimizer 'rmsprop', only by adamw"):
        methods.build("dpo", {"betas": (0.5, 0.9)})
    with pytest.raises(InputError, match="eps is not used by optimizer 'adafactor', only by adamw, rmsprop"):
        methods.build("dpo", {"eps": 1e-3, "optimizer": "adafactor"})
    # A method's own default is no option that somebody set.
    assert methods.build("town_model", {"optimizer": "rmsprop"})


METHOD = """
\"\"\"Plain imitation of rows, from a file of its own.\"\"\"

from uptake.methods import fill
from uptake.methods.supervised import Config, build

ALIASES = ("plain",)
"""
OUTSIDE = METHOD.replace("Config, build", "Config as Base").replace(
    "ALIASES",
    "from uptake.methods import supervised\n\nclass Config(Base):\n    epochs: int = 1\n\n\n"
    "def build(config):\n    return supervised.build(config)\n\nALIASES",
)


def test_a_method_from_a_file(tmp_path: Path) -> None:
    path = tmp_path / "plain_imitation.py"
    path.write_text(OUTSIDE)
    recipe = methods.build(str(path), {"lr": 1e-3})
    assert recipe.stages == methods.build("supervised", {"lr": 1e-3, "epochs": 1}).stages
    assert methods.find(str(path)) is methods.find(str(path))
    with pytest.raises(InputError, match="this method has no such option; did you mean epochs"):
        methods.build(str(path), {"epoch": 1})


@pytest.mark.parametrize(
    ("name", "text", "problem"),
    [
        ("broken", "def build(:", r"broken\.py:1: does not parse"),
        ("bare", "class Config: ...", "build is missing"),
        ("dpo", OUTSIDE, "the name 'dpo' is taken"),
        ("mine", OUTSIDE.replace('"plain"', '"oaif"'), "the name 'oaif' is taken"),
        ("fails", OUTSIDE + "\n1 / 0\n", "the method's file fails: ZeroDivisionError"),
    ],
)
def test_a_file_that_is_no_method(name: str, text: str, problem: str, tmp_path: Path) -> None:
    path = tmp_path / f"{name}.py"
    path.write_text(text)
    with pytest.raises(InputError, match=problem):
        methods.build(str(path))


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no method could be read"):
        methods.find(str(tmp_path / "nothing.py"))


def test_a_method_of_an_installed_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An entry point of the group `uptake.methods` is listed, found by name and alias, and built like any other."""
    (tmp_path / "elsewhere.py").write_text(OUTSIDE)
    info = tmp_path / "elsewhere-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: elsewhere\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[uptake.methods]\nelsewhere = elsewhere\n")
    monkeypatch.syspath_prepend(tmp_path)
    methods.catalog.cache_clear()
    try:
        assert methods.catalog()["elsewhere"].summary == "Plain imitation of rows, from a file of its own."
        assert methods.find("plain") is methods.find("elsewhere")
        assert methods.build("elsewhere").stages == methods.build("supervised", {"epochs": 1}).stages
    finally:
        methods.catalog.cache_clear()


def test_listing_methods_imports_none() -> None:
    code = (
        "import sys; from uptake import methods; methods.catalog(); methods.names(); assert 'torch' not in sys.modules"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize(
    ("options", "kernel"),
    [
        ({}, Logistic(0.1)),
        ({"loss": "cdpo", "label_smoothing": 0.1}, Logistic(0.1, 0.1)),
        ({"loss": "robust_dpo", "label_smoothing": 0.2, "beta": 0.3}, Robust(0.3, 0.2)),
        ({"loss": "ipo", "beta": 1.0}, IPO(1.0, "sum")),
        ({"loss": "ipo", "ipo_normalize": "token_mean"}, IPO(0.1, "token_mean")),
        ({"loss": "slic", "beta": 0.002}, Hinge(0.002)),
    ],
)
@pytest.mark.parametrize("name", ["dpo", "flr"])
def test_losses_by_name(name: str, options: dict[str, Any], kernel: Any) -> None:
    assert methods.build(name, options).stages[0].objective == Pairs(kernel)


@pytest.mark.parametrize(
    ("spelled", "part"), [("initial", Frozen()), ("adapter_off", AdapterOff()), ("given", Given())]
)
def test_references_by_name(spelled: str, part: Any) -> None:
    assert methods.build("dpo", {"reference": spelled}).stages[0].reference == part


def test_follow_up_likelihood_is_made_of_its_parts() -> None:
    (stage,) = methods.build("flr", {"n": 4, "reduction": "sum", "min_margin": 0.5}).stages
    assert stage.produce == PolicySamples(n=4, temperature=0.7, top_p=0.9, max_new_tokens=2048)
    assert stage.judge == PointwiseJudge(FollowUpSpec(reduction="sum"))
    assert stage.signal == BestWorst(min_margin=0.5)


@pytest.mark.parametrize("loss", ["dpo", "ipo", "slic"])
def test_label_smoothing_is_refused_where_it_is_not_used(loss: str) -> None:
    with pytest.raises(
        InputError, match=f"^label_smoothing is not used by loss '{loss}', only by cdpo and robust_dpo$"
    ):
        methods.build("dpo", {"loss": loss, "label_smoothing": 0.1})


def test_token_means_are_refused_where_they_are_not_used() -> None:
    with pytest.raises(InputError, match=r"^ipo_normalize is not used by loss 'dpo', only by ipo$"):
        methods.build("dpo", {"ipo_normalize": "token_mean"})


@pytest.mark.parametrize(
    ("options", "field", "message"),
    [
        ({"bta": 1}, "bta", r"no such option; did you mean beta\? \(allowed: .*loss, beta, "),
        ({"beta": "much"}, "beta", "valid number, .*not 'much'"),
        ({"beta": -1}, "beta", "above 0"),
        ({"beta": float("nan")}, "beta", "finite"),
        ({"lr": -1}, "lr", "a number from 0 up"),
        ({"loss": "dop"}, "loss", "'dpo', 'cdpo', 'robust_dpo', 'ipo' or 'slic', not 'dop'"),
        ({"epochs": 0}, "epochs", "from 1 up"),
        ({"epochs": 1.5}, "epochs", "integer"),
        ({"label_smoothing": 0.7, "loss": "cdpo"}, "label_smoothing", "below 0.5"),
        ({"n": 1}, "n", "greater than or equal to 2"),
        ({"max_length_ratio": 0.5}, "max_length_ratio", "from 1 up"),
        ({"top_p": 0}, "top_p", "more than 0"),
    ],
)
def test_bad_options_name_themselves_and_their_file(options: dict[str, Any], field: str, message: str) -> None:
    with pytest.raises(InputError, match=message) as caught:
        methods.build("flr", options)
    assert (caught.value.field, caught.value.path) == (field, None)
    path = Path("options.yaml")
    with pytest.raises(InputError, match=rf"^options.yaml, field '{field}': ") as caught:
        methods.build("flr", options, dict.fromkeys(options, path))
    assert caught.value.path == path
