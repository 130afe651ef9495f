"""What is peculiar to a relative on the page of its run, and the curve over alpha of models beyond an aligned one."""

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from test_report import dump, read
from tiny import pair_records, prompt_records, read_jsonl, tiny_world, write_jsonl
from tiny_cli import Cli, sets
from tiny_relatives import SETTINGS, scored_records

from uptake import methods
from uptake.errors import InputError
from uptake.report.folder import read_run
from uptake.report.section import Section
from uptake.report.sections import age, alphas, conditions, doubts, references, training
from uptake.train.loop import run
from uptake.world import World

ROWS = ({"step": 1, "loss": 0.7}, {"step": 2, "loss": 0.6})


def metrics(folder: Path, **columns: list[float]) -> None:
    rows = zip(*columns.values(), strict=True)
    dump(
        folder / "metrics.jsonl",
        *({"step": step} | dict(zip(columns, row, strict=True)) for step, row in enumerate(rows, 1)),
    )


def section(built: Section | None) -> Section:
    assert built is not None
    return built


def last(built: Section | None) -> dict[str, dict[str, str]]:
    """By chart, what stands at the end of each of its lines."""
    return {chart.title: {line.name: line.last for line in chart.lines} for chart in section(built).content}


def test_other_runs_have_none_of_them_and_miss_none(tmp_path: Path) -> None:
    dump(tmp_path / "metrics.jsonl", *({**row, "age": 0} for row in ROWS))
    dump(tmp_path / "rounds/0-0/summary.json", {"samples": 8, "dropped": {"empty": 1}})
    text = read(tmp_path).text
    assert not any(title in text for title in ("Age of", "Doubted", "References", "Conditions", "Beyond"))
    found = read_run(tmp_path)
    assert [each.build(found) for each in (age, doubts, references, conditions, alphas)] == [None] * 5


# --- age


def test_age_is_drawn_where_samples_grew_old(tmp_path: Path) -> None:
    metrics(tmp_path, age=[0, 1, 2, 0, 1, 2], log_ratio=[0.0, 0.5, 1.0, 0.0, 0.5, 1.5])
    built = section(age.build(read_run(tmp_path)))
    assert last(built) == {"Age of samples, in steps": {"age": "2.00"}}
    (line,) = built.content[0].lines
    assert line.points == "0,100 20,50 40,0 60,100 80,50 100,0"
    assert "reference" not in built.about


def test_how_far_the_policy_went_stands_beside_where_the_sampler_is_the_reference(tmp_path: Path) -> None:
    far = [0.0, 0.5, 1.0, 1.0, 1.5, 2.5]
    metrics(tmp_path, age=[0, 1, 2, 0, 1, 2], log_ratio=[0.0, 0.5, 1.0, 0.0, 0.5, 1.5], initial_log_ratio=far)
    built = section(age.build(read_run(tmp_path)))
    assert last(built)["Log-ratio to"] == {"sampler": "1.50", "start": "2.50"}
    assert "the policy that drew them" in built.about


def test_what_begins_anew_with_every_round_is_drawn_as_it_is(tmp_path: Path) -> None:
    ages = [float(step % 10) for step in range(60)]
    metrics(tmp_path, age=ages, loss=[1 / (step + 1) for step in range(60)])
    (chart,) = section(age.build(read_run(tmp_path))).content
    assert (chart.lines[0].faint, chart.lines[0].last) == ("", "9.00")
    assert [100 - float(point.split(",")[1]) for point in chart.lines[0].points.split()] == [10 * each for each in ages]


def test_training_leaves_out_what_has_a_section_of_its_own(tmp_path: Path) -> None:
    columns = ("loss", "age", "doubted", "mixed_margin", "weight_primary", "weight_second", "clipped_second")
    metrics(tmp_path, **{name: [0.5, 0.25] for name in columns})
    built = training.build(read_run(tmp_path))
    assert isinstance(built, Section)
    assert [chart.title for chart in built.content] == ["Loss", "mixed margin"]


# --- doubts


