"""A bench from end to end: tiny models on hand-made sets, what it writes, and that a killed one ends the same."""

import json
import os
import random
import signal
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from test_report import Reader
from tiny import WORDS, in_process, saved, sentence, tiny_llama, tiny_tokenizer, write_followups, write_jsonl
from tiny_cli import Cli

from uptake.annotators.base import Annotator
from uptake.annotators.from_reward import FromReward
from uptake.annotators.oracle import OracleAnnotator
from uptake.datasets import EVALUATED, Absent, Benchmark, Candidates, Comparison, Rating, names
from uptake.errors import InputError
from uptake.evaluate.bench_results import BenchResults, Result, Timing
from uptake.judge.registry import ANNOTATORS, REWARDS, reward_spec
from uptake.report.bench import markdown, notes
from uptake.report.bench_sections import by_margin
from uptake.report.bench_tables import labels, tables
from uptake.rewards.base import Resources, Response, Reward
from uptake.rewards.length import Length
from uptake.rewards.oracle import Oracle
from uptake.rewards.rate import dialogue_of
from uptake.tasks.bench import CHUNK, bench
from uptake.town import Town
from uptake.types import Dialogue, Dropped, Judgement, Prompt, Turn, Verdict, Where


class Watched(Reward):
    """A reward that counts what it is asked, and may die in the middle of it."""

    def __init__(self, reward: Reward, die_at: int | None = None) -> None:
        self.reward, self.die_at = reward, die_at
        self.asked: list[Dialogue] = []
        self.calls: list[int] = []

    @property
    def fingerprint(self) -> str:
        return self.reward.fingerprint

    def rate(self, responses: Sequence[Response]) -> Sequence[Judgement]:
        self.calls.append(len(responses))
        self.asked += map(dialogue_of, responses)
        if self.die_at is not None and len(self.asked) > self.die_at:
            os.kill(os.getpid(), signal.SIGKILL)
        return self.reward.rate(responses)


def prompt(text: str) -> Prompt:
    return Prompt((Turn("user", text),), text)


def pairs(count: int = 40) -> Benchmark:
    """Every third pair is even; the longer response is preferred in the others. The last one has no room in a model."""
    rng, items = random.Random(0), []
    for number in range(count):
        short = sentence(rng)
        texts = (f"{short} .", short) if number % 2 else (short, f"{short} .")
        preference = 0.5 if number % 3 == 0 else float(number % 2)
        items.append(Comparison(prompt(sentence(rng)), texts, preference, "ab"[number % 2]))
    return Benchmark("pairs", "Hand-made pairs.", [*items, replace(items[1], responses=("bread " * 200, "bread"))], {})


def ratings(count: int = 45) -> Benchmark:
    rng, items = random.Random(1), []
    for number in range(count):
        turns = (Turn("user", sentence(rng)), Turn("assistant", sentence(rng)))
        given = {"fluent": float(rng.randint(1, 5)), "overall": float(len(turns[1].content))}
        level = "dialogue" if number % 5 == 0 else "turn"
        items.append(Rating(turns, given, level, f"s{number % 3}", where=Where(Path("r.jsonl"), number)))
    return Benchmark("ratings", "Hand-made ratings.", items, {"no response": 2})


def candidates(count: int = 12) -> Benchmark:
    rng = random.Random(2)
    rows = [(sentence(rng), tuple(sentence(rng) for _ in range(4))) for _ in range(count)]
    items = [Candidates(prompt(asked), texts, tuple(float(len(each)) for each in texts)) for asked, texts in rows]
    return Benchmark("candidates", "Hand-made candidates.", items, {})


SETS = (pairs(), ratings(), candidates(), Absent("shp", "split 'test' cannot be had from the Hub: no network"))


def scorers(folder: Path) -> dict[str, Any]:
    lm = tiny_llama(tokenizer=tiny_tokenizer((*WORDS, "1", "2")))
    at_hand = Resources({"follow_up": lm, "judge": lm})
    specs = {"follow_up": {"follow_up": {"followups": str(write_followups(folder))}}, "direct": "direct"}
    return {name: reward_spec(spec).build(at_hand) for name, spec in specs.items()} | {"length": Length()}


