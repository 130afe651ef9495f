"""One reward in every command: what it is worth by hand decides what is written, mined, preferred and learned from."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from tiny import pair_records, prompt_records, read_jsonl, saved, tiny_llama, write_jsonl
from tiny_cli import Cli, sets
from tiny_server import Answer, JudgeServer

Worth = Callable[[str], float]

FUNCTION = """
from uptake.rewards.function import Rewards
from uptake.types import Span

def share(rollout):
    text = rollout.response
    marks = [Span(at, at + 1, 0.5) for at, letter in enumerate(text) if letter == "e"]
    return Rewards(text.count("e") / 7, spans=marks)
"""


def as_judge(spelled: str) -> str:
    """A reward as a judge, in full: a server alone would be asked to compare."""
    return f"{{from_reward: {{reward: {spelled if spelled.startswith('{') else repr(spelled)}}}}}"


def share(text: str) -> float:
    return text.count("e") / 7


def served(number: int, request: dict[str, Any]) -> Answer:
    text = request["response"]
    marks = [{"start": at, "end": at + 1, "score": 0.5} for at, letter in enumerate(text) if letter == "e"]
    return Answer(json.dumps({"score": share(text), "spans": marks}).encode())


@pytest.fixture(params=["function", "server", "sum"])
def by(request: pytest.FixtureRequest, uptake: Cli, monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[str, Worth]]:
    """A reward as the command line spells it, and what it gives a text."""
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    Path("own.py").write_text(FUNCTION)
    if request.param == "server":
        with JudgeServer(served) as server:
            yield f"{{server: {{url: '{server.url}'}}}}", share
    elif request.param == "function":
        yield "function:own.py:share", share
    else:
        parts = "{reward: length, weight: -0.1}, {reward: 'function:own.py:share', weight: 3}"
        yield f"{{sum: [{parts}]}}", lambda text: 3 * share(text) - 0.1 * len(text)


SAMPLING = {"max_new_tokens": 6, "temperature": 1.0}


def test_score(by: tuple[str, Worth], uptake: Cli) -> None:
    spelled, worth = by
    write_jsonl(Path("in.jsonl"), pair_records(6))
    out = uptake("score", "in.jsonl", "--reward", spelled, "--out", "out.jsonl")
    for row in read_jsonl(Path("out.jsonl")):
        for side in ("chosen", "rejected"):
            text = row[side][0]["content"]
            assert row[f"{side}_reward"] == pytest.approx(worth(text))
            if "sum" in spelled:
                parts = {"length": -0.1 * len(text), "function": 3 * share(text)}
                assert row[f"{side}_by_reward"] == pytest.approx(parts)
    assert ("│ length" in out) == ("sum" in spelled)


def test_score_writes_marks(by: tuple[str, Worth], uptake: Cli) -> None:
    spelled, _ = by
    write_jsonl(Path("in.jsonl"), [{"prompt": "when ?", "completion": "see bread ."}])
    command = ["score", "in.jsonl", "--reward", spelled, "--tokens", "--out", "out.jsonl"]
    if "sum" in spelled:
        assert uptake.fails(*command).startswith("field 'tokens': this reward rates no tokens")
        return
    uptake(*command)
    (row,) = read_jsonl(Path("out.jsonl"))
    assert [(span["start"], span["score"]) for span in row["reward_spans"]] == [(1, 0.5), (2, 0.5), (6, 0.5)]


QUESTION = {"prompt": "when ?", "completion": "at eight ."}
CALL = {"function": {"name": "look", "arguments": {"at": "bread"}}}


def test_columns_and_calls_of_a_row_reach_the_reward(uptake: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    said = {"role": "assistant", "content": "", "tool_calls": [CALL]}
    write_jsonl(Path("in.jsonl"), [{"prompt": "when ?", "completion": [said], "gold": 3}, {**QUESTION, "gold": 2}])
    Path("own.py").write_text("def gold(its): return its.prompt.extra['gold'] + len(its.fields.get('tool_calls', ()))")
    uptake("score", "in.jsonl", "--reward", "function:own.py:gold", "--out", "out.jsonl")
    assert [row["reward"] for row in read_jsonl(Path("out.jsonl"))] == [4, 2]
    with JudgeServer(lambda number, request: Answer(b'{"score": 1}')) as server:
        uptake("score", "in.jsonl", "--reward", f"server:{server.url}", "--out", "served.jsonl")
    sent = {each["response"]: each.get("fields") for each in server.requests}
    assert sent == {"": {"tool_calls": [CALL]}, "at eight .": None}


@pytest.mark.parametrize("command", ["score", "judge"])
@pytest.mark.parametrize("summed", [False, True])
def test_what_a_reward_reads_of_a_column_is_computed_anew_where_the_column_changes(
    command: str, summed: bool, uptake: Cli
) -> None:
    """A call that the last row stops leaves the others in its journal, under what they were rated by."""
    Path("own.py").write_text("def gold(its): return float(its.prompt.extra['gold'] == its.response)")
    spelled = "function:own.py:gold"
    spelled = f"{{sum: [{{reward: '{spelled}', weight: 1}}]}}" if summed else spelled
    by = ["--reward", spelled] if command == "score" else ["--judge", as_judge(spelled)]
    records = [{"prompt": f"when {n} ?", "chosen": "at eight .", "rejected": "bread ."} for n in range(33)]

    def write(gold: str, count: int) -> None:
        rows = [{**row, "gold": gold} if n < count else row for n, row in enumerate(records)]
        write_jsonl(Path("in.jsonl"), rows)

    write("at eight .", 32)
    assert "KeyError" in uptake.run(command, "in.jsonl", *by, "--out", "out.jsonl")[2]
    write("bread .", 33)
    uptake(command, "in.jsonl", *by, "--out", "out.jsonl")
    for row in read_jsonl(Path("out.jsonl")):
        assert row["chosen"][0]["content"] == ("bread ." if command == "judge" else "at eight .")
        assert command == "judge" or (row["chosen_reward"], row["rejected_reward"]) == (0, 1)


def test_judge_and_edit(by: tuple[str, Worth], uptake: Cli) -> None:
    spelled, worth = by
    rows = [
        {"prompt": f"{n} ?", "chosen": "e " * (n % 3) + "it .", "rejected": "e " * (n % 2) + "at ."} for n in range(6)
    ]
    write_jsonl(Path("in.jsonl"), rows)
    uptake("judge", "in.jsonl", "--judge", as_judge(spelled), "--out", "out.jsonl")
    for given, row in zip(rows, read_jsonl(Path("out.jsonl")), strict=True):
        worths = [worth(given[side].strip()) for side in ("chosen", "rejected")]
        assert row["swapped"] == (worths[0] < worths[1])
        assert row["p"] == (0.5 if worths[0] == worths[1] else 1.0)
    # The oracle mends nothing here, so no edit is put before the judge; it is built all the same.
    code, _, error = uptake.run(
        "edit", "in.jsonl", "--editor", "oracle", "--judge", as_judge(spelled), "--out", "edits.jsonl"
    )
    assert (code, "no edit can be written" in error) == (2, True)


def test_eval(by: tuple[str, Worth], uptake: Cli, model: Path, tmp_path: Path) -> None:
    spelled, worth = by
    other = saved(tiny_llama(1), tmp_path / "other")
    write_jsonl(Path("in.jsonl"), prompt_records(6))
    more = ["--temperature", 1, "--max-new-tokens", 6, "--out", "run"]
    out = uptake("eval", "in.jsonl", "--policy", other, "--against", model, "--reward", spelled, *more)
    assert "win rate" in out
    for sample in read_jsonl(Path("run/samples.jsonl")):
        before, after = (sample[side]["response"] for side in ("before", "after"))
        if before.strip() and after.strip() and worth(before) != worth(after):
            assert sample["winner"] == ("after" if worth(after) > worth(before) else "before")


def test_mine_and_flr(by: tuple[str, Worth], uptake: Cli, model: Path) -> None:
    spelled, worth = by
    write_jsonl(Path("in.jsonl"), prompt_records(6))
    options = {**SAMPLING, "n": 3, "keep_unfinished": True, "max_length_ratio": 100.0, "min_margin_quantile": 0.0}
    options["min_category_agreement"] = 0.0
    uptake("mine", "in.jsonl", "--policy", model, "--reward", spelled, "--out", "pairs.jsonl", *sets(options))
    for row in read_jsonl(Path("pairs.jsonl")):
        chosen, rejected = (worth(row[side][0]["content"]) for side in ("chosen", "rejected"))
        assert row["margin"] == pytest.approx(chosen - rejected)
    options |= {"batch_size": 2, "epochs": 1}
    more = ["--policy", model, "--data", "in.jsonl", "--reward", spelled, "--out", "run"]
    uptake("train", "flr", *more, *sets(options))
    assert_judged(worth)


@pytest.mark.parametrize("method", ["ppo", "fine_grained_ppo"])
def test_ppo(method: str, by: tuple[str, Worth], uptake: Cli, model: Path) -> None:
    spelled, worth = by
    write_jsonl(Path("in.jsonl"), prompt_records(4))
    options = {"prompts": 4, "n": 2, "max_new_tokens": 6, "rounds": 1, "epochs": 1, "critic_warmup": 0}
    command = ["train", method, "--policy", model, "--data", "in.jsonl", "--out", "run", "--reward", spelled]
    if method == "fine_grained_ppo" and "sum" in spelled:
        assert uptake.fails(*command, *sets(options)).startswith("field 'reward': 'sum' has no rewards of tokens")
        return
    uptake(*command, *sets(options))
    assert_judged(worth)


def test_oaif(by: tuple[str, Worth], uptake: Cli, model: Path) -> None:
    spelled, worth = by
    write_jsonl(Path("in.jsonl"), prompt_records(4))
    options = {**SAMPLING, "batch_size": 4, "steps": 1, "lr": 0.01}
    more = ["--policy", model, "--data", "in.jsonl", "--out", "run", "--judge", as_judge(spelled)]
    uptake("train", "oaif", *more, *sets(options))
    seen = 0
    for line in read_jsonl(Path("run/rounds/0-0/judged.jsonl")):
        for group, verdict in zip(line["groups"], line["assessments"], strict=True):
            if verdict["reason"] is None:
                ahead = worth(group[0]["response"]) - worth(group[1]["response"])
                assert verdict["p"] == (0.5 if ahead == 0 else float(ahead > 0))
                seen += 1
    assert seen


def judged(line: dict[str, Any]) -> Iterator[tuple[dict[str, Any], dict[str, Any]]]:
    """Responses of a line of a journal, each with its judgement."""
    for group, judgements in zip(line["groups"], line["assessments"], strict=True):
        yield from zip(group, judgements, strict=True)


def assert_judged(worth: Worth) -> None:
    """The scores of a run's responses are those by hand."""
    found = [line for path in Path("run/rounds").glob("*/judged.jsonl") for line in read_jsonl(path)]
    both = [each for line in found for each in judged(line)]
    assert both
    for rollout, judgement in both:
        # Length, alone or in a sum, has nothing to say of an empty response.
        assert judgement["reason"] is None or not rollout["response"].strip()
        assert judgement["reason"] is not None or judgement["score"] == pytest.approx(worth(rollout["response"]))