def test_doubted_pairs_are_counted_by_iteration(tmp_path: Path) -> None:
    rows = [{"step": 1, "stage": 0, "loss": 1.0}]
    shares = ((1, 0.0, -0.1), (1, 0.25, 0.3), (2, 0.0, 1.0), (2, 0.5, 2.0), (2, 0.25, 3.0))
    rows += [
        {"step": step, "stage": stage, "doubted": share, "mixed_margin": margin}
        for step, (stage, share, margin) in enumerate(shares, 2)
    ]
    dump(tmp_path / "metrics.jsonl", *rows)
    table = section(doubts.build(read_run(tmp_path))).content
    found = [(each.name, each.steps, each.doubted, each.margin) for each in table.iterations]
    assert found == [("1", 2, 0.125, pytest.approx(0.1)), ("2", 3, 0.25, 2.0)]
    assert "Doubted labels" in read(tmp_path).text
    assert "1 2 12.5% +0.10 2 3 25.0% +2.00" in read(tmp_path).text


# --- references


def test_every_reference_has_its_weight_and_how_often_it_was_clipped(tmp_path: Path) -> None:
    clipped = [0.5, 0.75]
    metrics(tmp_path, weight_primary=[0.9, 0.8], weight_second_model=[0.1, 0.2], clipped_second_model=clipped)
    assert last(references.build(read_run(tmp_path))) == {
        "primary": {"weight": "80.0%"},
        "second model": {"weight": "20.0%", "clipped": "75.0%"},
    }


# --- conditions


def test_conditions_stand_on_one_scale(tmp_path: Path) -> None:
    values = {"lowest": -2.0, "median": 0.25, "highest": 1.5, "asked_for": 1.25}
    dump(tmp_path / "rounds/0-0/summary.json", {"samples": 4, "dropped": {}, "condition": values})
    scale = section(conditions.build(read_run(tmp_path))).content
    assert (scale.axis.low, scale.axis.high) == (-2.0, 2.0)
    text = read(tmp_path).text
    assert "lowest \N{MINUS SIGN}2.00 median 0.25 highest 1.50 asked for 1.25" in text
    places = re.findall(r'class="dot (\w+)" style="left: ([\d.]+)%"', (tmp_path / "report.html").read_text())
    assert places[-4:] == [("before", "0.0"), ("before", "56.25"), ("before", "87.5"), ("after", "81.25")]


# --- what runs write is what the sections read


def trained(name: str, world: World, **changes: Any) -> Path:
    run(methods.build(name, {"lr": 1e-2, "batch_size": 4, **SETTINGS[name][1], **changes}), world)
    return world.folder


def test_a_run_that_conditions_says_on_what(tmp_path: Path) -> None:
    folder = trained("conditional_alignment", tiny_world(tmp_path, scored_records(12)))
    scale = section(conditions.build(read_run(folder))).content
    found = {name: value for name, value, _ in scale.values}
    rewards = np.array([row["reward"] for row in scored_records(12)])
    standardized = (rewards - rewards.mean()) / rewards.std(ddof=1)
    quantiles = np.quantile(standardized, (0, 0.5, 1)).tolist()
    assert [found[name] for name in ("lowest", "median", "highest")] == pytest.approx(quantiles)
    assert found["asked for"] == pytest.approx(np.quantile(standardized, 0.99), abs=0.006)


def test_a_run_with_references_weighs_them(tmp_path: Path) -> None:
    world = tiny_world(tmp_path, pair_records(8))
    second = tiny_world(tmp_path / "other", pair_records(8)).policy
    folder = trained("multi_reference_po", World(world.policy, world.chat, world.rows, {"second": second}, tmp_path))
    found = read_jsonl(folder / "metrics.jsonl")[-1]
    shown = last(references.build(read_run(folder)))
    assert set(shown) == {"primary", "second"}
    assert found["weight_primary"] + found["weight_second"] == pytest.approx(1)


# --- the curve over alpha

