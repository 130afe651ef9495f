"""Whole runs: what they leave behind, and that one which is stopped anywhere ends as one that is not."""

import json
import math
import os
import signal
import time
from collections.abc import Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar, final

import numpy as np
import pytest
import torch
from jaxtyping import Float
from safetensors.torch import load_file, save_file
from tiny import (
    Imitated,
    command_line,
    in_process,
    pair_records,
    prompt_records,
    read_jsonl,
    saved,
    started,
    tiny_llama,
    tiny_world,
    weights_of,
    write_followups,
    write_jsonl,
)
from torch import Tensor, nn

from uptake import methods
from uptake.data import read
from uptake.errors import InputError
from uptake.examples.preferences import PreferenceRows
from uptake.losses.pairwise import Logistic
from uptake.models import LanguageModel, Packed, TokenTree, load, token_logps
from uptake.objective import Loss, NextToken, Objective, Pairs
from uptake.recipe import Recipe, Stage
from uptake.reference import Frozen, RunningReference
from uptake.tasks.mine import mine
from uptake.train.loop import Options, run
from uptake.update import Optimization
from uptake.world import World

FAST: dict[str, Any] = {"lr": 1e-2, "batch_size": 2, "warmup": 2, "micro_tokens": 40}
# Every sample may be paired: an untrained model seldom ends a sentence.
OPEN: dict[str, Any] = {
    "min_margin_quantile": 0.0,
    "max_length_ratio": 100.0,
    "min_category_agreement": 0.0,
    "keep_unfinished": True,
}
SAMPLED: dict[str, Any] = {"n": 4, "temperature": 1.0, "top_p": 1.0, "max_new_tokens": 8}


def flr(folder: Path, **changes: Any) -> Recipe:
    options = {"followups": str(write_followups(folder)), **FAST, **OPEN, **SAMPLED, "epochs": 2, **changes}
    return methods.build("follow_up_likelihood", options)


def model_bytes(folder: Path) -> bytes:
    return (folder / "model" / "model.safetensors").read_bytes()


def same_run(one: Path, other: Path) -> bool:
    files = ("metrics.jsonl", "curve.jsonl", "model/model.safetensors", "recipe.yaml")
    return all((one / name).read_bytes() == (other / name).read_bytes() for name in files)


def test_dpo_from_pairs(tmp_path: Path) -> None:
    before = weights_of(tiny_llama())
    world = tiny_world(tmp_path / "run", pair_records(6))
    trained = run(methods.build("dpo", {**FAST, "epochs": 8}), world)
    metrics = read_jsonl(tmp_path / "run" / "metrics.jsonl")
    assert [line["step"] for line in metrics] == list(range(1, 25))
    assert metrics[0]["loss"] == pytest.approx(0.693147, abs=1e-5)
    assert metrics[-1]["loss"] < 0.6
    assert metrics[-1]["accuracy"] == 1.0
    after = weights_of(trained.policy)
    assert any(not torch.equal(before[name], after[name]) for name in before)
    assert weights_of(load(tmp_path / "run" / "model", dtype="float32")).keys() == after.keys()
    assert all(
        torch.equal(weight, after[name]) for name, weight in weights_of(load(tmp_path / "run" / "model")).items()
    )


def test_follow_up_likelihood_from_prompts(tmp_path: Path) -> None:
    world = tiny_world(tmp_path / "run", prompt_records(4))
    run(flr(tmp_path), world)
    (line,) = read_jsonl(tmp_path / "run" / "rounds" / "0-0" / "judged.jsonl")
    summary = json.loads((tmp_path / "run" / "rounds" / "0-0" / "summary.json").read_text())
    assert [len(group) for group in line["groups"]] == [len(said) for said in line["assessments"]] == [4] * 4
    assert summary["samples"] == 4 * 4
    assert summary["pairs"] == 4
    metrics = read_jsonl(tmp_path / "run" / "metrics.jsonl")
    assert len(metrics) == 2 * 2
    assert metrics[-1]["margin"] > metrics[0]["margin"] == pytest.approx(0.0, abs=1e-5)


def open_files(folder: Path) -> list[str]:
    links = [Path(f"/proc/self/fd/{each}") for each in os.listdir("/proc/self/fd")]
    return [str(link.readlink()) for link in links if link.is_symlink() and str(folder) in str(link.readlink())]


