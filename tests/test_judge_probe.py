"""A judge before a run: asked about answers of the policy, and refused where it goes by their place."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar

import pytest
from tiny import prompt_records, read_jsonl, saved, tiny_llama, tiny_world, write_jsonl
from tiny_cli import Cli
from tiny_creatures import SURE, creature

from uptake import methods
from uptake.annotators.base import Annotator, AnnotatorSpec
from uptake.errors import InputError
from uptake.judge import PairwiseJudge
from uptake.recipe import Recipe, Stage
from uptake.rewards.base import Resources
from uptake.rollout import PolicySamples
from uptake.tasks.judge_probe import PAIRS, facts_of, probe_judge, refuse_position_bias
from uptake.types import Prompt, Verdict


@dataclass(frozen=True)
class EveryThird(Annotator, AnnotatorSpec):
    """Takes what is shown first, but for every third pair; notes what it is asked, and where it could keep answers."""

    path: Path
    every: int = 3
    both_orders: ClassVar[bool] = True

    fingerprint = "every third"

    def build(self, resources: Resources) -> "EveryThird":
        self.path.write_text(f"{resources.folder}\n")
        return self

    def compare(self, prompts: Sequence[Prompt], pairs: Sequence[tuple[str, str]]) -> Sequence[Verdict]:
        with self.path.open("a") as file:
            file.writelines(f"{pair!r}\n" for pair in pairs)
        return [Verdict(0.9, (0.9, 0.1 if number % self.every else 0.9)) for number, _ in enumerate(pairs)]


def stage(by: AnnotatorSpec, **options: Any) -> Stage:
    sampled = {"batch_size": 12, "steps": 8, "temperature": 1.0, "max_new_tokens": 80}
    (made,) = methods.build("oaif", {"judge": "oracle", **sampled, **options}).stages
    return replace(made, judge=PairwiseJudge(by, False, options.get("allow_position_bias", False)))


def test_the_pairs_are_two_answers_to_the_first_prompts(tmp_path: Path) -> None:
    world = tiny_world(tmp_path / "run", prompt_records(40))
    asking = stage(EveryThird(tmp_path / "asked.txt"))
    stats = probe_judge(asking, world)
    folder, *asked = (tmp_path / "asked.txt").read_text().splitlines()
    rows = [row for round_ in range(3) for row in asking.select(world, round_)][:PAIRS]
    drawn = PolicySamples(2, 1.0, 1.0, 0, 64)(world, rows, 0, 0)
    texts = [(one.response, other.response) for one, other in drawn]
    usable = [pair for pair in texts if pair[0] != pair[1] and all(text.strip() for text in pair)]
    assert asked == [repr(pair) for pair in usable]
    assert stats is not None
    assert stats.agreement is not None
    assert (stats.pairs, stats.agreement.n) == (PAIRS, len(usable))
    assert stats.agreement.rate == len(usable[::3]) / len(usable)
    longer = [len(one) > len(other) for one, other in usable if len(one) != len(other)]
    assert stats.longer_wins is not None
    assert stats.longer_wins.rate == sum(longer) / len(longer)
    assert not Path(folder).exists()
    assert not (tmp_path / "run").exists()


def test_a_judge_that_goes_by_place_is_refused_unless_it_may(tmp_path: Path) -> None:
    world = tiny_world(tmp_path / "run", prompt_records(40))
    by = EveryThird(tmp_path / "asked.txt")
    allowed = r"\(allowed: a judge that reads the responses; or allow_position_bias=true, to learn from this one\)"
    with pytest.raises(InputError, match=rf"field 'judge': .* both orders agree in 3\d% of \d+ pairs.*{allowed}"):
        refuse_position_bias(Recipe((stage(by),)), world)
    refuse_position_bias(Recipe((stage(replace(by, every=1)),)), world)
    (tmp_path / "asked.txt").unlink()
    refuse_position_bias(Recipe((stage(by, allow_position_bias=True),)), world)
    assert not (tmp_path / "asked.txt").exists()


def test_judges_that_see_one_order_are_not_asked(tmp_path: Path) -> None:
    @dataclass(frozen=True)
    class Person(EveryThird):
        both_orders: ClassVar[bool] = False

    world = tiny_world(tmp_path / "run", prompt_records(12))
    assert probe_judge(stage(Person(tmp_path / "asked.txt")), world) is None
    (reward,) = methods.build("oaif", {"judge": "length", "batch_size": 2}).stages
    assert probe_judge(reward, world) is None
    (rows,) = methods.build("dpo", {}).stages
    assert probe_judge(rows, world) is None
    assert not (tmp_path / "asked.txt").exists()


def test_a_short_run_is_asked_about_all_of_it(tmp_path: Path) -> None:
    world = tiny_world(tmp_path / "run", prompt_records(40))
    stats = probe_judge(stage(EveryThird(tmp_path / "asked.txt"), batch_size=3, steps=2), world)
    assert stats is not None
    assert stats.pairs == 6
    assert any(name == "judge: both orders agree" for name, _ in facts_of(stats))


# --- the commands -----------------------------------------------------------------------------------------------------


@pytest.fixture
def command(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Cli:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "200")
    saved(tiny_llama(), tmp_path / "policy")
    saved(creature({"=": SURE}), tmp_path / "judge")
    write_jsonl(tmp_path / "prompts.jsonl", prompt_records(8))
    (tmp_path / "brief.txt").write_text("{prompt} A {first} B {second} Say one.\nBetter=")
    return Cli(tmp_path, capsys, monkeypatch)


RUN: tuple[object, ...] = (
    *("oaif", "--policy", "policy", "--model", "judge=judge", "--data", "prompts.jsonl"),
    *("--judge", "model", "--judge-set", "instructions=brief.txt", "--set", "steps=1", "--set", "batch_size=8"),
    *("--set", "max_new_tokens=8", "--set", "warmup=0"),
)


def test_check_says_how_often_both_orders_agree(command: Cli) -> None:
    out = command("check", *RUN)
    lines = {cells[1].strip(): cells[2].strip() for line in out.splitlines() if len(cells := line.split("│")) == 4}
    assert lines["judge: both orders agree"].startswith("0% of 6 (0% to ")
    assert lines["judge: verdicts invalid"].startswith("25% of 8 ")
    assert "judge: longer wins" in lines
    assert "goes by the place of a response" in lines["judge: warning"]


def test_a_run_is_refused_before_it_has_a_folder(command: Cli, tmp_path: Path) -> None:
    assert "this judge goes by the place of a response" in command.fails("train", *RUN, "--out", "run")
    assert not (tmp_path / "run").exists()
    command("train", *RUN, "--out", "run", "--set", "allow_position_bias=true", "--set", "label=soft")
    assert len(read_jsonl(tmp_path / "run/metrics.jsonl")) == 1
    assert "Orders agree" in (tmp_path / "run/report.html").read_text()