def bench_in_child(folder: Path, die_at: int) -> None:
    people = scorers(folder)
    bench(people | {"direct": Watched(people["direct"], die_at)}, SETS, folder / "out")


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory) -> tuple[BenchResults, Timing, Path]:
    folder = tmp_path_factory.mktemp("bench")
    people = scorers(folder) | {"judge": FromReward(Length(), 8.0)}
    return *bench(people, SETS, folder / "out"), folder / "out"


def figures(result: Result) -> Any:
    (found,) = result.figures
    return found


# --- figures ----------------------------------------------------------------------------------------------------------


def test_a_reward_that_is_right_is_right_throughout(done: tuple[BenchResults, Timing, Path]) -> None:
    """Length was the truth of all three sets, but for the response that has no room in a model."""
    board = done[0]
    agreed = figures(board.by_benchmark["pairs"]["length"])
    assert (agreed.accuracy.plain.rate, agreed.accuracy.plain.n, agreed.human_ties) == (1.0, 27, 14)
    assert {name: each.n for name, each in agreed.by_group.items()} == {"b": 14, "a": 13}
    assert [each.right.rate for each in agreed.by_length] == [1.0] * 5
    rows: Any = board.by_benchmark["ratings"]["length"].figures
    rated = {(each.level, each.quality): each for each in rows}
    assert list(rated) == [(level, quality) for level in ("dialogue", "turn") for quality in ("fluent", "overall")]
    overall = rated["turn", "overall"]
    assert overall.correlations.pearson.value == pytest.approx(1)
    assert overall.correlations.kendall.n == 36
    assert overall.systems.spearman.value == pytest.approx(1)
    assert figures(board.by_benchmark["candidates"]["length"]).gain.value == 1


def test_what_has_no_room_is_counted_and_left_out(done: tuple[BenchResults, Timing, Path]) -> None:
    board = done[0]
    for name in ("follow_up", "direct"):
        found = board.by_benchmark["pairs"][name]
        assert figures(found).accuracy.plain.n == 26
        assert list(found.invalid.values()) == [1]
    assert board.by_benchmark["pairs"]["length"].invalid == {}
    (line,) = (line for line in notes(board) if line.startswith("pairs: not judged: "))
    assert line.startswith("pairs: not judged: longer than the window (follow_up 1, direct 1); the first: ")


def test_an_annotator_takes_part_in_comparisons_only(done: tuple[BenchResults, Timing, Path]) -> None:
    board = done[0]
    assert [name for name, by_scorer in board.by_benchmark.items() if "judge" in by_scorer] == ["pairs"]
    judged, longer = (figures(board.by_benchmark["pairs"][name]) for name in ("judge", "length"))
    assert judged.accuracy.plain == longer.accuracy.plain
    judge, length = board.scorers["judge"], board.scorers["length"]
    assert (judge.kind, length.kind) == ("annotator", "reward")
    assert judge.confidence is not None
    assert judge.confidence.temperature is None
    assert length.confidence is not None
    assert length.confidence.temperature is not None
    assert figures(board.by_benchmark["pairs"]["follow_up"]).accuracy.plain.n == 26


class FirstPlace(Annotator):
    """Prefers whatever is shown first, but for some pairs that it judges by length; `refused` are not judged."""

    fingerprint = "first place"

    def __init__(self, honest: int = 0, refused: int = 0) -> None:
        self.honest, self.refused = honest, refused

    def compare(self, prompts: Sequence[Prompt], pairs: Sequence[tuple[str, str]]) -> Sequence[Verdict]:
        found = []
        for number, (one, other) in enumerate(pairs):
            p = float(len(one) > len(other))
            verdict = Verdict(p, (p, p)) if number < self.honest else Verdict(0.5, (1.0, 0.0))
            detail = "about to say 'A', neither 1 nor 2"
            found.append(
                verdict if number >= self.refused else replace(verdict, reason=Dropped.NO_CHOICE, detail=detail)
            )
        return found


def told(count: int = 8) -> Benchmark:
    """Pairs whose longer response is preferred, every other time the first."""
    texts = [("so it is", "so")[:: 1 if number % 2 else -1] for number in range(count)]
    items = [Comparison(prompt(f"how {number}?"), pair, float(number % 2)) for number, pair in enumerate(texts)]
    return Benchmark("told", "", items, {})


