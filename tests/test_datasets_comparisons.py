"""Sets of compared responses: items by hand from tiny files, and the real files where they are at hand.

The environment variable UPTAKE_DATA names the folder of the real sets; else it is `shared/data` beside the repository.
"""

import json
import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from uptake.data import Writer
from uptake.datasets import Absent, Benchmark, Candidates, Comparison, Item, find, open_benchmarks, parse
from uptake.errors import InputError
from uptake.support.keys import prompt_key
from uptake.types import Dialogue, Turn, Where

DATA = Path(os.environ.get("UPTAKE_DATA", Path(__file__).parents[2] / "shared" / "data"))
real = pytest.mark.skipif(not (DATA / "index.json").is_file(), reason="the real sets are not at hand")

# The files whose rows are items, and how many items a row makes.
EVALUATED: Mapping[str, tuple[Sequence[str], int]] = {
    "alpacafarm": (["pairs"], 1),
    "autoj": (["test"], 1),
    "finegrained_qa": (["dev_feedback"], 6),
    "judgebench": (["gpt4o", "claude35sonnet"], 1),
    "llmbar": (
        [
            *("natural", "adversarial_neighbor", "adversarial_gptinst", "adversarial_gptout", "adversarial_manual"),
            *("processed_mtbench_human", "processed_faireval", "processed_llmeval2"),
        ],
        1,
    ),
    "pandalm": (["test"], 1),
    "rm_bench": (["chat", "safety-refuse", "safety-response", "code"], 9),
    "rmb_candidates": (["bon_helpfulness"], 1),
    "rmb_comparisons": (["pairwise_helpfulness", "pairwise_harmlessness"], 1),
    "tldr_judged": (["pairs"], 1),
}
HH = ("hh_harmless_base", "hh_helpful_base")
HUB_ONLY = ("alpaca_farm_human", "beavertails", "hh_helpful_online", "hh_helpful_rejection", "reward_bench", "shp")

Tables = Mapping[str, Sequence[Mapping[str, Any]]]
Facts = tuple[Dialogue, tuple[str, ...], Any, str]


def talk(*said: str) -> Dialogue:
    """Turns in alternation, the user's first."""
    return tuple(Turn("assistant" if place % 2 else "user", text) for place, text in enumerate(said))


def put(folder: Path, tables: Tables) -> None:
    for name, records in tables.items():
        with Writer(folder / f"{name}.jsonl.gz") as out:
            for record in records:
                out.write(record)


def opened(data: Path, name: str, tables: Tables) -> Benchmark:
    """A benchmark of tiny files."""
    put(data / find(name).FOLDER, tables)
    (found,) = open_benchmarks(name, data)
    assert isinstance(found, Benchmark)
    return found


def facts(item: Item | str) -> Facts | str:
    """What a test says of an item: prompt, responses, preference or qualities, group."""
    if isinstance(item, str):
        return item
    assert isinstance(item, Comparison | Candidates)
    assert item.prompt.key == prompt_key(item.prompt.turns)
    assert item.where == item.prompt.where
    value = item.preference if isinstance(item, Comparison) else item.qualities
    return item.prompt.turns, item.responses, value, item.group


def marked(*said: str) -> str:
    return "".join(f"\n\n{'Assistant' if place % 2 else 'Human'}: {text}" for place, text in enumerate(said))


def hh_pairs(spell: Callable[[str, str], dict[str, Any]]) -> list[dict[str, Any]]:
    return [
        spell(marked("Hi", "Yes?", "Time?", "Noon."), marked("Hi", "Yes?", "Time?", "No.")),
        spell(marked("Tea?", "Gladly."), marked("Tea?", "No.")),
        spell(marked("Tea?", " "), marked("Tea?", "No.")),
        spell(marked("Tea?", "Gladly."), marked("Milk?", "No.")),
        spell(marked("Tea?", "Gladly.", "Good."), marked("Tea?", "Gladly.", "Bad.")),
        spell(marked("Tea?", "Gladly."), "\n\nHuman: Tea?\n\nHuman: Now?\n\nAssistant: No."),
        spell(marked("Tea?", "Gladly."), marked("Tea?", "Gladly.")),
    ]


