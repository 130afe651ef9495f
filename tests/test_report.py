"""The report of a small run folder, read back as a browser would, and of folders that lack or break something."""

import json
import re
from collections.abc import Callable
from dataclasses import asdict
from html.parser import HTMLParser
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from tiny import pair_records, prompt_records, read_jsonl, write_jsonl
from tiny_cli import Cli, sets

from uptake.errors import InputError, UptakeError
from uptake.evaluate import compare_lengths, pairwise_accuracy, win_rate
from uptake.report import bench_sections, sections, write_report
from uptake.report.charts import ChartAxis, Series, histogram_chart, line_chart
from uptake.report.folder import Histogram, read_run
from uptake.report.page import build_page
from uptake.report.section import LeftOut, Section
from uptake.report.sections import headline, progress, training
from uptake.report.text import duration, number, percent, percent_range, score, signed

VOID = {"meta", "link", "polyline", "polygon", "rect"}


class Reader(HTMLParser):
    """Collects what a browser would see: elements, addresses and text; fails on unbalanced elements."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.elements: set[str] = set()
        self.addresses: list[str | None] = []
        self.pieces: list[str] = []
        self.feed(page)
        assert not self.open

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.add(tag)
        self.addresses += [value for name, value in attrs if name in {"href", "src", "srcset", "action"}]
        assert not any(name.startswith("on") for name, _ in attrs)
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        assert tag in VOID

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.open and self.open[-1] != "style":
            self.pieces.append(data)

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.pieces).split())


def dump(path: Path, *rows: Any) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join(json.dumps(row) for row in rows) + "\n", encoding="utf-8")


def read(path: Path) -> Reader:
    return Reader(write_report(path).read_text(encoding="utf-8"))


def answer(response: str, quality: float) -> dict[str, Any]:
    return {
        "response": response,
        "reward": 0.25,
        "parts": {"correctness": 0.75, "following": -0.25},
        "quality": quality,
    }


def write_mining(path: Path) -> None:
    for number_of_round, pairs in enumerate((30, 20)):
        mined = {
            "prompts": 64,
            "samples": 512,
            "pairs": pairs,
            "dropped": {"margin_too_small": 7, "unfinished": 4 + number_of_round},
            "margin_histogram": {"edges": [0.0, 1.0, 2.0], "counts": [3, 12]},
            "mean_length_chosen": 11.5,
            "mean_length_rejected": 10.25,
            "longer_wins": 0.625,
            "category_agreement": {"correctness": 0.875, "following": None},
        }
        dump(path / f"rounds/0-{number_of_round + 9}/summary.json", mined)


def write_evaluation(path: Path) -> None:
    accuracy = pairwise_accuracy([2, 3, 4, 1], [1, 1, 1, 2], [9, 9, 9, 9], [9, 9, 20, 20])
    dump(
        path / "evaluation.json",
        {
            "judge": "oracle",
            "prompts": 4,
            "win_rate": asdict(win_rate([2.0, 2.0, 2.0, 0.0], [1.0, 1.0, 1.0, 1.0])),
            "quality": {"before": 0.52, "after": 0.71},
            "lengths": asdict(compare_lengths([10, 10], [12, 13])),
            "follow_up_reward": {"before": -0.1, "after": 0.3},
            "categories": {"before": {"follow_up": -0.34}, "after": {"follow_up": 0.37}},
            "curve": [
                {"step": 0, "quality": 0.52, "win_rate": 0.5, "low": 0.4, "high": 0.6},
                {"step": 8, "quality": 0.71, "win_rate": 0.75, "low": 0.6, "high": 0.8},
            ],
            "reward_model": {
                "accuracy": asdict(accuracy),
                "direct": asdict(pairwise_accuracy([1, 1, 1, 3], [2, 2, 2, 2], [9, 9, 9, 9], [9, 9, 20, 20])),
                "by_category": {"correctness": 0.9375},
            },
        },
    )


@pytest.fixture
def run(tmp_path: Path) -> Path:
    dump(
        tmp_path / "run.json",
        {"title": "A quiet <town>", "method": "follow_up_likelihood", "models": {"policy": "tiny"}},
    )
    (tmp_path / "recipe.yaml").write_text("beta: 0.1 # <keep>\n", encoding="utf-8")
    dump(tmp_path / "metrics.jsonl", *({"step": step, "round": step // 5, "loss": 1 / step} for step in range(1, 9)))
    phases = [{"phase": "judge", "seconds": 70.0, "tokens": 700}, {"phase": "update", "seconds": 25.0}]
    dump(tmp_path / "timing.jsonl", *phases, {"phase": "judge", "seconds": 5.0, "tokens": 50})
    write_mining(tmp_path)
    write_evaluation(tmp_path)
    user = {"role": "user", "content": "When does <b>it</b> open?"}
    sample = {"prompt": [user], "before": answer("Nine.", 0.25), "after": answer("<script>alert(1)</script>", 1.0)}
    dump(tmp_path / "samples.jsonl", sample | {"winner": "after"})
    return tmp_path


def test_the_story_is_told_in_order(run: Path) -> None:
    page = read(run)
    verdict = "After 8 steps, new answers are not clearly better or worse: they beat old ones on 75.0% of 4 prompts"
    interval = "(95% interval 30.1\N{EN DASH}95.4%, judged by the oracle)."
    rest = "Mean quality rose from 0.52 to 0.71 while answers became 25.0% longer."
    titles = ["Progress", "Reactions", "Samples", "Accuracy", "Pairs", "Training", "Cost", "Recipe"]
    places = [page.text.index(words) for words in ["A quiet <town>", verdict, interval, rest, *titles]]
    assert places == sorted(places)
    assert page.text.endswith("Left out Tokens: there is no response in tokens.jsonl.")


@pytest.mark.parametrize(
    "figure",
    [
        "3 won, 0 tied, 1 lost",
        "\N{MINUS SIGN}0.10 before, +0.40",
        "10.0 before, 12.5 after, in tokens",
        "follow-up \N{MINUS SIGN}0.34 0.37 +0.71",
        "correctness 0.75 following \N{MINUS SIGN}0.25",
        "follow-up score 75.0% lengths matched 100.0% likelihood of the response 25.0% longer wins 25.0%",
        "correctness 93.8%",
        "0-9 64 512 30 11 11.5 10.2 62.5%",
        "margin too small 14 unfinished 9",
        "correctness 87.5%",
        "judge 1 min 15 s 75.0% 750 10",
        "update 25 s 25.0%",
        "policy model tiny method follow_up_likelihood",
        "Uptake \N{MIDDLE DOT} follow-up likelihood A quiet <town>",
    ],
)
def test_figures_appear(run: Path, figure: str) -> None:
    assert figure in read(run).text


def test_the_page_is_inert_and_self_contained(run: Path) -> None:
    page = read(run)
    assert not page.elements & {"script", "img", "iframe", "object", "form", "town", "keep"}
    assert page.addresses == ["data:,"]
    assert "http" not in (run / "report.html").read_text(encoding="utf-8").replace("http-equiv", "")
    assert "<script>alert(1)</script>" in page.text
    assert "When does <b>it</b> open?" in page.text
    assert "# <keep>" in page.text


def test_every_file_is_optional(run: Path) -> None:
    step = "; `uptake eval` with this folder as --out writes it."
    reasons = {
        "tokens.jsonl": "Tokens: there is no response in tokens.jsonl.",
        "evaluation.json": f"Headline figures, reactions, accuracy: there is no evaluation.json{step}",
        "curve.jsonl": "Progress: there is no figure in curve.jsonl.",
        "samples.jsonl": f"Samples: there is no sample in samples.jsonl{step}",
        "metrics.jsonl": "Training: there is no metric in metrics.jsonl.",
        "timing.jsonl": "Cost: there is no phase in timing.jsonl.",
        "recipe.yaml": "Recipe: there is no recipe.yaml.",
        "run.json": "Recipe, setting and versions: there is no recipe.yaml and no run.json.",
    }
    (run / "tokens.jsonl").touch()
    dump(run / "curve.jsonl", {"step": 0, "quality": 0.5})
    for gone, (file, reason) in enumerate(reasons.items(), 1):
        (run / file).unlink()
        page = read(run)
        assert reason in page.text
        # The last file takes the place of the one before it.
        assert page.text.count("there is no") == min(gone, len(reasons) - 1)
        assert "Trained for 8 steps" not in page.text or "Trained for 8 steps on 50 pairs from 1,024" in page.text
    assert "Made 50 pairs from 1,024 responses." in page.text


@pytest.mark.parametrize(
    ("missing", "told"),
    [
        ("win_rate", "Win rate"),
        ("quality", "Quality"),
        ("lengths", "Lengths"),
        ("follow_up_reward", "Follow-up reward"),
        ("categories", "Reactions"),
        ("reward_model", "Accuracy"),
    ],
)
def test_every_key_of_the_evaluation_is_optional(run: Path, missing: str, told: str) -> None:
    evaluation = json.loads((run / "evaluation.json").read_text(encoding="utf-8"))
    del evaluation[missing]
    dump(run / "evaluation.json", evaluation)
    assert f"{told}: not in evaluation.json." in read(run).text


def test_the_curve_may_stand_in_its_own_file(tmp_path: Path) -> None:
    dump(tmp_path / "curve.jsonl", {"step": 0, "quality": 0.5, "extra": []}, {"step": 4, "quality": 0.875})
    built = progress.build(read_run(tmp_path))
    assert isinstance(built, Section)
    assert [(chart.title, chart.lines[0].last) for chart in built.content] == [("Quality", "0.88")]


def test_rounds_without_pairs_show_what_they_have(tmp_path: Path) -> None:
    for round_, lost in enumerate(({}, {"unfinished": 96})):
        dump(tmp_path / f"rounds/0-{round_}/summary.json", {"samples": 4096, "dropped": lost, "longer_wins": None})
    text = read(tmp_path).text
    assert "Responses How many were sampled, and why some were not learned from. Round Responses Dropped" in text
    assert "0-0 4,096 0 0-1 4,096 96" in text
    assert "unfinished 96" in text
    assert not any(word in text for word in ("\N{EN DASH}", "Pairs", "Margin", "rejected"))


def test_recorded_pairs_are_read_and_neither_mined_nor_sampled(uptake: Cli, model: Path) -> None:
    """A run of pairs from a file: what was read, the log-ratio that is no divergence, and the models that took part."""
    same = {"prompt": "when ?", "chosen": "at eight .", "rejected": "at eight ."}
    write_jsonl(Path("pairs.jsonl"), [*pair_records(6), same])
    options = sets({"lr": 1e-2, "batch_size": 2})
    uptake("train", "dpo", "--policy", model, "--data", "pairs.jsonl", "--out", "run", *options)
    text = Reader(Path("run/report.html").read_text(encoding="utf-8")).text
    assert "Trained for 3 steps on 6 pairs read from 7 rows." in text
    assert "Pairs As the rows hold them, and why the rest was left out. Round Rows Pairs Dropped 0-0 7 6 1" in text
    assert "equal responses 1" in text
    assert not any(word in text for word in ("From prompts", " mined", "Mined", "Margin:", "KL", "sampled", "follow"))
    last = read_jsonl(Path("run/metrics.jsonl"))[-1]
    ratio = (last["chosen_reward"] + last["rejected_reward"]) / 2 / 0.1
    assert f"Log-ratio to the reference, mean of both responses {number(ratio)}" in text
    assert f"policy model {model} method dpo" in text
    tokens = sum(line["tokens"] for line in read_jsonl(Path("run/metrics.jsonl")))
    (phase,) = [line for line in read_jsonl(Path("run/timing.jsonl")) if line["phase"] == "update"]
    assert phase["tokens"] == tokens
    assert re.search(rf"update \S+ s \S+% {number(tokens)} \d", text)


def test_rows_that_gave_no_response_are_shown_as_rows(tmp_path: Path) -> None:
    counts = {"rows": 4, "samples": 8, "dropped": {"unfinished": 3}}
    dump(tmp_path / "rounds/0-0/summary.json", counts)
    told = "Rows How many were read, and why some were not learned from. Round Rows Responses Dropped 0-0 4 8 3"
    assert told in read(tmp_path).text
    dump(tmp_path / "rounds/0-0/summary.json", counts | {"pairs": 4})
    assert "4 pairs read from 4 rows." in read(tmp_path).text


def test_a_mined_run_names_the_model_that_rates(uptake: Cli, model: Path) -> None:
    """The policy rates itself where no other model is given, and is named as both."""
    write_jsonl(Path("prompts.jsonl"), prompt_records(4))
    options = sets({"n": 2, "max_new_tokens": 4, "followups": "followups.yaml", "keep_unfinished": True, "lr": 1e-2})
    options += sets({"min_category_agreement": 0, "max_length_ratio": 100})
    uptake("train", "flr", "--policy", model, "--data", "prompts.jsonl", "--out", "run", *options)
    text = Reader(Path("run/report.html").read_text(encoding="utf-8")).text
    assert f"policy model {model} follow-up model {model} method" in text
    assert "Pairs From prompts to pairs, and why the rest was dropped." in text
    assert re.search(r"Trained for \d+ steps on \d pairs from 8 responses\.", text)


def test_steps_that_were_not_skipped_are_drawn_at_zero(tmp_path: Path) -> None:
    dump(tmp_path / "metrics.jsonl", {"step": 0}, {"step": 1, "skipped": 4}, {"step": 2}, {"step": 3}, {"step": 4})
    built = training.build(read_run(tmp_path))
    assert isinstance(built, Section)
    (chart,) = built.content
    assert (chart.title, chart.lines[0].points) == ("Steps skipped at the target", "0,100 25,0 50,100 75,100 100,100")
    dump(tmp_path / "metrics.jsonl", {"step": 0}, {"step": 1})
    assert training.build(read_run(tmp_path)) == LeftOut("Training", "there is no metric in metrics.jsonl.")


def test_rounds_that_lost_nothing_on_the_way_to_no_pairs_are_left_out(tmp_path: Path) -> None:
    """Where every response is learned from, as it is, the training charts say all that the rounds could."""
    dump(tmp_path / "rounds/0-0/summary.json", {"prompts": 8, "samples": 64, "kept": 64, "dropped": {"empty": 0}})
    dump(tmp_path / "metrics.jsonl", {"step": 1, "loss": 1.0})
    text = read(tmp_path).text
    assert "64" not in text
    assert not any(word in text for word in ("Responses", "rejected", "Dropped"))
    assert "Pairs: the method makes none, and no response was dropped." in text


def test_a_folder_of_scores_only(tmp_path: Path) -> None:
    dump(tmp_path / "samples.jsonl", {"prompt": [{"role": "user", "content": "Open?"}], "after": answer("Yes.", 1)})
    text = read(tmp_path).text
    assert "Sampled responses to 1 prompts." in text
    assert "Yes." in text


def test_the_verdict_follows_the_interval(run: Path) -> None:
    def verdict(wins: int) -> str:
        result = win_rate([1.0] * wins + [-1.0] * (100 - wins), [0.0] * 100)
        dump(run / "evaluation.json", {"win_rate": asdict(result)})
        return headline.build(read_run(run)).about

    assert all("not clearly better or worse" in verdict(wins) for wins in (45, 50, 55))
    assert "new answers are worse" in verdict(20)
    assert "new answers beat old ones on 80.0% of 100 prompts" in verdict(80)


def test_the_verdict_tells_answers_from_prompts(run: Path) -> None:
    result = win_rate([1.0] * 80 + [-1.0] * 20, [0.0] * 100, clusters=[place // 4 for place in range(100)])
    dump(run / "evaluation.json", {"win_rate": asdict(result), "prompts": 25})
    assert "new answers beat old ones on 80.0% of 100 answers to 25 prompts" in headline.build(read_run(run)).about


def break_line(run: Path) -> None:
    dump(run / "metrics.jsonl", {"step": 1, "loss": 1.0})
    with (run / "metrics.jsonl").open("a", encoding="utf-8") as file:
        file.write('\n{"step": 2, "loss"\n')


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (break_line, r"metrics\.jsonl:3: not JSON"),
        (
            lambda run: dump(run / "metrics.jsonl", {"step": 1}, {"step": 2, "loss": "low"}),
            r"metrics\.jsonl:2, field 'loss'",
        ),
        (lambda run: dump(run / "metrics.jsonl", {"loss": 1.0}), r"metrics\.jsonl:1: .*no step"),
        (lambda run: dump(run / "timing.jsonl", {"phase": "judge"}), r"timing\.jsonl:1, field 'seconds'"),
        (lambda run: dump(run / "samples.jsonl", {"prompt": [{"role": "me", "content": ""}]}), r"'prompt\.0\.role'"),
        (lambda run: (run / "run.json").write_text('{\n"title": "a",\n}'), r"run\.json:3: not JSON"),
        (lambda run: (run / "recipe.yaml").write_bytes(b"\xff"), r"recipe\.yaml: byte 0 is not UTF-8"),
        (
            lambda run: dump(run / "evaluation.json", {"categories": {"before": {"a": 1}, "after": {"b": 1}}}),
            r"evaluation\.json, field 'categories'",
        ),
        (lambda run: dump(run / "rounds/0-9/summary.json", {"pairs": "few"}), r"0-9/summary\.json, field 'pairs'"),
        (
            lambda run: dump(run / "rounds/0-9/summary.json", {"margin_histogram": {"edges": [1, 1], "counts": [2]}}),
            r"field 'margin_histogram'.*edges do not rise",
        ),
    ],
)
def test_a_broken_file_is_named(run: Path, damage: Callable[[Path], Any], message: str) -> None:
    damage(run)
    with pytest.raises(InputError, match=message):
        write_report(run)


@pytest.mark.parametrize("room", [sections, bench_sections])
def test_a_section_is_a_file_with_a_template_and_a_place(room: ModuleType) -> None:
    folder = Path(room.__path__[0])
    files = {path.stem for path in folder.glob("[!_]*.py")}
    assert files == {path.name.removesuffix(".html.j2") for path in folder.glob("*.j2")} == set(room.ORDER)
    assert len(room.ORDER) == len(files)


def test_a_section_is_added_by_its_file_and_its_place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Sections come in the order of the room, reasons once each; a file that was given no place is an error."""
    room = tmp_path / "wing"
    room.mkdir()
    (room / "__init__.py").write_text('ORDER = ("late", "early", "nothing", "never")\n')
    imports = "from uptake.report.section import LeftOut, Section\n"
    for name in ("early", "late"):
        text = f'def build(n): return Section("{name}", "", n, (f"{{n}}.css",), (LeftOut("Half", "why."),))\n'
        (room / f"{name}.py").write_text(imports + text)
    for name in ("nothing", "never"):
        (room / f"{name}.py").write_text(f'{imports}def build(n): return LeftOut("{name.title()}", "why.")\n')
    monkeypatch.syspath_prepend(tmp_path)
    wing = import_module("wing")
    page = build_page("A page", wing, 3)
    assert [(path, each.title, each.content) for path, each in page.sections.items()] == [
        ("wing/late.html.j2", "late", 3),
        ("wing/early.html.j2", "early", 3),
    ]
    assert (page.styles, page.left_out) == (("3.css",), ("Half, half, nothing, never: why.",))
    (room / "forgotten.py").write_text((room / "late.py").read_text())
    with pytest.raises(ValueError, match="not in tuple"):
        build_page("A page", wing, 3)