def test_how_often_both_orders_agree_stands_beside_a_judge(tmp_path: Path) -> None:
    board, _ = bench({"judge": FirstPlace(honest=2), "length": Length()}, [told()], tmp_path)
    stats = board.by_benchmark["told"]["judge"].verdicts
    assert stats is not None
    assert stats.agreement is not None
    assert (stats.agreement.rate, stats.agreement.n, stats.position_bias) == (2 / 8, 8, 6 / 8 / 2)
    assert stats.longer_wins is not None
    assert stats.longer_wins.rate == (2 + 6 / 2) / 8
    assert board.by_benchmark["told"]["length"].verdicts is None
    found = {table.title: table for table in tables(board)}
    for title, text in (("Orders that agree", "25.0%"), ("Longer response", "62.5%")):
        (row,) = found[title].rows
        assert (found[title].columns, [entry and entry.text for entry in row.entries]) == (("judge",), [text])
    place = "this judge goes by the place of a response, not by its text: both orders agree in 25% of 8 pairs"
    assert f"told, judge: {place}, where guessing gives 50%" in list(notes(board))
    assert "goes by the place" not in " ".join(notes(bench({"a": FirstPlace(4)}, [told()], tmp_path / "half")[0]))


def test_verdicts_are_kept_whole(tmp_path: Path) -> None:
    """A second call asks nothing but what was invalid, and has the same figures."""
    board, _ = bench({"judge": FirstPlace(honest=5, refused=3)}, [told()], tmp_path)
    again, timing = bench({"judge": FirstPlace(refused=3)}, [told()], tmp_path)
    assert timing.answered == {"judge": 3}
    assert again == board


def test_one_that_judged_nothing_stands_in_the_table(tmp_path: Path) -> None:
    board, _ = bench({"judge": FirstPlace(refused=8), "length": Length()}, [told(), ratings()], tmp_path)
    (table, *_) = tables(board)
    (row,) = table.rows
    assert (table.columns, [entry and entry.text for entry in row.entries]) == (
        ("judge", "length"),
        ["0 of 8", "100.0%"],
    )
    assert "| told | 0 of 8 | 100.0% (" in markdown(board)
    told_why = "told: not judged: neither 1 nor 2 (judge 8); the first: about to say 'A', neither 1 nor 2"
    assert told_why in list(notes(board))
    assert " 0 of 8 " in Reader((tmp_path / "page.html").read_text()).text
    alone, _ = bench({"judge": FirstPlace(refused=8)}, [told()], tmp_path / "alone")
    assert "| told | 0 of 8 | 0 |" in markdown(alone)


class Unwilling(Reward):
    fingerprint = "unwilling"

    def rate(self, responses: Sequence[Response]) -> Sequence[Judgement]:
        return [Judgement(0.0, reason=Dropped.NO_ANSWER, detail="I would rather not") for _ in responses]


def test_a_reward_that_rated_nothing_stands_in_every_row(tmp_path: Path) -> None:
    board, _ = bench({"length": Length(), "none": Unwilling()}, [ratings(), candidates()], tmp_path)
    for title, text in (("Ratings", "0 of 45"), ("Best of n", "0 of 12")):
        table = next(each for each in tables(board) if each.title == title)
        assert [row.entries[1] and row.entries[1].text for row in table.rows] == [text] * len(table.rows)
    alone, _ = bench({"none": Unwilling()}, [ratings()], tmp_path / "alone")
    assert "| ratings | 0 of 45 | 0 |" in markdown(alone)


def test_the_oracle_knows_its_town(tmp_path: Path) -> None:
    town, rng = Town(), random.Random(0)
    questions = list(town.questions(30, seed=0, split="train"))
    items = [
        Comparison(prompt(each.text), (town.answer(each, None, rng), town.answer(each, town.faults(each)[0], rng)), 1.0)
        for each in questions
    ]
    sums = [Comparison(prompt("What is seven times eight?"), ("It is 56.", "It is 42."), 1.0)]
    sets = [Benchmark("town", "", items, {}), Benchmark("sums", "", sums, {})]
    board, _ = bench({"oracle": Oracle()}, sets, tmp_path)
    assert figures(board.by_benchmark["town"]["oracle"]).accuracy.plain.rate == 1.0
    assert board.by_benchmark["sums"]["oracle"].note == "no row could be judged"
    board, _ = bench({"annotator": OracleAnnotator(noise=1.0)}, sets[:1], tmp_path)
    assert figures(board.by_benchmark["town"]["annotator"]).accuracy.plain.rate == 0.0


