"""Rows that are examples as they are: what a stage takes, what is kept of a row, and what a run leaves behind."""

import json
import tracemalloc
from array import array
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
from tiny import pair_records, prompt_records, read_jsonl, tiny_llama, tiny_world, write_followups, write_jsonl

from uptake import methods
from uptake.data import RowStream
from uptake.errors import InputError, ModelError
from uptake.examples.preferences import PreferenceRows
from uptake.judge import PointwiseJudge, reward_spec
from uptake.losses.pairwise import Logistic
from uptake.objective import Pairs
from uptake.recipe import EveryRow, Recipe, Stage
from uptake.reference import Frozen
from uptake.rollout import PolicySamples
from uptake.rollout.schedule import PromptBatches
from uptake.signal import BestWorst
from uptake.tasks.check import check
from uptake.tasks.mine import mine
from uptake.train.loop import Options, run
from uptake.types import Dialogue, Dropped, Group, Pair, Row, Turn
from uptake.update import Optimization
from uptake.world import World

FAST: dict[str, Any] = {"lr": 1e-2, "batch_size": 2, "warmup": 0, "micro_tokens": 8192}
SAMPLED: dict[str, Any] = {
    "produce": PolicySamples(),
    "judge": PointwiseJudge(reward_spec("length")),
    "signal": BestWorst(),
}


def turns_of(record: dict[str, Any]) -> Dialogue:
    return (Turn("user", record["prompt"]),)


def stage(**slots: Any) -> Stage:
    return Stage(objective=Pairs(Logistic()), reference=Frozen(), update=Optimization(**FAST), **slots)


@pytest.mark.parametrize(
    ("slots", "found"),
    [
        ({}, "none of them"),
        ({**SAMPLED, "examples": PreferenceRows()}, "produce, judge, signal, examples"),
        ({"produce": SAMPLED["produce"], "signal": SAMPLED["signal"]}, "produce, signal"),
        ({"judge": SAMPLED["judge"], "examples": PreferenceRows()}, "judge, examples"),
    ],
)
def test_a_stage_samples_or_has_examples(slots: dict[str, Any], found: str) -> None:
    with pytest.raises(InputError, match=rf"a stage with {found} \(allowed: produce, judge and signal; or examples\)"):
        stage(**slots)
    assert stage(**SAMPLED).sampling == tuple(SAMPLED.values())
    with pytest.raises(InputError, match="samples nothing"):
        stage(examples=PreferenceRows()).sampling  # noqa: B018


@pytest.mark.parametrize("more", [{"ahead": 1}, {"select": PromptBatches(2)}])
def test_examples_are_of_all_rows_and_never_ahead(more: dict[str, Any]) -> None:
    with pytest.raises(InputError, match=f"field '{next(iter(more))}': nothing is sampled from examples"):
        stage(examples=PreferenceRows(), **more)
    assert stage(examples=PreferenceRows()).select == EveryRow()


def test_a_pair_is_its_ids_in_four_bytes_each(tmp_path: Path) -> None:
    world = tiny_world(tmp_path, pair_records(3))
    found: Sequence[Pair] = PreferenceRows()(world, 0).examples
    for record, pair in zip(pair_records(3), found, strict=True):
        prompt, chosen = world.chat.response_ids(turns_of(record), record["chosen"])
        assert (tuple(pair.prompt_ids), tuple(pair.chosen_ids)) == (prompt, chosen)
        for ids in (pair.prompt_ids, pair.chosen_ids, pair.rejected_ids):
            assert isinstance(ids, array)
            assert ids.itemsize == 4


def test_what_is_left_out_is_counted_under_its_reason(tmp_path: Path) -> None:
    same = {"prompt": "when ?", "chosen": "at eight .", "rejected": "at eight ."}
    summary = PreferenceRows()(tiny_world(tmp_path, [*pair_records(2), same]), 0).summary
    assert summary == {"pairs": 2, "unfinished": 0, "dropped": {"equal responses": 1}}
    assert json.loads(json.dumps(summary))["dropped"] == {str(Dropped.EQUAL_RESPONSES): 1}


@pytest.mark.parametrize(
    ("record", "message"),
    [
        ({"prompt": "when ?", "completion": "at eight ."}, "this row has one response .*chosen and rejected"),
        ({"prompt": "when ?"}, "this row has no response .*messages that end with the assistant"),
        (
            {"prompt": "when ?", "chosen": "at " * 99, "rejected": "at"},
            "prompt and response have .* tokens .*at most 96",
        ),
    ],
)
def test_rows_that_are_no_pairs_name_their_place(record: dict[str, Any], message: str, tmp_path: Path) -> None:
    data = write_jsonl(tmp_path / "rows.jsonl", [*pair_records(2), record])
    world = replace(tiny_world(tmp_path / "run", []), rows=RowStream(data))
    with pytest.raises(InputError, match=f"rows.jsonl:3: {message}"):
        run(methods.build("dpo", FAST), world)


def test_a_run_on_rows_keeps_no_journal_and_has_no_age(tmp_path: Path) -> None:
    run(methods.build("dpo", FAST), tiny_world(tmp_path / "run", pair_records(4)))
    assert [path.name for path in (tmp_path / "run" / "rounds" / "0-0").iterdir()] == ["summary.json"]
    assert not any("age" in line for line in read_jsonl(tmp_path / "run" / "metrics.jsonl"))
    phases = [line["phase"] for line in read_jsonl(tmp_path / "run" / "timing.jsonl")]
    assert phases == ["examples", "update"]


