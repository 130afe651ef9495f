"""Claims by one rule: the interval, the correction, the refusals, and that a killed call goes on."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from claims import publish
from claims import store as store_module
from claims.claim import DEVELOPMENT_SEEDS, SEEDS, Arm, Claim, Measured, Options, Trial
from claims.rule import Difference, difference, holm
from claims.runner import candidates, chosen, make, tried, work
from claims.store import Job, Store, content
from claims.table import FAILS, HOLDS, UNTOLD, Finding, find, judge, rows
from scipy import stats

from uptake.errors import ModelError

QUESTIONS = ("a", "b", "c")
Table = Sequence[Sequence[float]]


def by_question(table: Table) -> list[dict[str, float]]:
    return [dict(zip("abcdefghijklmnopqrst", row, strict=False)) for row in table]


def of(*, mean: float, error: float = 1.0, freedom: float = 10.0, margin: float = 0.0, more: bool = True) -> Finding:
    claim = Claim("", Arm("", measured_work), 0.0, "x", "more" if more else "less", margin)
    return Finding(claim, Difference(mean, error, freedom))


# --- the interval


def test_where_questions_are_alike_it_is_the_paired_t_test_over_seeds() -> None:
    ours, theirs = [0.9, 0.8, 0.85, 0.95, 0.7], [0.6, 0.7, 0.65, 0.8, 0.75]
    found = difference(*(by_question([[value] * 4 for value in side]) for side in (ours, theirs)))
    expected = stats.ttest_rel(ours, theirs)
    assert found.freedom == pytest.approx(4)
    assert found.p() == pytest.approx(expected.pvalue)
    assert found.interval(0.05) == pytest.approx(tuple(expected.confidence_interval(0.95)))
    assert found.interval(0.001) == pytest.approx(tuple(expected.confidence_interval(0.999)))


def test_where_seeds_are_alike_it_is_the_paired_t_test_over_questions() -> None:
    ours, theirs = [1.0, 0.0, 0.5, 1.0, 1.0, 0.0, 1.0], [0.0, 0.0, 0.5, 0.0, 1.0, 0.5, 0.0]
    found = difference(*(by_question([side] * 5) for side in (ours, theirs)))
    expected = stats.ttest_rel(ours, theirs)
    assert found.freedom == pytest.approx(6)
    assert found.p() == pytest.approx(expected.pvalue)
    assert found.interval(0.05) == pytest.approx(tuple(expected.confidence_interval(0.95)))


def test_against_a_number_it_is_the_t_test_of_one_sample() -> None:
    values = [0.93, 0.95, 0.97, 0.96, 0.91]
    expected = stats.ttest_1samp(values, 0.9)
    assert difference([{"": each} for each in values], 0.9).p() == pytest.approx(expected.pvalue)
    shifted = difference([{"": each} for each in values], 0.0)
    assert shifted.p(margin=0.9) == pytest.approx(expected.pvalue)


def test_seeds_and_questions_both_count() -> None:
    # By hand: means of seeds 1 and 3, of questions 1 and 3, so each variance of the mean is 2 / 2.
    found = difference(by_question([[0.0, 2.0], [2.0, 4.0]]), 0.0)
    assert (found.mean, found.error, found.freedom) == pytest.approx((2.0, 2**0.5, 2.0))


def test_the_interval_holds_the_truth_as_often_as_it_says() -> None:
    rng = np.random.default_rng(0)
    caught = []
    for seeds, questions in ((1.0, 0.0), (0.3, 3.0), (0.0, 1.0)):
        hits = 0
        for _ in range(400):
            of_seed, of_question = rng.normal(0, seeds, (5, 1)), rng.normal(0, questions, (1, 20))
            table = 0.4 + of_seed + of_question + rng.normal(0, 1, (5, 20))
            low, high = difference(by_question(table.tolist()), 0.0).interval(0.05)
            hits += low <= 0.4 <= high
        caught.append(hits / 400)
    assert min(caught) > 0.93, caught


def test_it_is_paired() -> None:
    # Seeds differ a lot, and by as much on both sides.
    ours, theirs = [[0.1, 0.1], [0.5, 0.5], [0.9, 0.9]], [[0.05, 0.04], [0.45, 0.44], [0.84, 0.85]]
    found = difference(by_question(ours), by_question(theirs))
    assert found.p() < 0.05
    assert stats.ttest_ind([0.1, 0.5, 0.9], [0.045, 0.445, 0.845]).pvalue > 0.5


@pytest.mark.parametrize("count", [10, 100])
def test_where_nothing_varies_one_question_more_might_have(count: int) -> None:
    """Else ten right answers out of ten would leave no doubt."""
    right = {str(number): 1.0 for number in range(count)}
    found = difference([right, right], 0.95)
    half = float(stats.t.ppf(0.975, count - 1)) / count
    assert found.interval(0.05) == pytest.approx((0.05 - half, 0.05 + half))
    assert (found.p() < 0.05) == (count == 100)


def test_equal_sides_differ_by_nothing() -> None:
    found = difference(by_question([[0.1, 0.7], [0.3, 0.2]]), by_question([[0.1, 0.7], [0.3, 0.2]]))
    assert (found.mean, found.p()) == (0.0, 1.0)


@pytest.mark.parametrize(
    ("ours", "theirs"),
    [
        ([{"a": 1.0}, {"a": 1.0}], [{"a": 1.0}, {"b": 1.0}]),
        ([{"a": 1.0}, {"a": 1.0, "b": 1.0}], [{"a": 1.0}, {"a": 1.0}]),
        ([{"a": 1.0}, {"a": 1.0}], [{"a": 1.0}]),
        ([{"a": 1.0}], [{"a": 1.0}]),
    ],
)
def test_what_is_not_paired_is_no_difference(ours: list[dict[str, float]], theirs: list[dict[str, float]]) -> None:
    with pytest.raises(ValueError, match=r"questions are not the same|seeds against"):
        difference(ours, theirs)


# --- many comparisons


def test_holm_by_hand() -> None:
    # 0.01 <= 0.05/4, 0.013 <= 0.05/3, 0.03 > 0.05/2: the last two are held to 0.05/2, though 0.04 <= 0.05.
    levels = holm([0.04, 0.01, 0.03, 0.013])
    assert levels == pytest.approx([0.05 / 2, 0.05 / 4, 0.05 / 2, 0.05 / 3])


def test_holm_is_that_of_adjusted_p_values() -> None:
    rng = np.random.default_rng(1)
    for _ in range(50):
        p_values = (rng.random(12) ** 4).tolist()
        # Adjusted the other way round: the running maximum of p times how many are left.
        order = np.argsort(p_values)
        adjusted = np.maximum.accumulate(np.array(p_values)[order] * np.arange(12, 0, -1))
        rejected = {int(trial) for trial, value in zip(order, adjusted, strict=True) if value <= 0.05}
        levels = holm(p_values)
        assert {trial for trial, p in enumerate(p_values) if p <= levels[trial]} == rejected


def test_what_could_not_be_tested_counts_among_the_tests() -> None:
    assert holm([0.02]) == [0.05]
    assert holm([0.02, None, None]) == pytest.approx([0.05 / 3] * 3)


# --- verdicts


def test_verdicts_by_direction_and_margin() -> None:
    found = [
        of(mean=9),
        of(mean=-9),
        of(mean=1),
        of(mean=9, more=False),
        of(mean=-9, more=False),
        of(mean=-1, margin=-9),
        of(mean=1, margin=9),
        of(mean=1, margin=-9, more=False),
        of(mean=-1, margin=9, more=False),
    ]
    verdicts = [each.verdict for each in judge(found)]
    assert verdicts == [HOLDS, FAILS, UNTOLD, FAILS, HOLDS, HOLDS, FAILS, HOLDS, FAILS]


def test_a_verdict_is_what_its_interval_says() -> None:
    rng = np.random.default_rng(2)
    found = [of(mean=float(mean), margin=0.5) for mean in rng.normal(1, 3, 30)]
    kinds = set()
    for each in judge(found):
        assert each.interval is not None
        low, high = each.interval
        assert each.verdict == (HOLDS if low > 0.5 else FAILS if high < 0.5 else UNTOLD)
        kinds.add(each.verdict)
    assert kinds == {HOLDS, FAILS, UNTOLD}


def test_one_claim_among_many_has_a_wider_interval() -> None:
    alone, *_ = judge([of(mean=2.5)])
    among, *_ = judge([of(mean=2.5), *(of(mean=0) for _ in range(9))])
    assert (alone.verdict, among.verdict) == (HOLDS, UNTOLD)
    assert among.interval is not None
    assert among.interval[0] < 0


# --- arms and what is kept of them


def measured_work(options: Options, trial: Trial) -> Measured:
    """Quality by question, seed and rate, as plain sums; breaks off where that is asked for."""
    if options.get("breaks") == trial.seed:
        raise ModelError("not finite")
    if "count" in options:
        with Path(options["count"]).open("a") as file:
            file.write(f"{options.get('rate', '')} {trial.seed} {trial.questions}\n")
        time.sleep(options.get("sleep", 0.0))
    value = options["quality"] - abs(options.get("rate", 0.0) - options.get("best", 0.0))
    noise = 0.001 * trial.seed * options["quality"]
    return Measured(
        {"quality": {each: value + noise * place_ for place_, each in enumerate(QUESTIONS)}},
        {"labels": options.get("labels", 10), "steps": 4},
    )


def arm(name: str, quality: float, **more: object) -> Arm:
    return Arm(name, measured_work, {"quality": quality, **more})


def fill(store: Store, *arms: Arm, seeds: Sequence[int] = SEEDS) -> None:
    for each in arms:
        for seed in seeds:
            work(Job(each, each.candidates[0], seed, "held out"), store)


def only(claim: Claim, store: Store) -> str:
    (verdict,) = judge([find(claim, store)])
    return verdict.verdict


def test_a_claim_holds_by_its_results(tmp_path: Path) -> None:
    store, (good, bad) = Store(tmp_path), (arm("good", 0.9), arm("bad", 0.4))
    fill(store, good, bad)
    assert only(Claim("", good, bad, "quality"), store) == HOLDS
    assert only(Claim("", bad, good, "quality"), store) == FAILS
    assert only(Claim("", good, bad, "quality", margin=0.6), store) == FAILS
    assert only(Claim("", good, 0.8, "quality"), store) == HOLDS
    (row,) = rows(judge([find(Claim("it is better", good, bad, "quality"), store)]))
    assert row["figure"] == "0.902 against 0.401"
    assert row["difference"].startswith("+0.501 [")


def test_a_missing_seed_is_named(tmp_path: Path) -> None:
    store, (good, bad) = Store(tmp_path), (arm("good", 0.9), arm("bad", 0.4))
    fill(store, good)
    fill(store, bad, seeds=(0, 1, 3, 4))
    assert only(Claim("", good, bad, "quality"), store) == "no verdict: no result of 'bad' for seed 2"


def test_another_budget_is_named(tmp_path: Path) -> None:
    store, (good, bad) = Store(tmp_path), (arm("good", 0.9, labels=12), arm("bad", 0.4))
    fill(store, good, bad)
    assert only(Claim("", good, bad, "quality"), store) == "no verdict: budgets differ: 12 labels against 10"
    claim = Claim("with more labels it is better", good, bad, "quality", apart=("labels",))
    assert only(claim, store) == HOLDS
    assert rows(judge([find(claim, store)]))[0]["figure"].endswith("12 against 10 labels")


def test_a_difference_in_budget_is_said_in_the_sentence() -> None:
    with pytest.raises(ValueError, match="does not say that sides differ in labels"):
        Claim("it is better", arm("good", 0.9), arm("bad", 0.4), "quality", apart=("labels",))


def test_more_candidates_are_another_budget(tmp_path: Path) -> None:
    store, bad = Store(tmp_path), arm("bad", 0.4)
    good = replace(arm("good", 0.9), candidates=({"rate": 0.0}, {"rate": 0.1}))
    fill(store, good, bad)
    for job in candidates(good):
        work(job, store)
    assert only(Claim("", good, bad, "quality"), store) == "no verdict: budgets differ: 2 candidates against 1"


def test_a_result_of_another_version_is_named_and_made_anew(tmp_path: Path) -> None:
    store, (good, bad) = Store(tmp_path), (arm("good", 0.9), arm("bad", 0.4))
    fill(store, good, bad)
    claim = Claim("", good, bad, "quality")
    for path in tmp_path.glob("*.json"):
        found = json.loads(path.read_text())
        if found["arm"] == "bad" and found["seed"] == 3:
            path.write_text(json.dumps({**found, "version": {**found["version"], "torch": "1.0", "town": "old"}}))
    wrong = "no verdict: the result of 'bad' for seed 3 is of another version: torch, town"
    assert only(claim, store) == wrong
    work(Job(bad, {}, 3, "held out"), store)
    assert only(claim, store) == HOLDS


def test_a_seed_that_gives_nothing_to_measure_is_named(tmp_path: Path) -> None:
    store, good = Store(tmp_path), arm("good", 0.9)
    fill(store, good)
    found = find(Claim("", good, 0.5, "labels_right"), store)
    assert (found.difference, found.complete) == (None, True)
    assert found.reason == "'good' gave nothing to measure as labels right with seed 0"
    assert not find(Claim("", arm("bad", 0.4), 0.5, "quality"), store).complete


def test_a_run_that_broke_off_is_named(tmp_path: Path) -> None:
    store, (good, bad) = Store(tmp_path), (arm("good", 0.9), arm("bad", 0.4, breaks=1))
    fill(store, good, bad)
    assert only(Claim("", good, bad, "quality"), store) == "no verdict: 'bad' broke off with seed 1: not finite"


def test_rates_are_chosen_on_development_questions_alone(tmp_path: Path) -> None:
    log = tmp_path / "log"
    each = arm("tuned", 0.9, best=0.3, count=str(log))
    each = replace(each, candidates=({"rate": 0.1}, {"rate": 0.3}, {"rate": 0.5}))
    store = Store(tmp_path / "store")
    with pytest.raises(ValueError, match="no result of 'tuned' for seed 100"):
        chosen(each, store)
    make([Claim("", each, 0.5, "quality")], store, workers=1)
    done = sorted(log.read_text().splitlines())
    tried = [f"{rate} {seed} development" for rate in (0.1, 0.3, 0.5) for seed in DEVELOPMENT_SEEDS]
    assert done == sorted([*tried, *(f"0.3 {seed} held out" for seed in SEEDS)])
    assert not {*DEVELOPMENT_SEEDS} & {*SEEDS}
    assert chosen(each, store) == {"rate": 0.3}


@pytest.mark.parametrize("seed", DEVELOPMENT_SEEDS)
def test_a_rate_at_which_training_breaks_off_is_not_chosen(tmp_path: Path, seed: int) -> None:
    each = replace(arm("tuned", 0.9), candidates=({"breaks": seed}, {"quality": 0.1}))
    for job in candidates(each):
        work(job, Store(tmp_path))
    assert chosen(each, Store(tmp_path)) == {"quality": 0.1}


def test_a_rate_that_only_one_seed_bears_is_not_chosen(tmp_path: Path) -> None:
    store, each = Store(tmp_path), replace(arm("tuned", 0.9), candidates=({"rate": 1.0}, {"rate": 0.1}))
    for job in candidates(each):
        fast = job.candidate["rate"] == 1.0
        quality = (0.9 if job.seed == DEVELOPMENT_SEEDS[0] else 0.2) if fast else 0.7
        store.write(job, Measured({"quality": dict.fromkeys(QUESTIONS, quality)}))
    assert chosen(each, store) == {"rate": 0.1}
    (fast, spread), (slow, alike) = tried(each, store)
    assert (fast, slow) == ({"rate": 1.0}, {"rate": 0.1})
    assert (spread, alike) == (pytest.approx([0.9, 0.2]), pytest.approx([0.7, 0.7]))


def test_results_depend_on_what_was_asked(tmp_path: Path) -> None:
    job = Job(arm("good", 0.9), {}, 0, "held out")
    others = [
        replace(job, seed=1),
        replace(job, questions="development"),
        replace(job, candidate={"rate": 0.1}),
        replace(job, arm=arm("good", 0.8)),
    ]
    assert len({job.digest, *(each.digest for each in others)}) == 5
    assert replace(job, arm=arm("by another name", 0.9)).digest == job.digest


def test_code_counts_and_its_comments_do_not(tmp_path: Path) -> None:
    def digest(text: str) -> str:
        (tmp_path / "a.py").write_text(text)
        return content(tmp_path)

    one = digest('"""A."""\n\n\ndef f(x):\n    """B."""\n    return x + 1\n')
    assert digest("def f(x):  # c\n    return (x + 1)\n") == one
    assert digest("def f(x):\n    return x + 2\n") != one
    (tmp_path / "a.yaml").write_text("said: 1")
    assert digest('"""A."""\n\n\ndef f(x):\n    """B."""\n    return x + 1\n') != one
    assert store_module.version().keys() >= {"town", "code", "torch"}


def test_work_counts_for_the_arms_that_do_it() -> None:
    def names(work: str) -> set[str]:
        return {path.name for path in store_module.modules(f"claims.work.{work}")}

    assert names("rewards") == {"rewards.py", "runs.py", "town.py"}
    assert names("policy") == {"pairs.py", "policy.py", "runs.py", "tokens.py", "town.py"}
    assert store_module.version("claims.work.policy") != store_module.version("claims.work.rewards")


SLEEP = 1.5
KILLED = """
import sys
from pathlib import Path
from test_claims import SLEEP, arm
from claims.claim import Claim
from claims.runner import make
from claims.store import Store