@pytest.mark.parametrize(
    ("name", "spell"),
    [
        ("hh_helpful_base", lambda chosen, rejected: {"text": [chosen, rejected], "score": [1.0, 0.0]}),
        ("hh_harmless_base", lambda chosen, rejected: {"chosen": chosen, "rejected": rejected}),
    ],
)
def test_hh(tmp_path: Path, name: str, spell: Callable[[str, str], dict[str, Any]]) -> None:
    folder = tmp_path / find(name).FOLDER
    folder.mkdir()
    (folder / "split.json").write_text(json.dumps({"rule": "by hand", "train": [1, 2], "test": [0, 3, 4, 5, 6]}))
    found = opened(tmp_path, name, {"test": hh_pairs(spell)})
    assert [facts(item) for item in found.items] == [(talk("Hi", "Yes?", "Time?"), ("Noon.", "No."), 1.0, "")]
    assert found.items[0].where == Where(folder / "test.jsonl.gz", 1)
    assert found.skipped == {
        "not two answers to one prompt": 2,
        "no conversation by turns": 1,
        "the same response twice": 1,
    }
    assert list(find(name).conversations(folder)) == [talk("Tea?", "Gladly.")]
    kept, left_out = find(name).preferences(folder)
    assert (kept.prompt.turns, kept.chosen, kept.rejected) == (talk("Tea?"), "Gladly.", "No.")
    assert left_out == "no response"


@pytest.mark.parametrize("split", [None, '{"train": [0]}', "[1, 2]"])
def test_hh_needs_a_split(tmp_path: Path, split: str | None) -> None:
    if split is not None:
        (tmp_path / "split.json").write_text(split)
    put(tmp_path, {"test": []})
    with pytest.raises(InputError, match=r"split\.json: no split"):
        find("hh_helpful_base").comparisons(tmp_path)


def test_llmbar(tmp_path: Path) -> None:
    natural, *parts = EVALUATED["llmbar"][0]
    row = {"input": "Do it.", "output_1": "a", "output_2": "b", "label": 1}
    tables = {part: [row] for part in parts} | {natural: [{**row, "label": 2}, {**row, "output_1": " "}]}
    found = opened(tmp_path, "llmbar", tables)
    assert list(map(facts, found.items)) == [
        (talk("Do it."), ("a", "b"), 0.0, "natural"),
        *((talk("Do it."), ("a", "b"), 1.0, part) for part in parts),
    ]
    assert found.skipped == {"no response": 1}


def test_autoj(tmp_path: Path) -> None:
    rows = [
        {"scenario": "chitchat", "label": label, "prompt": "Hi", "response 1": "a", "response 2": "b"}
        for label in (0, 1, 2)
    ]
    found = opened(tmp_path, "autoj", {"test": rows})
    assert list(map(facts, found.items)) == [(talk("Hi"), ("a", "b"), share, "") for share in (1.0, 0.0, 0.5)]


def test_pandalm(tmp_path: Path) -> None:
    def row(votes: tuple[int, int, int], given: str, first: Any = "a") -> dict[str, Any]:
        named = {f"annotator{number}": vote for number, vote in enumerate(votes, start=1)}
        return {"idx": 0, "instruction": "Mend.", "input": given, "response1": first, "response2": "b", **named}

    rows = [row((1, 1, 0), "I goes."), row((2, 2, 1), ""), row((0, 0, 0), " "), row((1, 1, 1), "", first=True)]
    found = opened(tmp_path, "pandalm", {"test": rows})
    assert list(map(facts, found.items)) == [
        (talk("Mend.\n\nI goes."), ("a", "b"), pytest.approx(2.5 / 3), ""),
        (talk("Mend."), ("a", "b"), pytest.approx(1 / 3), ""),
        (talk("Mend."), ("a", "b"), 0.5, ""),
    ]
    assert found.skipped == {"a response that is no text": 1}