# --- scoring ----------------------------------------------------------------------------------------------------------


def test_every_distinct_dialogue_is_scored_once(tmp_path: Path) -> None:
    watched = Watched(Length())
    twice = replace(ratings(), name="again")
    _, timing = bench({"length": watched}, [*SETS, twice], tmp_path)
    assert len(watched.asked) == len(set(watched.asked)) == timing.answered["length"]
    again = Watched(Length())
    board, timing = bench({"length": again}, [*SETS, twice], tmp_path)
    assert (again.asked, timing.answered["length"], timing.share) == ([], 0, 0.0)
    assert board.by_benchmark["again"] == board.by_benchmark["ratings"]


def test_dialogues_that_differ_in_their_calls_alone_are_scored_each(tmp_path: Path) -> None:
    calls: list[Any] = [{"tool_calls": [{"name": name, "arguments": {}}]} for name in ("look", "ask", "buy")]
    dialogues = [(Turn("user", "when ?"), Turn("assistant", "", each)) for each in calls]
    items = [Rating(each, {"overall": float(place)}, "turn") for place, each in enumerate(dialogues)]
    watched = Watched(Length())
    bench({"length": watched}, [Benchmark("calls", "", items, {})], tmp_path)
    assert watched.asked == dialogues


def test_what_takes_seconds_each_is_asked_few_at_a_time(tmp_path: Path) -> None:
    """Who looks on sees a count that moves, and a kill costs little; what is left is the last call."""
    watched = Watched(Length())
    bench({"length": watched}, SETS, tmp_path)
    *whole, last = watched.calls
    assert set(whole) == {16}
    assert last == len(watched.asked) - 16 * len(whole) <= 16


def test_a_cache_may_be_shared_and_rewards_do_not_mix(tmp_path: Path) -> None:
    one, other = Watched(Length()), Watched(Oracle())
    for folder, watched in (("a", one), ("b", other), ("c", Watched(Length()))):
        bench({"it": watched}, [candidates()], tmp_path / folder, cache=tmp_path / "scores.sqlite")
    assert len(one.asked) == len(other.asked) > 0
    assert watched.asked == []
    assert (tmp_path / "a/results.json").read_bytes() == (tmp_path / "c/results.json").read_bytes()