if __name__ == "__main__":
    folder = Path(sys.argv[1])
    make([Claim("", arm("slow", 0.9, count=str(folder / "log"), sleep=SLEEP), 0.5, "quality")], Store(folder / "store"))
"""


@pytest.mark.slow
def test_a_killed_call_goes_on_where_it_was(tmp_path: Path) -> None:
    script, log = tmp_path / "killed.py", tmp_path / "log"
    script.write_text(KILLED)
    paths = os.pathsep.join([str(Path(__file__).parent), str(Path(store_module.__file__).parents[1]), *sys.path])
    call = [sys.executable, str(script), str(tmp_path)]
    with subprocess.Popen(call, env={**os.environ, "PYTHONPATH": paths}, stderr=subprocess.PIPE) as first:
        while len(list((tmp_path / "store").glob("*.json"))) < 2:
            time.sleep(0.05)
            assert first.poll() is None
        os.kill(first.pid, signal.SIGKILL)
    time.sleep(2)  # the workers notice, and end
    results = {path.name: path.stat().st_mtime_ns for path in (tmp_path / "store").glob("*.json")}
    assert 2 <= len(results) < len(SEEDS)
    done = len(log.read_text().splitlines())
    slow = arm("slow", 0.9, count=str(log), sleep=SLEEP)
    make([Claim("", slow, 0.5, "quality")], Store(tmp_path / "store"), workers=1)
    after = {path.name: path.stat().st_mtime_ns for path in (tmp_path / "store").glob("*.json")}
    assert len(after) == len(SEEDS)
    assert {name: when for name, when in after.items() if name in results} == results
    assert len(log.read_text().splitlines()) - done == len(SEEDS) - len(results)


@pytest.mark.slow
def test_a_stopped_call_ends_with_its_workers(tmp_path: Path) -> None:
    """A signal to all of them, as a terminal sends it: one line, and nobody ends what is begun."""
    script = tmp_path / "stopped.py"
    script.write_text(KILLED.replace("claims.runner import make", "claims.__main__ import _make as make"))
    paths = os.pathsep.join([str(Path(__file__).parent), str(Path(store_module.__file__).parents[1]), *sys.path])
    call = [sys.executable, str(script), str(tmp_path)]
    pipe = subprocess.PIPE
    with subprocess.Popen(
        call, env={**os.environ, "PYTHONPATH": paths}, stderr=pipe, text=True, start_new_session=True
    ) as first:
        while len(list((tmp_path / "store").glob("*.json"))) < 2:
            time.sleep(0.05)
            assert first.poll() is None
        os.killpg(first.pid, signal.SIGINT)
        _, said = first.communicate(timeout=30)
    assert first.returncode == 130
    assert said.splitlines()[-1].startswith("stopped by SIGINT at claims ")
    assert said.splitlines()[-1].endswith("; the same command goes on from the results that are there")
    assert "Traceback" not in said
    done = len(list((tmp_path / "store").glob("*.json")))
    assert 2 <= done < len(SEEDS)
    time.sleep(2 * SLEEP)
    assert len(list((tmp_path / "store").glob("*.json"))) == done


def test_results_of_machines_stand_beside_each_other(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    page = tmp_path / "page.md"
    page.write_text("# Claims\n\n{}\n\nstale\n\n{}\n\nThe end.\n".format(*publish.marks("claims")))
    monkeypatch.setattr(publish, "RESULTS", tmp_path)
    monkeypatch.setattr(publish, "PAGE", page)
    for cpu, mean in (("one", 9), ("other", -9), ("one", 1)):
        monkeypatch.setattr(publish, "environment", lambda cpu=cpu: {"cpu": cpu, "cores": "2"})
        publish.publish("claims", judge([of(mean=mean)]))
    found = json.loads((tmp_path / "claims.json").read_text())
    verdicts = {machine: [each["verdict"] for each in one["claims"]] for machine, one in found.items()}
    assert verdicts == {"one, 2 cores": [UNTOLD], "other, 2 cores": [FAILS]}
    text = page.read_text()
    assert text.startswith("# Claims\n")
    assert text.endswith("\n\nThe end.\n")
    assert ("stale" in text, text.count(FAILS), text.count(UNTOLD)) == (False, 1, 1)
    assert FAILS in (tmp_path / "claims.md").read_text()