def test_alpacafarm(tmp_path: Path) -> None:
    row = {"instruction": "Mend.", "input": "I goes.", "output_1": "a", "output_2": "b"}
    votes = {"gpt4_b1_seed0": 1, "gpt4_b1_seed1": 2, "gpt4_b5_seed0": 2, "gpt4_b5_seed1": 2}
    found = opened(tmp_path, "alpacafarm", {"pairs": [{**row, "preferences": votes}]})
    assert list(map(facts, found.items)) == [(talk("Mend.\n\nI goes."), ("a", "b"), 0.25, "")]


def test_tldr_judged(tmp_path: Path) -> None:
    row = {"query": "POST: I won.\n\nTL;DR:", "postprocessed_response": "  I won.", "reference_responses": "  Won."}
    rows = [{**row, "preferred": judged, "explanation": "?", "shuffled_index": "1"} for judged in ("ours", "reference")]
    found = opened(tmp_path, "tldr_judged", {"pairs": rows})
    asked = talk("POST: I won.\n\nTL;DR:")
    assert list(map(facts, found.items)) == [(asked, ("I won.", "Won."), share, "") for share in (1.0, 0.0)]


def test_judgebench(tmp_path: Path) -> None:
    row = {"pair_id": "1", "source": "mmlu-pro-law", "question": "2 + 2?", "response_A": "4", "response_B": "5"}
    tables = {"gpt4o": [{**row, "label": "A>B"}], "claude35sonnet": [{**row, "label": "B>A"}]}
    found = opened(tmp_path, "judgebench", tables)
    assert list(map(facts, found.items)) == [
        (talk("2 + 2?"), ("4", "5"), 1.0, "gpt4o"),
        (talk("2 + 2?"), ("4", "5"), 0.0, "claude35sonnet"),
    ]


def test_rm_bench(tmp_path: Path) -> None:
    row = {"id": 1, "prompt": "2 + 2?", "chosen": ["4", "It is 4.", "**4**"], "rejected": ["5", "It is 5.", "**5**"]}
    found = opened(tmp_path, "rm_bench", {domain: [row] * (domain == "code") for domain in EVALUATED["rm_bench"][0]})
    groups = {item.responses: item.group for item in found.items if isinstance(item, Comparison)}
    assert groups == {
        ("4", "5"): "normal",
        ("4", "It is 5."): "hard",
        ("4", "**5**"): "hard",
        ("It is 4.", "5"): "easy",
        ("It is 4.", "It is 5."): "normal",
        ("It is 4.", "**5**"): "hard",
        ("**4**", "5"): "easy",
        ("**4**", "It is 5."): "easy",
        ("**4**", "**5**"): "normal",
    }
    assert {facts(item)[2] for item in found.items} == {1.0}


def rmb_row(*said: str, path: str = "Pairwise_set/Helpfulness/Chat", **columns: Any) -> dict[str, Any]:
    turns = [{"role": turn.role, "content": turn.content, "language": "English"} for turn in talk(*said)]
    return {"conversation_input": turns, "category_path": path, **columns}


def test_rmb(tmp_path: Path) -> None:
    pair: dict[str, Any] = {"chosen": {"llm_name": "x", "answer": "a"}, "reject": {"llm_name": "y", "answer": "b"}}

    def best_of(best: str, *losers: str) -> dict[str, Any]:
        return rmb_row("Hi", bon_best={"answer": best}, loser_list=[{"answer": loser} for loser in losers])

    tables = {
        "pairwise_helpfulness": [rmb_row("Hi", "Yes?", "Tea?", **pair), rmb_row(" ", **pair)],
        "pairwise_harmlessness": [rmb_row("Hack!", path="Pairwise_set/Harmlessness/S2", **pair)],
        "bon_helpfulness": [best_of("a", "b", "c"), best_of("a", "b", " ")],
    }
    put(tmp_path / "rmb", tables)
    pairs, best = open_benchmarks("rmb", tmp_path)
    assert isinstance(pairs, Benchmark)
    assert isinstance(best, Benchmark)
    assert (pairs.name, best.name) == ("rmb_comparisons", "rmb_candidates")
    assert list(map(facts, pairs.items)) == [
        (talk("Hi", "Yes?", "Tea?"), ("a", "b"), 1.0, "helpfulness"),
        (talk("Hack!"), ("a", "b"), 1.0, "harmlessness"),
    ]
    assert pairs.skipped == {"no prompt": 1}
    assert list(map(facts, best.items)) == [(talk("Hi"), ("a", "b", "c"), (1.0, 0.0, 0.0), "helpfulness")]
    assert best.skipped == {"no response": 1}