def test_judges_are_refused_where_single_responses_are_rated(uptake: Cli, model: Path) -> None:
    write_jsonl(Path("in.jsonl"), prompt_records(2))
    refused = "field 'reward': 'person' compares two responses (allowed: follow_up,"
    for command in (["score", "in.jsonl"], ["mine", "in.jsonl", "--policy", model], ["bench"]):
        assert uptake.fails(*command, "--reward", "person", "--out", "out.jsonl").startswith(refused)
    more = ["--policy", model, "--data", "in.jsonl", "--out", "run"]
    assert uptake.fails("train", "ppo", *more, "--reward", "person").startswith(refused)
    message = "field 'judge': this method has no such option"
    assert uptake.fails("train", "ppo", *more, "--judge", "model").startswith(message)


def test_follow_ups_in_other_forms_train_too(uptake: Cli, model: Path) -> None:
    """FED, from its short name, with a set of one's own."""
    write_jsonl(Path("in.jsonl"), prompt_records(4))
    options = {"prompts": 4, "n": 2, "max_new_tokens": 6, "rounds": 1, "epochs": 1, "critic_warmup": 0}
    more = ["--policy", model, "--data", "in.jsonl", "--out", "run", "--reward-set", "followups=followups.yaml"]
    uptake("train", "ppo", *more, "--reward", "fed", *sets(options))
    rows = [
        {"prompt": rollout["prompt"]["turns"][-1]["content"], "completion": rollout["response"]}
        for line in read_jsonl(Path("run/rounds/0-0/judged.jsonl"))
        for rollout, judgement in judged(line)
        if judgement["reason"] is None
    ]
    write_jsonl(Path("said.jsonl"), rows)
    uptake(
        "score", "said.jsonl", "--reward", "fed", "--followups", "followups.yaml", "--model", model, "--out", "o.jsonl"
    )
    scores = [
        judgement["score"]
        for line in read_jsonl(Path("run/rounds/0-0/judged.jsonl"))
        for _, judgement in judged(line)
        if judgement["reason"] is None
    ]
    assert [row["reward"] for row in read_jsonl(Path("o.jsonl"))] == pytest.approx(scores, abs=1e-5)