def test_whatever_is_sampled_has_an_age(tmp_path: Path) -> None:
    options = {"followups": str(write_followups(tmp_path)), "n": 4, "max_new_tokens": 8, "keep_unfinished": True}
    recipe = methods.build("follow_up_kto", {**FAST, **options, "batch_size": 4, "epochs": 1, "rounds": 2})
    run(recipe, tiny_world(tmp_path / "run", prompt_records(4)))
    lines = read_jsonl(tmp_path / "run" / "metrics.jsonl")
    begun = [next(line["step"] for line in lines if line["round"] == place) for place in (0, 1)]
    assert [line["age"] for line in lines] == [line["step"] - begun[line["round"]] for line in lines]
    assert {line["round"] for line in lines} == {0, 1}


@dataclass(frozen=True)
class Elsewhere:
    """Samples that another model is said to have given."""

    def __call__(self, world: World, rows: Sequence[Row], round_: int, version: int) -> Sequence[Group]:
        groups = PolicySamples(n=4, temperature=1.0, max_new_tokens=8)(world, rows, round_, version)
        return [tuple(replace(rollout, source="server") for rollout in group) for group in groups]


def test_what_another_model_has_said_has_no_age(tmp_path: Path) -> None:
    signal = BestWorst(keep_unfinished=True, max_length_ratio=100.0)
    sampled = stage(produce=Elsewhere(), judge=PointwiseJudge(reward_spec("length")), signal=signal)
    run(Recipe((sampled,)), tiny_world(tmp_path / "run", prompt_records(4)))
    lines = read_jsonl(tmp_path / "run" / "metrics.jsonl")
    assert lines
    assert not any("age" in line for line in lines)


def test_only_the_best_against_the_worst_is_mined(tmp_path: Path) -> None:
    recipe = methods.build("oaif", {"judge": "oracle"})
    with pytest.raises(InputError, match=r"field 'signal': this recipe mines no pairs \(allowed: BestWorst\)"):
        mine(recipe, tiny_world(tmp_path / "run", prompt_records(2)), tmp_path / "pairs.jsonl")
    assert not (tmp_path / "pairs.jsonl").exists()


def test_a_run_without_any_example_says_why(tmp_path: Path) -> None:
    same = {"prompt": "when ?", "chosen": "at eight .", "rejected": "at eight ."}
    with pytest.raises(ModelError, match=r"no training example is left; dropped: equal responses \(2\)"):
        run(methods.build("dpo", FAST), tiny_world(tmp_path / "run", [same, same]))


def test_mined_responses_without_an_end_are_used_and_the_preflight_names_the_row(tmp_path: Path) -> None:
    world = tiny_world(tmp_path, [])
    first, second = pair_records(2)
    prompt, chosen = world.chat.response_ids(turns_of(second), second["chosen"])
    _, rejected = world.chat.response_ids(turns_of(second), second["rejected"])
    ids = {"tokenizer": world.chat.fingerprint, "prompt": prompt, "chosen": chosen[:-1], "rejected": rejected}
    data = write_jsonl(tmp_path / "mined.jsonl", [first, {**second, "token_ids": ids}])
    world = replace(world, rows=RowStream(data))
    found = PreferenceRows()(world, 0)
    assert tuple(found.examples[1].chosen_ids) == chosen[:-1]
    assert found.summary["unfinished"] == 1
    message = r"mined.jsonl:2, field 'token_ids': a response without an end-of-turn token"
    for name in ("dpo", "kto"):
        with pytest.raises(InputError, match=message):
            check(methods.build(name), world)


def test_a_run_holds_the_examples_of_its_rows_and_no_row(tmp_path: Path) -> None:
    """Rows ten times as long in text that no example keeps take no more memory."""
    rows = [{**record, "note": "x" * 20_000} for record in pair_records(64)]
    lm = tiny_llama()

    def grown(records: list[dict[str, Any]], name: str) -> int:
        world = replace(tiny_world(tmp_path, [], lm), rows=RowStream(write_jsonl(tmp_path / name, records)))
        tracemalloc.start()
        before, _ = tracemalloc.get_traced_memory()
        kept = PreferenceRows()(world, 0)
        after, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        assert len(kept.examples) == 64
        assert peak - before < 20 * 20_000
        return after - before

    grown(rows[:64], "warm.jsonl")
    assert abs(grown(rows, "long.jsonl") - grown(pair_records(64), "short.jsonl")) < 20_000


def test_a_stage_on_streamed_rows_is_resumed_and_refuses_other_rows(tmp_path: Path) -> None:
    data = write_jsonl(tmp_path / "rows.jsonl", pair_records(4))
    recipe = Recipe((stage(examples=PreferenceRows()),))

    def given() -> Any:
        return replace(tiny_world(tmp_path / "run", []), rows=RowStream(data))

    run(recipe, given())
    # The same rows in a list are the same run.
    run(recipe, replace(given(), rows=list(RowStream(data))), Options(resume=True))
    write_jsonl(data, pair_records(4, seed=1))
    with pytest.raises(InputError, match="field 'rows'"):
        run(recipe, given(), Options(resume=True))


class Watched(Sequence[Row]):
    """Rows that count how many of them were asked for."""

    def __init__(self, rows: Sequence[Row]) -> None:
        self.rows, self.read = rows, 0

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: Any) -> Any:
        raise AssertionError("no row is picked")

    def __iter__(self) -> Iterator[Row]:
        for row in self.rows:
            self.read += 1
            yield row


def test_rows_are_gone_through_once_for_examples(tmp_path: Path) -> None:
    rows = Watched(tiny_world(tmp_path, pair_records(5)).rows)
    PreferenceRows()(replace(tiny_world(tmp_path, []), rows=rows), 0)
    assert rows.read == 5