def test_a_path_without_a_goal_is_an_error_with_its_place(tmp_path: Path) -> None:
    pair: dict[str, Any] = {"chosen": {"answer": "a"}, "reject": {"answer": "b"}}
    tables = {"pairwise_helpfulness": [rmb_row("Hi", **pair), rmb_row("Hi", path="Helpfulness", **pair)]}
    put(tmp_path / "rmb", {**tables, "pairwise_harmlessness": [], "bon_helpfulness": []})
    with pytest.raises(InputError, match=r"pairwise_helpfulness\.jsonl\.gz:2, field 'category_path'"):
        open_benchmarks("rmb", tmp_path)


def message(role: str, text: str, *replies: dict[str, Any], rank: int | None = None) -> dict[str, Any]:
    return {"role": role, "text": text, "replies": list(replies)} | ({} if rank is None else {"rank": rank})


def test_oasst(tmp_path: Path) -> None:
    tree = message(
        "prompter",
        "Hi",
        message("assistant", "worst", rank=2),
        message("assistant", "middle", message("prompter", "Why?", message("assistant", "So.", rank=0)), rank=1),
        message(
            "assistant",
            "best",
            message("prompter", "More", *(message("assistant", text, rank=place) for place, text in enumerate("ab"))),
            message("prompter", "Less", message("assistant", "c"), message("assistant", "d", rank=0)),
            rank=0,
        ),
        message("assistant", "unranked"),
    )
    found = opened(tmp_path, "oasst", {"en_100_tree": [{"message_tree_id": "1", "prompt": tree}]})
    assert list(map(facts, found.items)) == [
        (talk("Hi"), ("best", "worst"), 1.0, ""),
        (talk("Hi", "best", "More"), ("a", "b"), 1.0, ""),
    ]
    assert found.skipped == {"replies without ranks": 1}


def test_finegrained_qa(tmp_path: Path) -> None:
    row = {
        "question": "Who sang?",
        "passages": [["Song", "Song\n\nIt was sung.", "Ann sang."], ["Ann", "She was born."]],
        **{f"prediction {number}": text for number, text in enumerate("abcd", start=1)},
        "preference": [1, 2, 0, 1, 1, 2],
    }
    found = opened(tmp_path, "finegrained_qa", {"dev_feedback": [row]})
    asked = talk("Song\nIt was sung. Ann sang.\n\nAnn\nShe was born.\n\nWho sang?")
    shares = {"ab": 1.0, "ac": 0.0, "ad": 0.5, "bc": 1.0, "bd": 1.0, "cd": 0.0}
    assert list(map(facts, found.items)) == [(asked, tuple(pair), share, "") for pair, share in shares.items()]


@pytest.mark.parametrize(
    ("name", "record", "expected"),
    [
        (
            "alpaca_farm_human",
            {"instruction": "Mend.", "input": "", "output_1": "a", "output_2": "b", "preference": 2},
            [(talk("Mend."), ("a", "b"), 0.0, "")],
        ),
        (
            "shp",
            {"domain": "askbaking_test", "history": "Why?", "human_ref_A": "a", "human_ref_B": "b", "labels": 1},
            [(talk("Why?"), ("a", "b"), 1.0, "askbaking")],
        ),
        (
            "beavertails",
            {"prompt": "Q", "response_0": "a", "response_1": "b", "better_response_id": 1, "safer_response_id": 0},
            [(talk("Q"), ("a", "b"), 0.0, "helpful"), (talk("Q"), ("a", "b"), 1.0, "safe")],
        ),
        (
            "reward_bench",
            {"prompt": "Q", "chosen": "a", "rejected": "b", "subset": "hep-go"},
            [(talk("Q"), ("a", "b"), 1.0, "hep-go")],
        ),
    ],
)
def test_records_of_the_hub(name: str, record: dict[str, Any], expected: list[Facts]) -> None:
    found = iter([(Where(Path(name), 1), record)])
    assert list(map(facts, find(name).from_records(found))) == expected