def test_nothing_stays_open(tmp_path: Path) -> None:
    run(methods.build("dpo", {**FAST, "epochs": 1}), tiny_world(tmp_path / "run", pair_records(2)))
    mine(flr(tmp_path), tiny_world(tmp_path / "work", prompt_records(4)), tmp_path / "pairs.jsonl")
    assert open_files(tmp_path) == []


def test_the_same_seed_gives_the_same_run(tmp_path: Path) -> None:
    recipe = flr(tmp_path)
    for name, seed in (("one", 3), ("same", 3), ("other", 4)):
        torch.manual_seed(len(name))  # the run must not depend on what the process did before
        run(recipe, tiny_world(tmp_path / name, prompt_records(4), seed=seed))
    assert same_run(tmp_path / "one", tmp_path / "same")
    assert model_bytes(tmp_path / "one") != model_bytes(tmp_path / "other")


def test_mined_pairs_train_as_the_method_does(tmp_path: Path) -> None:
    """Mining to disk and then DPO is follow-up likelihood in one go, to the last bit."""
    run(flr(tmp_path), tiny_world(tmp_path / "whole", prompt_records(4)))
    summary = mine(flr(tmp_path), tiny_world(tmp_path / "work", prompt_records(4)), tmp_path / "pairs.jsonl")
    assert summary.pairs == 4
    assert not (tmp_path / "work").exists()
    own = methods.configure("follow_up_likelihood", {**FAST, "epochs": 2}).model_dump()
    shared = {name: value for name, value in own.items() if name in methods.find("dpo").Config.model_fields}
    world = replace(tiny_world(tmp_path / "parts", []), rows=read(summary.path))
    run(methods.build("dpo", shared), world)
    assert model_bytes(tmp_path / "whole") == model_bytes(tmp_path / "parts")
    whole, parts = (read_jsonl(tmp_path / name / "metrics.jsonl") for name in ("whole", "parts"))
    # Only pairs that the policy has just sampled have an age.
    assert [line.pop("age") for line in whole] == [0, 1, 2, 3]
    assert whole == parts


# --- stopped and resumed ---------------------------------------------------------------------------------------------

# SIGKILL just before the n-th event of this kind on a path with this in it.
MOMENTS = [
    ("open", "recipe.yaml", 1),
    ("open", ".summary.json.", 1),
    ("os.mkdir", "00000002.partial", 1),
    ("open", "00000004.partial/manifest.json", 1),
    ("os.rename", "00000004.partial", 1),
    ("os.rmdir", "00-00000", 1),
    ("os.mkdir", "model.partial", 1),
    ("os.rename", "model.partial", 1),
]