CURVE = (
    {"alpha": 0.0, "tokens": 10.0, "win_rate": 0.5, "low": 0.5, "high": 0.5, "follow_up_reward": 0.1},
    {"alpha": 0.25, "tokens": 12.5, "win_rate": 0.6, "low": 0.4, "high": 0.7, "follow_up_reward": 0.2},
    {"alpha": 0.5, "tokens": 18.0, "win_rate": 0.4, "low": 0.3, "high": 0.6, "follow_up_reward": 0.1},
)


def test_quality_and_length_stand_over_alpha(tmp_path: Path) -> None:
    dump(tmp_path / "alphas.jsonl", *CURVE)
    built = section(alphas.build(read_run(tmp_path)))
    assert last(built) == {
        "Win rate": {"plain": "40.0%"},
        "Tokens of an answer": {"tokens": "18.0"},
        "Follow-up score": {"follow-up score": "0.10"},
    }
    wins, tokens, _ = built.content
    assert [tick.label for tick in wins.x_ticks] == ["0", "0.2", "0.4"]
    assert tokens.lines[0].points == "0,100 50,75 100,20"
    assert "over alpha" in (read(tmp_path), (tmp_path / "report.html").read_text())[1]


def test_a_broken_point_is_named(tmp_path: Path) -> None:
    dump(tmp_path / "alphas.jsonl", CURVE[0], {"alpha": 0.5, "win_rate": 0.5})
    with pytest.raises(InputError, match=r"alphas\.jsonl:2, field 'tokens'"):
        read_run(tmp_path)


@pytest.fixture
def beyond(uptake: Cli, model: Path) -> Path:
    """Two models beyond one that was aligned by a few steps, and prompts to compare them on."""
    write_jsonl(Path("pairs.jsonl"), pair_records(6))
    write_jsonl(Path("heldout.jsonl"), prompt_records(5, 1))
    options = sets({"lr": 1e-2, "batch_size": 2})
    uptake("train", "dpo", "--policy", model, "--data", "pairs.jsonl", "--out", "run", *options)
    uptake("extrapolate", model, "run/model", "--alpha", "2,0.5", "--out", "beyond")
    return Path("beyond")


def test_models_beyond_make_a_curve(uptake: Cli, model: Path, beyond: Path) -> None:
    asked = ["heldout.jsonl", "--against", "run/model", "--reward", "length", "--max-new-tokens", 6]
    uptake("eval", *asked, "--policy", beyond, "--out", beyond)
    points = read_jsonl(beyond / "alphas.jsonl")
    assert [point["alpha"] for point in points] == [0, 0.5, 2]
    assert [points[0][name] for name in ("win_rate", "low", "high")] == [0.5, 0.5, 0.5]
    # Each is what comparing that model alone says, and 0 is the model they are compared with.
    for point in points[1:]:
        uptake("eval", *asked, "--policy", beyond / f"alpha-{point['alpha']:g}", "--out", "alone")
        alone = json.loads(Path("alone/evaluation.json").read_text())
        assert point["win_rate"] == alone["win_rate"]["rate"]
        assert point["tokens"] == alone["lengths"]["after"]["mean"]
        assert points[0]["tokens"] == alone["lengths"]["before"]["mean"]
        assert json.loads((beyond / f"alpha-{point['alpha']:g}" / "evaluation.json").read_text()) == alone
    uptake("report", beyond)
    assert "Beyond" in read(beyond).text


def test_follow_ups_give_the_curve_their_score(uptake: Cli, model: Path, beyond: Path) -> None:
    asked = ["heldout.jsonl", "--against", "run/model", "--reward", "follow_up", "--model", model]
    uptake("eval", *asked, "--followups", "followups.yaml", "--max-new-tokens", 6, "--policy", beyond, "--out", "curve")
    points = read_jsonl(Path("curve/alphas.jsonl"))
    for point, name in zip(points[1:], ("alpha-0.5", "alpha-2"), strict=True):
        figures = json.loads(Path(f"curve/{name}/evaluation.json").read_text())
        assert point["follow_up_reward"] == figures["follow_up_reward"]["after"]
        assert points[0]["follow_up_reward"] == figures["follow_up_reward"]["before"]
