"""The registry of methods: names, options, and the published settings that a method without options stands for."""

from pathlib import Path
from typing import Any

import pytest
import yaml
from pydantic import ValidationError

from uptake import methods
from uptake.errors import InputError
from uptake.follow_up.reward import FollowUps
from uptake.judge.pointwise import PointwiseJudge
from uptake.losses.pairwise import IPO, Hinge, Logistic, Robust
from uptake.methods import MethodConfig
from uptake.objective import Pairs
from uptake.recipe import describe
from uptake.reference import AdapterOff, Frozen, Given
from uptake.rollout.policy import PolicySamples
from uptake.signal import BestWorst

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
        "dpo",
        "fine_grained_ppo",
        "follow_up_kto",
        "follow_up_likelihood",
        "follow_up_tuning",
        "kto",
        "online_ai_feedback",
        "ppo",
        "reward_model",
        "supervised",
        "token_reward_model",
        "town_model",
    ]


@pytest.mark.parametrize("name", methods.names())
def test_every_method_is_whole(name: str) -> None:
    """A docstring that starts with what it does, aliases, frozen options with defaults only, and a recipe of them."""
    module = methods.find(name)
    assert (module.__doc__ or "").split("\n")[0].endswith((".", ",", "on", "name.", "them."))
    assert issubclass(module.Config, MethodConfig)
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
    with pytest.raises(InputError, match=r"^there is no method 'xyzzy' \(allowed: dpo, "):
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
    assert update.keys() >= {"lr", "batch_size", "epochs", "warmup", "schedule", "optimizer", "clip", "precision"}


def test_every_option_reaches_a_part() -> None:
    """Changing any option of follow-up likelihood changes the recipe: no option is decoration."""
    changed: dict[str, Any] = {
        "beta": 0.2, "loss": "cdpo", "ipo_normalize": "token_mean", "label_smoothing": 0.1, "reference": "adapter_off",
        "lr": 1e-3, "batch_size": 3, "epochs": 2, "warmup": 7, "schedule": "linear", "optimizer": "rmsprop",
        "weight_decay": 0.1, "clip": None, "precision": "bf16", "micro_tokens": 9, "n": 3, "temperature": 1.0,
        "top_p": 0.5, "top_k": 4, "max_new_tokens": 5, "max_prompt_tokens": 6, "followups": "mine.yaml",
        "reduction": "sum", "polarity": "negative_only", "standardize": "within_prompt", "min_margin": 0.5,
        "min_margin_quantile": 0.1, "max_length_ratio": 3.0, "min_category_agreement": 0.5, "keep_unfinished": True,
        "rounds": 2, "engine": {"server": {"url": "http://localhost:1/v1", "model": "m"}},
    }  # fmt: skip
    assert changed.keys() == methods.find("flr").Config.model_fields.keys()
    plain = str(methods.build("flr"))
    needs: dict[str, dict[str, Any]] = {"label_smoothing": {"loss": "cdpo"}, "ipo_normalize": {"loss": "ipo"}}
    for option, value in changed.items():
        others = needs.get(option, {"label_smoothing": 0.1} if option == "loss" else {})
        before = str(methods.build("flr", others)) if others and option != "loss" else plain
        assert str(methods.build("flr", {**others, option: value})) != before, option


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
    assert stage.judge == PointwiseJudge(FollowUps(reduction="sum"))
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
        ({"bta": 1}, "bta", r"no such option; did you mean beta\? \(allowed: loss, beta, "),
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


@pytest.mark.parametrize(
    ("text", "message"),
    [("beta: [1", "cannot be read as YAML"), ("- beta", "holds no options"), ("beta", "holds no options")],
)
def test_broken_option_files(text: str, message: str, tmp_path: Path) -> None:
    path = tmp_path / "options.yaml"
    path.write_text(text)
    with pytest.raises(InputError, match=message) as caught:
        methods.read_options(path)
    assert caught.value.path == path


def test_option_files(tmp_path: Path) -> None:
    path = tmp_path / "options.yaml"
    path.write_text("beta: 0.5\nclip: null\n")
    assert methods.read_options(path) == {"beta": 0.5, "clip": None}
    path.write_text("")
    assert methods.read_options(path) == {}
    with pytest.raises(InputError, match="cannot be read"):
        methods.read_options(tmp_path / "missing.yaml")