@pytest.mark.parametrize("name", HUB_ONLY)
def test_without_the_hub_a_set_is_absent_with_one_line_why(name: str, tmp_path: Path) -> None:
    (found,) = open_benchmarks(name, tmp_path)
    assert isinstance(found, Absent)
    assert "cannot be had from the Hub: " in found.reason
    assert "\n" not in found.reason


def test_a_split_of_the_hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", tmp_path / "cache")
    put(tmp_path / "set", {"train": [{"a": 0}], "test": [{"a": 1}, {"a": 2}]})
    found = list(parse.hub(str(tmp_path / "set"), "test"))
    assert found == [(Where(tmp_path / "set", 1), {"a": 1}), (Where(tmp_path / "set", 2), {"a": 2})]


def test_a_file_of_the_hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    stored = tmp_path / "datasets--Anthropic--hh-rlhf"
    pair = {"chosen": marked("Tea?", "Gladly."), "rejected": marked("Tea?", "No.")}
    put(stored / "snapshots" / "1a2b" / "helpful-online", {"test": [pair]})
    (stored / "refs").mkdir()
    (stored / "refs" / "main").write_text("1a2b")
    (found,) = open_benchmarks("hh_helpful_online", None)
    assert isinstance(found, Benchmark)
    assert list(map(facts, found.items)) == [(talk("Tea?"), ("Gladly.", "No."), 1.0, "")]


def test_a_bad_row_is_an_error_with_its_place(tmp_path: Path) -> None:
    row = {"scenario": "chitchat", "label": 3, "prompt": "Hi", "response 1": "a", "response 2": "b"}
    put(tmp_path / "autoj-pairwise", {"test": [row]})
    with pytest.raises(InputError, match=r"test\.jsonl\.gz:1, field 'label': .*0, 1 or 2"):
        open_benchmarks("autoj", tmp_path)


def test_a_missing_file_is_an_error_with_its_name(tmp_path: Path) -> None:
    (tmp_path / "llmbar").mkdir()
    with pytest.raises(InputError, match=r"llmbar: no file 'natural'.*natural\.csv"):
        open_benchmarks("llmbar", tmp_path)


@pytest.mark.parametrize("ending", [".jsonl", ".csv", ".parquet"])
def test_a_file_may_have_any_format(tmp_path: Path, ending: str) -> None:
    with Writer(tmp_path / f"rows{ending}") as out:
        out.write({"a": "b"})
    assert [record for _, record in parse.table(tmp_path, "rows")] == [{"a": "b"}]


def set_of(benchmark: str) -> str:
    """The data set of a benchmark."""
    return benchmark.removesuffix("_comparisons").removesuffix("_candidates")


def rows_of(found: Benchmark) -> int:
    return len(found.items) + sum(found.skipped.values())


def read_real(name: str) -> Benchmark:
    (found,) = [each for each in open_benchmarks(set_of(name), DATA) if each.name == name]
    assert isinstance(found, Benchmark)
    for item in found.items:
        assert isinstance(item, Comparison | Candidates)
        assert all(response.strip() for response in item.responses)
        assert item.prompt.turns[-1].role == "user"
    return found


@real
def test_every_row_of_the_real_sets_is_an_item_or_counted() -> None:
    stated = json.loads((DATA / "index.json").read_text())
    for name, (tables, each) in EVALUATED.items():
        files = stated[find(set_of(name)).FOLDER]["files"]
        assert rows_of(read_real(name)) == each * sum(files[f"{table}.jsonl.gz"] for table in tables), name
    assert rows_of(read_real("oasst")) == 214


@real
@pytest.mark.parametrize("name", HH)
def test_the_real_hh_sets_keep_training_and_evaluation_apart(name: str) -> None:
    folder = DATA / find(name).FOLDER
    split = json.loads((folder / "split.json").read_text())
    found, trained = read_real(name), list(find(name).conversations(folder))
    assert rows_of(found) == len(split["test"])
    assert 0.98 * len(split["train"]) < len(trained) <= len(split["train"])
    asked = {item.prompt.turns[0] for item in found.items if isinstance(item, Comparison)}
    assert asked.isdisjoint(turns[0] for turns in trained)