@pytest.fixture(scope="module")
def given(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """The arguments of a training run on saved models and pairs, without its folder."""
    folder = tmp_path_factory.mktemp("given")
    data = write_jsonl(folder / "pairs.jsonl", pair_records(12))
    options = [f"--set={name}={value}" for name, value in {**FAST, "epochs": 2, "optimizer": "adamw"}.items()]
    policy = saved(tiny_llama(), folder / "policy")
    return ["train", "dpo", "--policy", str(policy), "--data", str(data), "--save-every", "2", *options]


@pytest.fixture(scope="module")
def undisturbed(given: list[str], tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("undisturbed") / "run"
    assert in_process(command_line, [*given, "--out", str(folder)]) == 0
    return folder


@pytest.mark.parametrize("moment", MOMENTS, ids=lambda moment: "-".join(map(str, moment)).replace("/", "-"))
def test_killed_and_resumed(moment: tuple[str, str, int], given: list[str], undisturbed: Path, tmp_path: Path) -> None:
    arguments = [*given, "--out", str(tmp_path / "run")]
    assert in_process(command_line, arguments, moment) == -signal.SIGKILL
    assert in_process(command_line, [*arguments, "--resume"]) == 0
    assert same_run(tmp_path / "run", undisturbed)
    assert not list((tmp_path / "run").rglob("*.partial"))


def test_killed_again_and_again(given: list[str], undisturbed: Path, tmp_path: Path) -> None:
    arguments = [*given, "--out", str(tmp_path / "run"), "--resume"]
    for _ in range(3):
        assert in_process(command_line, arguments, ("os.rename", ".partial", 2)) == -signal.SIGKILL
    assert in_process(command_line, arguments) == 0
    assert same_run(tmp_path / "run", undisturbed)


def test_a_process_killed_from_outside(given: list[str], undisturbed: Path, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    process = started(command_line, [*given, "--out", str(folder)])
    while process.is_alive() and not _lines(folder / "metrics.jsonl") >= 3:
        time.sleep(0.002)
    process.kill()
    process.join()
    assert process.exitcode == -signal.SIGKILL
    assert not (folder / "model").exists()
    assert in_process(command_line, [*given, "--out", str(folder), "--resume"]) == 0
    assert same_run(folder, undisturbed)


def _lines(path: Path) -> int:
    return path.read_bytes().count(b"\n") if path.exists() else 0


def test_a_torn_line_of_the_journal_is_done_again(tmp_path: Path) -> None:
    """33 prompts are two lines of the journal; the second breaks off, as where a kill comes while it is written."""
    recipe = flr(tmp_path, n=2, max_new_tokens=3, epochs=1, batch_size=16)
    run(recipe, tiny_world(tmp_path / "whole", prompt_records(33)))
    with pytest.raises(Stop):
        run(recipe, tiny_world(tmp_path / "run", prompt_records(33)), Options(observe=stop_at(0)))
    journal = tmp_path / "run" / "rounds" / "0-0" / "judged.jsonl"
    whole = journal.read_bytes()
    assert whole.count(b"\n") == 2
    journal.write_bytes(whole[:-40])
    run(recipe, tiny_world(tmp_path / "run", prompt_records(33)), Options(resume=True))
    assert journal.read_bytes() == whole
    assert same_run(tmp_path / "run", tmp_path / "whole")


class Stop(Exception):
    """The run is interrupted."""


@dataclass(frozen=True)
class stop_at:
    """An observer that interrupts the run at an optimizer step."""

    step: int

    def __call__(self, world: World, step: int) -> Mapping[str, Any]:
        if step == self.step:
            raise Stop
        return observe(world, step)


def observe(world: World, step: int) -> Mapping[str, Any]:
    return {"weight": float(next(world.policy.model.parameters()).detach().sum())}


def two_stages(**changes: Any) -> Recipe:
    """First imitate every response, then prefer the chosen ones; the reference is then the end of the first stage."""
    update = Optimization(**{**FAST, "epochs": 2, "schedule": "linear", **changes})
    first = Stage(examples=Imitated(), objective=NextToken(), update=update, rounds=2)
    second = Stage(examples=PreferenceRows(), reference=Frozen(), objective=Pairs(Logistic(0.1)), update=update)
    return Recipe((first, second))


WATCHED = Options(save_every=3, observe=observe, observe_every=1)


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of two stages that nothing interrupts."""
    folder = tmp_path_factory.mktemp("stages") / "whole"
    run(two_stages(), tiny_world(folder, pair_records(4)), WATCHED)
    return folder


@pytest.mark.parametrize("step", [1, 8, 12, 16, 17, 19, 20])
def test_two_stages_interrupted(step: int, whole: Path, tmp_path: Path) -> None:
    """4 rows with 2 responses, 2 epochs in batches of 2: 2 rounds of 8 steps, then 4 steps on pairs."""
    with pytest.raises(Stop):
        run(two_stages(), tiny_world(tmp_path / "run", pair_records(4)), replace(WATCHED, observe=stop_at(step)))
    run(two_stages(), tiny_world(tmp_path / "run", pair_records(4)), replace(WATCHED, resume=True))
    assert same_run(tmp_path / "run", whole)
    lines = read_jsonl(whole / "metrics.jsonl")
    assert [(line["stage"], line["round"]) for line in lines] == [(0, 0)] * 8 + [(0, 1)] * 8 + [(1, 0)] * 4
    assert [line["step"] for line in read_jsonl(tmp_path / "run" / "curve.jsonl")] == list(range(21))


def test_rates_and_orders_by_hand(whole: Path, tmp_path: Path) -> None:
    """A rate falls over all rounds of its stage, and every epoch of every round has an order of its own."""
    lines = read_jsonl(whole / "metrics.jsonl")

    def rates(steps: int, warmup: int) -> list[float]:
        rising = [(step + 1) / (warmup + 1) for step in range(warmup)]
        return [1e-2 * share for share in (*rising, *(1 - step / (steps - warmup) for step in range(steps - warmup)))]

    # A tenth of the steps, rounded up, is the longest warm-up.
    assert [line["lr"] for line in lines] == pytest.approx([*rates(16, 2), *rates(4, 1)])
    world = tiny_world(tmp_path, pair_records(4))
    texts = [len(tree) for tree in Imitated()(world, 0).examples]
    pairs = [len(Pairs(Logistic()).tree(pair)) for pair in PreferenceRows()(world, 0).examples]
    expected = []
    for stage, round_, sizes in ((0, 0, texts), (0, 1, texts), (1, 0, pairs)):
        for epoch in range(2):
            order = np.random.default_rng([0, stage, round_, epoch]).permutation(len(sizes))
            expected += [sizes[one] + sizes[two] for one, two in order.reshape(-1, 2)]
    assert [line["tokens"] for line in lines] == expected


def test_the_second_stage_starts_at_the_first_ones_end(tmp_path: Path) -> None:
    """The reference of the second stage is the policy that the first left, so its first margin is 0."""
    run(two_stages(), tiny_world(tmp_path / "run", pair_records(4)))
    first = read_jsonl(tmp_path / "run" / "metrics.jsonl")[16]
    assert first["loss"] == pytest.approx(0.693147, abs=1e-5)


def test_how_a_run_is_carried_out_changes_no_weight(tmp_path: Path) -> None:
    run(two_stages(), tiny_world(tmp_path / "plain", pair_records(4)))
    options = Options(title="Watched", save_every=1, observe=observe, observe_every=5)
    run(two_stages(), tiny_world(tmp_path / "watched", pair_records(4)), options)
    assert model_bytes(tmp_path / "plain") == model_bytes(tmp_path / "watched")
    assert [line["step"] for line in read_jsonl(tmp_path / "watched" / "curve.jsonl")] == [0, 5, 10, 15, 16, 20]


def test_a_run_is_watched_once_a_step(tmp_path: Path) -> None:
    seen: list[int] = []

    def watch(world: World, step: int) -> Mapping[str, Any]:
        seen.append(step)
        return {}

    run(two_stages(), tiny_world(tmp_path / "run", pair_records(4)), Options(observe=watch, observe_every=5))
    assert seen == [0, 5, 10, 15, 16, 20]


def test_a_round_in_which_a_saving_step_passed_is_saved_at_its_end(tmp_path: Path) -> None:
    """Also where the run was stopped in the middle of the round, after that step."""
    for resume, step in ((False, 6), (True, 9)):
        options = Options(resume=resume, save_every=5, observe=stop_at(step), observe_every=1)
        with pytest.raises(Stop):
            run(two_stages(), tiny_world(tmp_path / "run", pair_records(4)), options)
    names = sorted(path.name for path in (tmp_path / "run" / "checkpoints").iterdir())
    assert names == ["00-00000-00000005-00000005", "00-00001-00000008-00000000"]
    # None of the first round holds a step that is a multiple of 9.
    with pytest.raises(Stop):
        run(two_stages(), tiny_world(tmp_path / "other", pair_records(4)), replace(options, resume=False, save_every=9))
    assert not (tmp_path / "other" / "checkpoints").exists()


def test_resuming_a_finished_run_changes_nothing(tmp_path: Path) -> None:
    run(two_stages(), tiny_world(tmp_path / "run", pair_records(4)))
    before = [model_bytes(tmp_path / "run"), (tmp_path / "run" / "metrics.jsonl").read_bytes()]
    (tmp_path / "run" / "model" / "model.safetensors").unlink()
    world = run(two_stages(), tiny_world(tmp_path / "run", pair_records(4)), Options(resume=True))
    assert before == [model_bytes(tmp_path / "run"), (tmp_path / "run" / "metrics.jsonl").read_bytes()]
    kept = load_file(tmp_path / "run" / "model" / "model.safetensors")
    assert all(torch.equal(weight, kept[name]) for name, weight in weights_of(world.policy).items() if name in kept)


# --- a reference that moves -------------------------------------------------------------------------------------------


@final
class PreviousRound(RunningReference):
    """The policy as it was at the start of the round."""

    def __init__(self, lm: LanguageModel) -> None:
        self.lm = replace(lm, model=deepcopy(lm.model))

    def token_logps(self, packed: Packed, temperature: float = 1.0) -> Float[Tensor, " wanted"]:
        with torch.no_grad():
            return token_logps(self.lm, packed, temperature)

    def advance(self, world: World) -> None:
        self.restore(dict(world.policy.model.named_parameters()))

    def state(self) -> Mapping[str, Tensor]:
        return dict(self.lm.model.named_parameters())

    def restore(self, state: Mapping[str, Tensor]) -> None:
        with torch.no_grad():
            for name, weight in self.lm.model.named_parameters():
                weight.copy_(state[name])


@dataclass(frozen=True)
class Previous:
    is_start: ClassVar[bool] = True

    def start(self, world: World) -> RunningReference:
        return PreviousRound(world.policy)


def test_a_reference_follows_after_every_round(tmp_path: Path) -> None:
    """Policy and reference are one at the start of a round, so that its first loss is log 2, also in a resumed run."""
    update = Optimization(**{**FAST, "epochs": 2})
    stage = Stage(
        examples=PreferenceRows(), reference=Previous(), objective=Pairs(Logistic(0.1)), update=update, rounds=3
    )
    recipe = Recipe((stage,))
    run(recipe, tiny_world(tmp_path / "whole", pair_records(4)), WATCHED)
    losses = [line["loss"] for line in read_jsonl(tmp_path / "whole" / "metrics.jsonl")]
    assert losses[::4] == pytest.approx([math.log(2)] * 3, abs=1e-5)
    assert all(abs(loss - math.log(2)) > 1e-3 for place, loss in enumerate(losses) if place % 4)
    with pytest.raises(Stop):
        run(recipe, tiny_world(tmp_path / "run", pair_records(4)), replace(WATCHED, observe=stop_at(7)))
    run(recipe, tiny_world(tmp_path / "run", pair_records(4)), replace(WATCHED, resume=True))
    assert same_run(tmp_path / "run", tmp_path / "whole")


# --- a folder that is not this run's ---------------------------------------------------------------------------------


def test_a_run_is_not_overwritten(tmp_path: Path) -> None:
    run(two_stages(), tiny_world(tmp_path / "run", pair_records(4)))
    before = model_bytes(tmp_path / "run")
    with pytest.raises(InputError, match=r"holds a run .*--resume"):
        run(two_stages(), tiny_world(tmp_path / "run", pair_records(4)))
    assert model_bytes(tmp_path / "run") == before


@pytest.mark.parametrize(
    ("recipe", "changes", "message"),
    [
        (two_stages(lr=0.5), {}, r"another recipe: 'lr: 0.01' there, 'lr: 0.5' now"),
        (two_stages(), {"seed": 1}, r"field 'seed': .*another seed: 0 there, 1 now"),
        (two_stages(), {"records": pair_records(4, seed=1)}, r"field 'rows'"),
        (two_stages(), {"records": pair_records(3)}, r"field 'rows'"),
        (
            two_stages(),
            {"lm": replace(tiny_llama(seed=2), name="tiny-0")},
            r"field 'weights': .*other weights of the model 'policy': tiny-0, \w{16} there, tiny-0, \w{16} now",
        ),
    ],
)
def test_another_run_is_not_resumed(recipe: Recipe, changes: dict[str, Any], message: str, tmp_path: Path) -> None:
    records: Sequence[dict[str, Any]] = pair_records(4)
    with pytest.raises(Stop):
        run(two_stages(), tiny_world(tmp_path / "run", records), Options(observe=stop_at(0)))
    other = tiny_world(tmp_path / "run", **{"records": records, **changes})
    with pytest.raises(InputError, match=message):
        run(recipe, other, Options(resume=True))
    # What counts is what a model is, and not what it is called: a folder may move.
    moved = replace(tiny_llama(), name="elsewhere")
    run(two_stages(), tiny_world(tmp_path / "run", records, moved), Options(resume=True))


def test_a_folder_with_other_things_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(InputError, match="not empty and holds no run"):
        run(two_stages(), tiny_world(tmp_path, pair_records(4)), Options(resume=True))
    with pytest.raises(InputError, match="this is a file"):
        run(two_stages(), tiny_world(tmp_path / "notes.txt", pair_records(4)))
    assert [path.name for path in tmp_path.iterdir()] == ["notes.txt"]


# --- the slots that no shipped method uses yet ------------------------------------------------------------------------


@dataclass(frozen=True)
class Bias:
    """One trainable module, drawn at random."""

    def __call__(self, policy: LanguageModel) -> Mapping[str, nn.Module]:
        return {"bias": nn.Linear(1, 1)}


@dataclass(frozen=True)
class Biased(Objective):
    """Next-token loss with the module's prediction of 3 from 1 beside it."""

    inner: NextToken = NextToken()

    def tree(self, example: TokenTree) -> TokenTree:
        return self.inner.tree(example)

    def size(self, example: TokenTree) -> float:
        return self.inner.size(example)

    def __call__(self, policy: LanguageModel, reference: RunningReference, examples: Sequence[TokenTree]) -> Loss:
        loss = self.inner(policy, reference, examples)
        guess: Float[Tensor, ""] = policy.heads["bias"](torch.ones(1)).squeeze()
        miss = (guess - 3) ** 2 * sum(map(self.size, examples))
        return Loss(loss.total + miss, {**loss.metrics, "miss": miss.detach()})


@dataclass(frozen=True)
class Shift:
    """Moves the trained policy by 1 and writes down each of its calls; keeps the start that it was given."""

    def check(self, world: World) -> None:
        with (world.folder / "finished.txt").open("a") as file:
            file.write("checked\n")

    def __call__(self, world: World, start: Mapping[str, torch.Tensor]) -> None:
        with (world.folder / "finished.txt").open("a") as file:
            file.write(f"{sorted(world.policy.heads)}\n")
        save_file(dict(start), world.folder / "start.safetensors")
        with torch.no_grad():
            next(world.policy.model.parameters()).add_(1.0)


def with_slots(rounds: int = 2, **slots: Any) -> Recipe:
    update = Optimization(**{**FAST, "lr": 0.1, "warmup": 0})
    shared: dict[str, Any] = {"examples": Imitated(), "update": update, "rounds": rounds}
    return Recipe((Stage(**shared, objective=Biased(), modules=Bias(), **slots),))


EVERY_STEP = Options(save_every=1, observe=observe, observe_every=1)


@pytest.fixture(scope="module")
def whole_slots(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("slots") / "whole"
    torch.manual_seed(5)
    run(with_slots(), tiny_world(folder, pair_records(3)), EVERY_STEP)
    return folder


@pytest.mark.parametrize("step", [1, 3, 5])
def test_modules_are_trained_saved_and_restored(step: int, whole_slots: Path, tmp_path: Path) -> None:
    metrics = read_jsonl(whole_slots / "metrics.jsonl")
    assert metrics[-1]["miss"] < 0.9 * metrics[0]["miss"]
    torch.manual_seed(6)
    with pytest.raises(Stop):
        run(with_slots(), tiny_world(tmp_path / "run", pair_records(3)), replace(EVERY_STEP, observe=stop_at(step)))
    torch.manual_seed(7)
    run(with_slots(), tiny_world(tmp_path / "run", pair_records(3)), replace(EVERY_STEP, resume=True))
    assert same_run(tmp_path / "run", whole_slots)
    newest = sorted((tmp_path / "run" / "checkpoints").iterdir())[-1]
    assert {"heads.bias.weight", "heads.bias.bias"} < load_file(newest / "weights.safetensors").keys()


@dataclass(frozen=True)
class Enough(Biased):
    """Biased, until the module's miss is small."""

    below: float = 0.0

    def ends_round(self, metrics: Mapping[str, float]) -> bool:
        return metrics["miss"] < self.below


def stopping(below: float) -> Recipe:
    """3 rounds of up to 9 steps: 3 rows with 2 responses in batches of 2, 3 epochs."""
    (stage,) = with_slots(rounds=3).stages
    update = replace(stage.update, epochs=3, schedule="linear", lr=0.05)
    return Recipe((replace(stage, objective=Enough(below=below), update=update),))


def test_a_round_stops_where_its_objective_has_enough(tmp_path: Path) -> None:
    """Steps that are left out keep their place in the schedule, and nothing else of the round changes."""
    run(stopping(0.0), tiny_world(tmp_path / "whole", pair_records(3)))
    run(stopping(4.5), tiny_world(tmp_path / "stopped", pair_records(3)))
    whole, stopped = (read_jsonl(tmp_path / name / "metrics.jsonl") for name in ("whole", "stopped"))
    assert len(whole) == 27
    first = [line["miss"] < 4.5 for line in whole].index(True) + 1
    assert 1 < first < 9
    assert [(line["step"], line["round"]) for line in stopped] == [
        *((step, 0) for step in range(1, first + 1)),
        (first + 1, 1),
        (first + 2, 2),
    ]
    assert [line.pop("skipped", 0) for line in stopped] == [0] * (first - 1) + [9 - first, 8, 8]
    assert stopped[:first] == whole[:first]
    assert [line["lr"] for line in stopped[first:]] == [whole[9]["lr"], whole[18]["lr"]]
    phases = read_jsonl(tmp_path / "stopped" / "timing.jsonl")
    assert [line["count"] for line in phases if line["phase"] == "update"] == [first, 1, 1]


@pytest.fixture(scope="module")
def whole_stopping(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("stopping") / "whole"
    run(stopping(4.5), tiny_world(folder, pair_records(3)), EVERY_STEP)
    return folder


@pytest.mark.parametrize("save_every", [1, 2, 3])
def test_a_stopped_round_is_resumed_as_it_was(save_every: int, whole_stopping: Path, tmp_path: Path) -> None:
    options = replace(EVERY_STEP, save_every=save_every)
    last = read_jsonl(whole_stopping / "metrics.jsonl")[-1]["step"]
    for step in range(last - 3, last + 1):
        folder = tmp_path / f"run-{step}"
        with pytest.raises(Stop):
            run(stopping(4.5), tiny_world(folder, pair_records(3)), replace(options, observe=stop_at(step)))
        run(stopping(4.5), tiny_world(folder, pair_records(3)), replace(options, resume=True))
        assert same_run(folder, whole_stopping)


def test_finish_is_called_once_with_the_trained_policy(tmp_path: Path) -> None:
    run(with_slots(), tiny_world(tmp_path / "plain", pair_records(3)))
    world = run(with_slots(finish=Shift()), tiny_world(tmp_path / "shifted", pair_records(3)))
    run(with_slots(finish=Shift()), tiny_world(tmp_path / "shifted", pair_records(3)), Options(resume=True))
    # The second run is resumed: nothing is left to do.
    assert (tmp_path / "shifted" / "finished.txt").read_text() == "checked\n['bias']\nchecked\n"
    plain, shifted = (load_file(tmp_path / name / "model" / "model.safetensors") for name in ("plain", "shifted"))
    moved = next(name for name, _ in world.policy.model.named_parameters())
    assert torch.equal(shifted[moved], plain[moved] + 1.0)
    assert all(torch.equal(shifted[name], plain[name]) for name in plain if name != moved)


def test_finish_gets_the_weights_that_the_run_began_with(tmp_path: Path) -> None:
    """In whichever stage: those of the untrained policy."""
    begun = weights_of(tiny_world(tmp_path, pair_records(3)).policy)
    run(with_slots(finish=Shift()), tiny_world(tmp_path / "one", pair_records(3)))
    start = load_file(tmp_path / "one" / "start.safetensors")
    assert start.keys() == begun.keys()
    assert all(torch.equal(weight, begun[name]) for name, weight in start.items())

    first, last = with_slots(), with_slots(finish=Shift())
    run(Recipe((*first.stages, *last.stages)), tiny_world(tmp_path / "two", pair_records(3)))
    start = load_file(tmp_path / "two" / "start.safetensors")
    assert all(torch.equal(weight, begun[name]) for name, weight in start.items())


def test_weights_at_the_end_of_a_stage_are_saved_once(tmp_path: Path) -> None:
    """The last snapshot is that of the end; what stands beside it is of an earlier step."""
    recipe = methods.build("dpo", {**FAST, "epochs": 1})
    run(recipe, tiny_world(tmp_path, pair_records(6)), Options(save_every=2))
    steps = [path.name.split("-")[2] for path in sorted((tmp_path / "checkpoints").iterdir())]
    assert steps == ["00000002", "00000003"]
    run(recipe, tiny_world(tmp_path, pair_records(6)), Options(resume=True))  # and is enough to go on from