def test_an_empty_folder_is_no_run(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no run here"):
        write_report(tmp_path)


def test_the_page_goes_where_it_is_asked_to(run: Path, tmp_path: Path) -> None:
    assert write_report(run, tmp_path / "page.html") == tmp_path / "page.html"
    assert not (run / "report.html").exists()


def test_ten_thousand_rounds_are_a_small_page(tmp_path: Path) -> None:
    """Marks and rows are thinned to what can be told apart, and the page says to how many."""
    counts = 10_000
    names = ("loss", "accuracy", "margin", "chosen_reward", "rejected_reward", "grad_norm", "log_ratio", "kl")
    rows = ({"step": step + 1, "round": step, **{name: 1 / (step + 1) for name in names}} for step in range(counts))
    dump(tmp_path / "metrics.jsonl", *rows)
    for round_ in range(counts):
        dump(tmp_path / f"rounds/0-{round_}/summary.json", {"pairs": round_, "dropped": {"unfinished": 1}})
    page = read(tmp_path)
    assert (tmp_path / "report.html").stat().st_size < 300_000
    assert "Shown are 40 of 10,000 rounds." in page.text
    assert "Vertical lines: 250 more rounds are over." in page.text
    html = (tmp_path / "report.html").read_text()
    assert 0 < html.count('class="mark"') <= 40 * 8
    assert "<td>0-9999</td>" in html
    assert "<td>0-249</td>" in html
    assert "<td>0-0</td>" not in html
    assert "10,000" in page.text.split("Dropped, by reason")[1][:40]  # all rounds count, shown or not


def test_rounds_come_in_the_order_of_their_numbers(run: Path) -> None:
    assert list(read_run(run).rounds) == ["0-9", "0-10"]


def test_line_chart_by_hand() -> None:
    chart = line_chart("Loss", [Series("loss", [0, 5, 10], [0.0, 1.0, 4.0])], reference=2.0, marks=[5])
    assert chart is not None
    (line,) = chart.lines
    assert line.points == "0,100 50,75 100,0"
    assert (line.faint, line.band, line.x, line.y, line.last) == ("", "", 100, 100, "4.00")
    assert (chart.reference, chart.marks) == (50, (50,))
    assert [tick.label for tick in chart.y_ticks] == ["0", "2", "4"]


def test_steps_without_a_finite_number_are_not_drawn() -> None:
    chart = line_chart("Loss", [Series("loss", [0, 1, 2, 3], [1.0, None, float("nan"), 2.0])])
    assert chart is not None
    assert chart.lines[0].points == "0,100 100,0"
    assert line_chart("Loss", [Series("loss", [0, 1], [None, None])]) is None


def test_a_long_row_is_thinned_to_means_and_smoothing_keeps_a_constant() -> None:
    chart = line_chart("Loss", [Series("loss", list(range(4800)), [step % 2 for step in range(4800)])])
    assert chart is not None
    points = [point.split(",") for point in chart.lines[0].points.split()]
    assert len(points) == 240
    assert {y for _, y in points} == {"50"}
    assert float(points[0][0]) == pytest.approx(100 * 9.5 / 4799, abs=0.01)


def test_histogram_by_hand() -> None:
    chart = histogram_chart("Margin", Histogram((0.0, 1.0, 4.0), (3, 12)))
    assert [(bar.at, bar.size, height) for bar, height in chart.bars] == [(0, 25, 25), (25, 75, 100)]
    assert chart.most == 12


def test_bars_start_at_zero_on_either_side() -> None:
    axis = ChartAxis(-1.0, 3.0)
    assert (axis.percent(0), axis.bar(1.0).at, axis.bar(1.0).size) == (25, 25, 25)
    assert (axis.bar(-1.0).at, axis.bar(-1.0).size) == (0, 25)


@pytest.mark.parametrize(
    ("out", "message"),
    [
        ("pairs.jsonl", "pairs.jsonl: unknown file format '.jsonl' \\(allowed: .html"),
        ("folder.html", "folder.html: this is a folder"),
        ("pairs.jsonl/page.html", "page.html: cannot be written"),
    ],
)
def test_a_report_goes_to_a_page_and_nowhere_else(out: str, message: str, tmp_path: Path) -> None:
    (tmp_path / "metrics.jsonl").write_text('{"step": 1, "loss": 0.5}\n')
    (tmp_path / "pairs.jsonl").write_text("precious\n")
    (tmp_path / "folder.html").mkdir()
    with pytest.raises(UptakeError, match=message):
        write_report(tmp_path, tmp_path / out)
    assert (tmp_path / "pairs.jsonl").read_text() == "precious\n"


@pytest.mark.parametrize(
    ("shown", "expected"),
    [
        (number(0.7142), "0.71"),
        (number(-0.0042), "\N{MINUS SIGN}0.0042"),
        (number(12345.6), "12,346"),
        (number(7), "7"),
        (number(43.21), "43.2"),
        (score(-0.004), "0.00"),
        (signed(0.3), "+0.30"),
        (signed(-0.3), "\N{MINUS SIGN}0.30"),
        (percent(0.7142), "71.4%"),
        (percent_range(0.649, 0.773), "64.9\N{EN DASH}77.3%"),
        (duration(0.63), "0.63\N{NARROW NO-BREAK SPACE}s"),
        (duration(75.2), "1\N{NARROW NO-BREAK SPACE}min 15\N{NARROW NO-BREAK SPACE}s"),
        (duration(7300), "2\N{NARROW NO-BREAK SPACE}h 1\N{NARROW NO-BREAK SPACE}min"),
    ],
)
def test_numbers_as_text(shown: str, expected: str) -> None:
    assert shown == expected