@pytest.mark.parametrize("die_at", [0, CHUNK, 2 * CHUNK])
def test_a_killed_bench_ends_as_one_that_was_not(tmp_path: Path, die_at: int) -> None:
    assert in_process(bench_in_child, tmp_path, die_at) == -signal.SIGKILL
    assert not (tmp_path / "out/results.json").exists()
    people = scorers(tmp_path)
    watched = {name: Watched(each) for name, each in people.items()}
    board, _ = bench(watched, SETS, tmp_path / "out")
    every = watched["length"].asked  # whose turn had not come
    (no_room,) = watched["follow_up"].asked  # what could not be scored is not kept
    assert set(watched["direct"].asked) == {*every[die_at:], no_room}
    whole, _ = bench(scorers(tmp_path), SETS, tmp_path / "whole")
    assert board == whole
    for name in ("results.json", "results.md"):
        assert (tmp_path / "out" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()


def test_a_limit_draws_by_the_seed(tmp_path: Path) -> None:
    def drawn(folder: str, seed: int) -> list[Dialogue]:
        watched = Watched(Length())
        board, _ = bench({"length": watched}, SETS, tmp_path / folder, limit=10, seed=seed)
        assert {each.items for each in board.benchmarks.values()} == {10}
        return watched.asked

    assert drawn("a", 0) == drawn("b", 0)
    assert set(drawn("c", 0)) != set(drawn("d", 1))


def test_what_is_not_a_number_is_not_used(tmp_path: Path) -> None:
    class Broken(Reward):
        fingerprint = "broken"
        numbers = iter((1.0,))

        def rate(self, responses: Sequence[Response]) -> Sequence[Judgement]:
            return [Judgement(next(self.numbers, float("nan"))) for _ in responses]

    board, _ = bench({"broken": Broken()}, [ratings()], tmp_path)
    assert board.by_benchmark["ratings"]["broken"].invalid == {"not a finite number": 44}
    assert "fewer than three rows" in board.by_benchmark["ratings"]["broken"].note
    json.loads((tmp_path / "results.json").read_text(), parse_constant=pytest.fail)


def test_nothing_to_compare(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="nothing to compare: shp: split 'test' cannot be had"):
        bench({"length": Length()}, SETS[3:], tmp_path)
    with pytest.raises(InputError, match="nothing to compare: empty: it has no items"):
        bench({"length": Length()}, [Benchmark("empty", "", [], {"no response": 3})], tmp_path)
    with pytest.raises(InputError, match="nothing to compare"):
        bench({}, SETS, tmp_path)
    with pytest.raises(InputError, match="'limit': 0"):
        bench({"length": Length()}, SETS, tmp_path, limit=0)
    assert list(tmp_path.iterdir()) == []


# --- pages ------------------------------------------------------------------------------------------------------------


def test_what_is_written(done: tuple[BenchResults, Timing, Path]) -> None:
    board, timing, folder = done
    assert sorted(path.name for path in folder.glob("[!.]*[!-]")) >= ["page.html", "results.json", "results.md"]
    results = json.loads((folder / "results.json").read_text())
    (agreed,) = results["by_benchmark"]["pairs"]["length"]["figures"]
    assert agreed["accuracy"]["plain"]["rate"] == 1.0
    assert results["absent"] == {"shp": "split 'test' cannot be had from the Hub: no network"}
    assert json.loads((folder / "timing.json").read_text())["share"] == timing.share
    assert 0 < timing.share < 1
    assert sum(timing.scoring.values()) == pytest.approx(timing.share * timing.seconds)
    assert (folder / "results.md").read_text() == markdown(board)


def test_markdown_has_every_figure_once(done: tuple[BenchResults, Timing, Path]) -> None:
    text = markdown(done[0])
    plain = figures(done[0].by_benchmark["pairs"]["follow_up"]).accuracy.plain
    share = f"{plain.rate:.1%} ({100 * plain.low:.1f}\N{EN DASH}{plain.high:.1%}, n 26)"
    assert f"| pairs | {share} |" in text
    assert "* shp: split 'test' cannot be had from the Hub: no network" in text
    assert "* ratings: rows of its files left out: no response (2)" in text
    for table in tables(done[0]):
        assert text.count(f"\n## {table.title}\n") == 1


def test_the_page_is_inert_and_whole(done: tuple[BenchResults, Timing, Path]) -> None:
    html = (done[2] / "page.html").read_text(encoding="utf-8")
    page = Reader(html)
    assert not page.elements & {"script", "img", "iframe", "object", "form"}
    assert page.addresses == ["data:,"]
    assert "http" not in html.replace("http-equiv", "")
    sections = ["Pairs", "Pairs of like length", "Ratings", "Systems", "Best of n", "By margin", "By length"]
    places = [page.text.index(f" {words} ") for words in [*sections, "Confidence", "Parts", "Cost", "Left out"]]
    assert places == sorted(places)
    assert "Nearest to people: " in page.text


def test_means_are_of_those_with_every_figure(done: tuple[BenchResults, Timing, Path]) -> None:
    found = {table.title: table for table in tables(done[0])}
    assert set(found["Pairs"].means) == {"follow_up", "direct", "length", "judge"}
    assert set(found["Ratings"].means) == {"follow_up", "direct", "length"}
    rows: Any = [row.entries for row in found["Ratings"].rows]
    means = [found["Ratings"].means[name] for name in ("follow_up", "direct", "length")]
    assert means == pytest.approx([(a.estimate.value + b.estimate.value) / 2 for a, b in zip(*rows, strict=True)])
    assert [row.label for row in found["Ratings"].rows] == ["ratings, dialogue, overall", "ratings, turn, overall"]


def test_curves_by_hand(done: tuple[BenchResults, Timing, Path]) -> None:
    built: Any = by_margin.build(*done[:2])
    (length,) = [plot for plot in built.content if plot.title == "length"]
    assert length.figure == "100% to 100%"
    assert {dot.y for dot in length.dots} == {max(tick.at for tick in length.y_ticks)}
    assert [dot.x for dot in length.dots] == [0, 25, 50, 75, 100]


def test_paths_are_cut_where_that_tells_scorers_apart() -> None:
    specs = ["follow_up:negatives", "classifier:/models/a/best", "classifier:/models/b/best", "judge:org/name"]
    assert labels(specs) == {
        **{spec: spec for spec in specs[:3]},
        "judge:org/name": "judge:name",
    }


def test_html_in_names_is_text(tmp_path: Path) -> None:
    bench({"<b>": Length()}, [replace(pairs(), name="<i>", about="<u>")], tmp_path)
    page = Reader((tmp_path / "page.html").read_text())
    assert not page.elements & {"i", "u"}


# --- the command ------------------------------------------------------------------------------------------------------


@pytest.fixture
def command(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Cli:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "200")
    return Cli(tmp_path, capsys, monkeypatch)


def write_sets(folder: Path) -> None:
    """Two data sets in their authors' form: the longer response wins, and the longer one is rated higher."""
    rng, votes = random.Random(0), {"annotator1": 2, "annotator2": 2, "annotator3": 0}
    texts = [sentence(rng) for _ in range(8)]
    rows = [{"instruction": text, "input": "", "response1": text, "response2": f"{text} ."} | votes for text in texts]
    (folder / "pandalm-test").mkdir(parents=True)
    write_jsonl(folder / "pandalm-test" / "test.jsonl", rows)
    (folder / "fed").mkdir()
    write_jsonl(folder / "fed" / "fed_data.jsonl", [rated(sentence(rng)) for _ in range(8)])


def rated(text: str) -> Mapping[str, Any]:
    answers = {"Overall": [len(text), "N/A"]}
    return {"context": "User: when ?", "response": f"System: {text}", "system": "Meena", "annotations": answers}


def test_the_command(command: Cli, tmp_path: Path) -> None:
    write_sets(tmp_path / "data")
    lm = tiny_llama(tokenizer=tiny_tokenizer((*WORDS, "1", "2")))
    model = saved(lm, tmp_path / "model")
    out = command(
        *("bench", "pandalm", "fed", "llmbar", "--data", "data", "--model", model, "--out", "out"),
        *("--followups", write_followups(tmp_path), "--reward", "length", "--reward", "follow-up"),
    )
    lines = {cells[1].strip(): cells[2:] for line in out.splitlines() if len(cells := line.split("│")) > 3}
    assert lines["pandalm"][0].startswith(" 100.0%")
    assert lines["fed, turn, overall"][0].startswith(" 1.00")
    assert "llmbar: no folder 'llmbar' under the data folder, and it is not on the Hub" in out
    assert "in scoring; figures and page.html -> out" in out
    assert sorted(path.name for path in Path("out").glob("*.*") if "sqlite" not in path.name) == [
        *("page.html", "results.json", "results.md", "timing.json"),
    ]
    assert json.loads(Path("out/results.json").read_text())["by_benchmark"].keys() == {"pandalm", "fed"}


def test_the_lists(command: Cli, tmp_path: Path) -> None:
    write_sets(tmp_path / "data")
    out = command("bench", "--list", "--data", "data")
    rows = {line.split("│")[1].strip(): line.split("│")[2].strip() for line in out.splitlines() if line.count("│") > 2}
    assert rows.keys() >= set(names(*EVALUATED))
    assert all(name in out for name in (*REWARDS, *ANNOTATORS))
    assert (rows["pandalm"], rows["llmbar"], rows["flask"]) == ("here", "folder llmbar", "Hub")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["fed", "--data", "data"], "no folder for the figures"),
        (
            ["fed", "--data", "data", "--out", "out"],
            "this needs a model called 'follow_up' (allowed: --model follow_up=PATH",
        ),
        (["fedd", "--data", "data", "--out", "out"], "there is no data set 'fedd'; did you mean fed?"),
        (["fed", "--out", "out", "--reward", "length"], "nothing to compare: fed: no folder 'fed'"),
        (["fed", "--data", "data", "--out", "out", "--reward", "width"], "no reward 'width'"),
        (["fed", "--data", "data", "--out", "out", "--reward", "length", "--limit", "0"], "'limit': 0"),
    ],
)
def test_bad_input_is_refused(command: Cli, tmp_path: Path, arguments: list[str], message: str) -> None:
    write_sets(tmp_path / "data")
    assert message in command.fails("bench", *arguments)
