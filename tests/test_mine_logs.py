"""Real logs on the command line: mined rows, discovered sets, and what is said where a log or a set will not do."""

import json
import random
import signal
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from tiny import command_line, in_process, read_jsonl, saved, sentence, tiny_llama, write_jsonl
from tiny_cli import Cli

from uptake import load, read
from uptake.data import RowStream
from uptake.data.chat_log import Log
from uptake.follow_up.actual import ActualFollowUpReward
from uptake.follow_up.reward import FollowUpReward
from uptake.follow_up.set import FollowUpSet
from uptake.signal import BestWorst
from uptake.tasks import discover, mine_logs
from uptake.tasks.log_rewards import ReactionReward
from uptake.types import Answered, Judgement, Preference, Rated, Rollout, Turn

GERMAN = "Danke, das hat mir sehr geholfen. Wann \u00f6ffnet der Laden morgen fr\u00fch, und gibt es dort auch Brot? "


def talk(*texts: str, **more: Any) -> dict[str, Any]:
    return {
        "messages": [{"role": ("user", "assistant")[i % 2], "content": each} for i, each in enumerate(texts)],
        **more,
    }


def talks(count: int, turns: int = 5, seed: int = 0) -> list[dict[str, Any]]:
    rng = random.Random(seed)
    return [talk(*(sentence(rng) for _ in range(turns))) for _ in range(count)]


def options(model: Path, out: str, *more: str) -> list[str]:
    return ["--model", str(model), "--followups", "followups.yaml", "--out", out, *more]


def test_every_answered_response_gets_both_rewards(uptake: Cli, model: Path) -> None:
    """The rewards are those of the two rewards themselves, the reward of the set less that of silence."""
    write_jsonl(Path("log.jsonl"), [talk("when ?", "at eight .", "thanks .", "it helped .", "where ?")])
    printed = uptake("mine-logs", "log.jsonl", *options(model, "out.jsonl", "--keep", "scored"))
    assert "2 rows -> out.jsonl" in printed
    first, second = read_jsonl(Path("out.jsonl"))
    assert (first["actual_follow_up"], second["actual_follow_up"]) == (["thanks ."], ["where ?"])
    assert [turn["content"] for turn in second["prompt"]] == ["when ?", "at eight .", "thanks ."]
    turns = (Turn("user", "when ?"), Turn("assistant", "at eight ."))
    reward = FollowUpReward(load(model), FollowUpSet.load("followups.yaml"), prior="prompt_only")
    assert first["reward_follow_up"] == pytest.approx(float(reward.score([turns]).rewards), abs=1e-5)
    said = ActualFollowUpReward(reward).score([turns], ["thanks ."])
    assert first["reward"] == first["reward_actual_follow_up"] == pytest.approx(float(said.rewards), abs=1e-5)
    assert first["by_category"] == pytest.approx(
        {name: float(each) for name, each in said.by_category.items()}, abs=1e-5
    )
    summary = json.loads(Path("out.jsonl.summary.json").read_text())
    assert (summary["conversations"], summary["exchanges"], summary["written"]) == (1, 2, 2)
    assert not Path("out.jsonl.journal.jsonl").exists()


@pytest.mark.parametrize("by", ["actual_follow_up", "follow_up"])
def test_rated_rows_are_the_ends_of_the_rewards(uptake: Cli, model: Path, by: str) -> None:
    write_jsonl(Path("log.jsonl"), talks(10))
    uptake("mine-logs", "log.jsonl", *options(model, "all.jsonl", "--keep", "scored", "--by", by))
    uptake("mine-logs", "log.jsonl", *options(model, "out.jsonl", "--by", by, "--low", "0.1", "--high", "0.8"))
    ranked = sorted(read_jsonl(Path("all.jsonl")), key=lambda each: float(each["reward"]))
    found = sorted(read_jsonl(Path("out.jsonl")), key=lambda each: float(each["reward"]))
    # The quantiles of 20 rewards at 0.1 and 0.8 lie between the 2nd and 3rd, and between the 16th and 17th.
    assert [each["reward"] for each in found] == [each["reward"] for each in (*ranked[:2], *ranked[16:])]
    assert [each["label"] for each in found] == [False] * 2 + [True] * 4
    assert {type(row) for row in read("out.jsonl")} == {Rated}
    summary = json.loads(Path("out.jsonl.summary.json").read_text())
    assert (summary["good"], summary["dropped"]["between the thresholds"]) == (4, 14)


def test_several_answers_to_one_prompt_make_a_pair(uptake: Cli, model: Path) -> None:
    write_jsonl(
        Path("log.jsonl"),
        [
            talk("when ?", "at eight .", "thanks ."),
            talk("when ?", "at nine .", "wrong ."),
            talk("when ?", "it .", "where ?"),
            talk("where ?", "at eight .", "thanks ."),
        ],
    )
    loose = [*options(model, "pairs.jsonl", "--keep", "pairs"), "--by", "actual_follow_up"]
    uptake("mine-logs", "log.jsonl", *options(model, "all.jsonl", "--keep", "scored"))
    rewards = {each["completion"][0]["content"]: each["reward"] for each in read_jsonl(Path("all.jsonl"))[:3]}
    code, _, error = uptake.run("mine-logs", "log.jsonl", *loose)
    best, worst = max(rewards, key=rewards.__getitem__), min(rewards, key=rewards.__getitem__)
    if code:  # the categories or the lengths disagree about this pair, and it is said
        assert "nothing is left to write" in error
        return
    (pair,) = read_jsonl(Path("pairs.jsonl"))
    assert (pair["chosen"][0]["content"], pair["rejected"][0]["content"]) == (best, worst)
    assert pair["margin"] == pytest.approx(rewards[best] - rewards[worst])
    assert pair["chosen_reward_actual_follow_up"] == rewards[best]
    assert isinstance(read("pairs.jsonl")[0], Preference)


def test_repeats_are_merged_and_stated(uptake: Cli, model: Path) -> None:
    """The same response with the same words counts once; with other words the mean counts."""
    once = [talk("when ?", "at eight .", "thanks ."), talk("when ?", "at eight .", "wrong .")]
    write_jsonl(Path("once.jsonl"), once)
    write_jsonl(Path("log.jsonl"), [*once, *once, once[0]])
    printed = uptake("mine-logs", "log.jsonl", *options(model, "out.jsonl", "--keep", "scored"))
    assert "merged │ 3" in " ".join(printed.split())
    uptake("mine-logs", "once.jsonl", *options(model, "once.out.jsonl", "--keep", "scored"))
    (row,) = read_jsonl(Path("out.jsonl"))
    assert row == read_jsonl(Path("once.out.jsonl"))[0]
    assert row["actual_follow_up"] == ["thanks .", "wrong ."]
    write_jsonl(Path("one.jsonl"), once[:1])
    write_jsonl(Path("two.jsonl"), once[1:])
    alone = []
    for name in ("one", "two"):
        uptake("mine-logs", f"{name}.jsonl", *options(model, f"{name}.out.jsonl", "--keep", "scored"))
        alone.append(read_jsonl(Path(f"{name}.out.jsonl"))[0]["reward"])
    assert row["reward"] == pytest.approx(sum(alone) / 2, abs=1e-6)


def test_ratings_are_compared_and_decide_nothing(uptake: Cli, model: Path) -> None:
    rated = [{**each, "stars": [None, place % 5, None, None, None]} for place, each in enumerate(talks(8))]
    write_jsonl(Path("log.jsonl"), rated)
    write_jsonl(Path("plain.jsonl"), talks(8))
    printed = uptake("mine-logs", "log.jsonl", *options(model, "out.jsonl", "--ratings", "stars"))
    assert "actual_follow_up, rating" in printed
    uptake("mine-logs", "plain.jsonl", *options(model, "plain.out.jsonl"))
    assert read_jsonl(Path("out.jsonl")) == read_jsonl(Path("plain.out.jsonl"))
    found = json.loads(Path("out.jsonl.summary.json").read_text())["correlations"]
    assert found["actual_follow_up, rating"]["n"] == 8
    assert found["actual_follow_up, follow_up"]["n"] == 16


def test_a_killed_call_goes_on_where_it_stopped(uptake: Cli, model: Path) -> None:
    write_jsonl(Path("log.jsonl"), talks(20))
    uptake("mine-logs", "log.jsonl", *options(model, "whole.jsonl", "--keep", "scored"))
    arguments = ["mine-logs", "log.jsonl", *options(model, "out.jsonl", "--keep", "scored")]
    assert in_process(command_line, arguments, ("os.rename", "out.jsonl", 1)) == -signal.SIGKILL
    journal = Path("out.jsonl.journal.jsonl")
    lines = journal.read_bytes().splitlines(keepends=True)
    assert len(lines) == 41
    first = json.loads(lines[1])
    first["result"]["rewards"]["actual_follow_up"] = 123.0
    # The last line is torn, the first after the header carries the mark.
    journal.write_bytes(b"".join([lines[0], json.dumps(first).encode() + b"\n", *lines[2:]])[:-30])
    uptake(*arguments)
    found, whole = read_jsonl(Path("out.jsonl")), read_jsonl(Path("whole.jsonl"))
    assert found[0]["reward"] == 123.0
    assert found[1:] == whole[1:]
    assert not journal.exists()


def test_what_cannot_be_read_is_dropped_and_said(uptake: Cli, model: Path) -> None:
    long = talk("when ?", "at eight .", "bread " * 200)
    write_jsonl(Path("log.jsonl"), [*talks(4), long, {"messages": [{"role": "bot", "content": "x"}]}])
    assert "role 'bot'" in uptake.fails("mine-logs", "log.jsonl", *options(model, "out.jsonl"))
    printed = uptake("mine-logs", "log.jsonl", *options(model, "out.jsonl", "--drop-bad"))
    assert "in a window of 96" in printed
    dropped = json.loads(Path("out.jsonl.summary.json").read_text())["dropped"]
    assert (dropped["rows that cannot be read"], dropped["longer than the window"]) == (1, 1)


def test_what_cannot_be_read_makes_no_pair(uptake: Cli, model: Path) -> None:
    """Of three answers to one prompt the one whose reaction is too long has no part; a lone one is counted as well."""
    log = [talk("when ?", answer, "thanks .") for answer in ("at eight .", "at nine .")]
    log += [talk(asked, "it .", "bread " * 200) for asked in ("when ?", "where ?")]
    write_jsonl(Path("log.jsonl"), log)
    uptake("mine-logs", "log.jsonl", *options(model, "all.jsonl", "--keep", "scored"))
    rewards = {row["completion"][0]["content"]: row["by_category"] for row in read_jsonl(Path("all.jsonl"))}
    assert rewards.keys() == {"at eight .", "at nine ."}
    code, _, error = uptake.run("mine-logs", "log.jsonl", *options(model, "out.jsonl", "--keep", "pairs"))
    if code:  # the categories disagree about the pair, and it is said
        assert "longer than the window: 2" in error
        assert "fewer than two candidates: 1" in error
        return
    (pair,) = read_jsonl(Path("out.jsonl"))
    assert {pair["chosen"][0]["content"], pair["rejected"][0]["content"]} == rewards.keys()
    dropped = json.loads(Path("out.jsonl.summary.json").read_text())["dropped"]
    assert (dropped["longer than the window"], dropped["fewer than two candidates"]) == (2, 1)


def test_no_user_turn_after_any_response(uptake: Cli, model: Path) -> None:
    write_jsonl(Path("log.jsonl"), [talk("when ?", "at eight ."), talk("where ?")])
    message = uptake.fails("mine-logs", "log.jsonl", *options(model, "out.jsonl"))
    assert message.startswith("log.jsonl: no user turn follows a response (no user turn after the response: 1)")


def test_users_of_another_language(uptake: Cli, model: Path) -> None:
    write_jsonl(Path("log.jsonl"), [talk("when ?", answer, GERMAN) for answer in ("at eight .", "it .", "nine .")])
    message = uptake.fails("mine-logs", "log.jsonl", *options(model, "out.jsonl"))
    assert message.startswith("log.jsonl: users write in 'de' here, and the follow-ups are in 'en'")
    uptake("mine-logs", "log.jsonl", *options(model, "out.jsonl", "--any-language", "--keep", "scored"))


def test_constant_scores_label_nothing_and_correlate_with_nothing(uptake: Cli) -> None:
    """To a model without weights every word is as likely as any other, whatever came before."""
    lines = [talk("when ?", answer, "thanks .") for answer in ("at eight .", "at nine .", "it .")]
    write_jsonl(Path("log.jsonl"), lines)
    flat = saved(tiny_llama(initializer_range=1e-30), Path("flat"))
    arguments = options(flat, "out.jsonl")
    code, _, error = uptake.run("mine-logs", "log.jsonl", *arguments)
    assert code == 2
    assert "all rewards are 0.0000, so none is good or bad; nothing is left to write" in error
    printed = uptake("mine-logs", "log.jsonl", *arguments, "--keep", "scored")
    assert "undefined: all scores are equal" in printed


def test_a_category_without_positives_is_allowed_and_stated(uptake: Cli, model: Path) -> None:
    Path("followups.yaml").write_text(
        "{name: one, version: 1, language: en, categories: {fault: {negative: ['wrong .']}}}"
    )
    write_jsonl(Path("log.jsonl"), talks(6))
    printed = uptake("mine-logs", "log.jsonl", *options(model, "out.jsonl"))
    assert "category 'fault' has no positives: it can only complain, which is allowed" in printed


@pytest.mark.filterwarnings("default")
def test_repeated_follow_ups_are_merged_and_stated(uptake: Cli, model: Path) -> None:
    Path("followups.yaml").write_text(
        "{name: two, version: 1, language: en,"
        " categories: {c: {positive: ['thanks .', 'Thanks'], negative: ['wrong .']}}}"
    )
    write_jsonl(Path("log.jsonl"), talks(6))
    with pytest.warns(UserWarning, match="1 follow-ups that repeat an earlier one, removed"):
        uptake("mine-logs", "log.jsonl", *options(model, "out.jsonl"))


@pytest.mark.parametrize("command", ["mine-logs", "discover"])
def test_redaction_without_its_library(command: str, uptake: Cli, model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_jsonl(Path("log.jsonl"), talks(4))
    monkeypatch.setitem(sys.modules, "presidio_analyzer.predefined_recognizers", None)
    message = uptake.fails(command, "log.jsonl", "--model", str(model), "--out", "out.yaml", "--redact")
    assert message.startswith("removing personal data needs the extra `privacy`: pip install 'uptake[privacy]'")


# --- discovery --------------------------------------------------------------------------------------------------------


def reactions(count: int) -> list[dict[str, Any]]:
    """Users who thank for bread and complain of cakes, with thumbs to match."""
    rng = random.Random(0)
    kinds: list[tuple[str, tuple[str, ...], int]] = [
        ("bread .", ("It helped, thanks.", "thanks, it helped", "Thanks it helped."), 1),
        ("cakes .", ("It is wrong.", "it is wrong", "That it is wrong."), 0),
    ]
    drawn = [rng.choice(kinds) for _ in range(count)]
    return [
        talk(f"when {place} ?", answer, rng.choice(said), thumbs=[None, thumb, None])
        for place, (answer, said, thumb) in enumerate(drawn)
    ]


def test_a_discovered_set_is_read_by_followups(uptake: Cli, model: Path) -> None:
    write_jsonl(Path("log.jsonl"), reactions(60))
    printed = uptake("discover", "log.jsonl", "--ratings", "thumbs", "--out", "ours.yaml", "--language", "en")
    ours = FollowUpSet.load("ours.yaml", strict=True)
    (category,) = ours.categories
    assert (ours.name, ours.version, ours.language, category.name) == ("discovered-en", 1, "en", "reaction")
    assert all("helped" in text for text in category.positive)
    assert all("wrong" in text for text in category.negative)
    assert f"{len(category.positive)} positive and {len(category.negative)} negative follow-ups -> ours.yaml" in printed
    text = Path("ours.yaml").read_text()
    assert "# Proposed from 60 turns of users; signal: ratings." in text
    first = json.loads(Path("ours.report.json").read_text())["positive"][0]
    assert first["text"] == category.positive[0]
    assert f"# {first['turns']} turns in {first['conversations']} conversations, {first['above']:+.3f}, p" in text
    write_jsonl(Path("few.jsonl"), talks(4))
    uptake("mine-logs", "few.jsonl", "--model", model, "--followups", "ours.yaml", "--out", "out.jsonl")


def test_a_set_that_is_replaced_passes_its_version_on(uptake: Cli) -> None:
    write_jsonl(Path("log.jsonl"), reactions(60))
    arguments = ["discover", "log.jsonl", "--ratings", "thumbs", "--out", "ours.yaml"]
    uptake(*arguments)
    assert "the output file exists" in uptake.fails(*arguments)
    uptake(*arguments, "--overwrite")
    assert FollowUpSet.load("ours.yaml").version == 2


@pytest.mark.unchecked
def test_words_after_responses_that_differ_in_their_calls_alone_are_read_each(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    log = [talk("when ?", "", "thanks .") for _ in "ab"]
    for number, each in enumerate(log):
        each["messages"][1]["tool_calls"] = [{"name": f"look{number}", "arguments": {}}]
    path = write_jsonl(tmp_path / "log.jsonl", log)
    readings = (ReactionReward({}, each=(value,)) for value in (1.0, 2.0))
    monkeypatch.setattr(discover, "read_reactions", lambda heard, *_: zip(heard, readings, strict=True))
    found = discover._read(Log(RowStream(path), path), None, None)  # type: ignore[arg-type]
    assert [signal for _, signal, *_ in found] == [1.0, 2.0]


def test_without_ratings_the_model_reads_the_turns(uptake: Cli, model: Path) -> None:
    """The tiny model is random, so which side a reaction is on is read off its own rewards."""
    log = [{name: value for name, value in each.items() if name != "thumbs"} for each in reactions(60)]
    write_jsonl(Path("log.jsonl"), log)
    uptake("mine-logs", "log.jsonl", *options(model, "all.jsonl", "--keep", "scored"))
    by_kind: dict[bool, list[float]] = {True: [], False: []}
    for each in read_jsonl(Path("all.jsonl")):
        by_kind["helped" in each["actual_follow_up"][0]].append(each["reward"])
    means = {kind: sum(values) / len(values) for kind, values in by_kind.items()}
    uptake("discover", "log.jsonl", *options(model, "ours.yaml", "--language", "en", "--wrong", "0.5"))
    (category,) = FollowUpSet.load("ours.yaml").categories
    better = "helped" if means[True] > means[False] else "wrong"
    assert better in category.positive[0]
    assert "signal: reward" in Path("ours.yaml").read_text()


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ((), "field 'ratings': nothing says which turns approve (allowed: a column of ratings, or a model)"),
        (("--ratings", "stars"), "field 'stars': no row has this column (allowed: thumbs)"),
        (("--ratings", "thumbs", "--support", "50"), "log.jsonl, field 'support': short turns of users in 60 conver"),
    ],
)
def test_what_discovery_cannot_do_without(more: tuple[str, ...], message: str, uptake: Cli) -> None:
    write_jsonl(Path("log.jsonl"), reactions(60))
    assert uptake.fails("discover", "log.jsonl", "--out", "ours.yaml", *more).startswith(message)


def test_ratings_that_are_all_the_same(uptake: Cli) -> None:
    log: list[Mapping[str, Any]] = [{**each, "thumbs": 1} for each in reactions(60)]
    write_jsonl(Path("log.jsonl"), log)
    message = uptake.fails("discover", "log.jsonl", "--ratings", "thumbs", "--out", "ours.yaml")
    assert message.startswith("log.jsonl: the signal is the same for all turns")


def test_some_ratings_read_the_words_of_all(uptake: Cli, model: Path) -> None:
    """Half of the users rate. The others are labeled by their words, which the answers alone would not tell apart."""
    log = reactions(80)
    for each in log[::2]:
        each["thumbs"] = None
    write_jsonl(Path("log.jsonl"), log)
    by_outcome = ["--by", "rating_regression", "--ratings", "thumbs"]
    printed = uptake(
        "mine-logs", "log.jsonl", *options(model, "out.jsonl", *by_outcome, "--low", "0.4", "--high", "0.6")
    )
    rows = read_jsonl(Path("out.jsonl"))
    assert len(rows) >= 40
    assert all(row["label"] == ("helped" in row["actual_follow_up"][0]) for row in rows)
    assert "rating_regression, rating" in printed
    message = uptake.fails("mine-logs", "log.jsonl", *options(model, "no.jsonl", "--by", "rating_regression"))
    assert message.startswith("field 'by': no column of ratings to learn from")
    for each in log[5:]:
        each["thumbs"] = None
    write_jsonl(Path("few.jsonl"), log)
    code, _, error = uptake.run("mine-logs", "few.jsonl", *options(model, "few.out.jsonl", *by_outcome))
    assert code == 2
    assert "rated turns to read the others by (allowed: at least 20)" in error


def test_ratings_read_the_words_without_a_model(uptake: Cli, model: Path) -> None:
    """What is written is what a model's presence leaves as it is: the outcomes, and not the rewards of the model."""
    write_jsonl(Path("log.jsonl"), reactions(80))
    by_outcome = ["mine-logs", "log.jsonl", "--by", "rating_regression", "--ratings", "thumbs", "--keep", "scored"]
    uptake(*by_outcome, *options(model, "with.jsonl"))
    printed = uptake(*by_outcome, "--out", "without.jsonl")
    assert "80 rows -> without.jsonl" in printed
    read_by_model = {"reward_actual_follow_up", "reward_follow_up"}
    with_model = read_jsonl(Path("with.jsonl"))
    assert all(read_by_model < row.keys() for row in with_model)
    kept = [{name: row[name] for name in row if name not in read_by_model} for row in with_model]
    assert read_jsonl(Path("without.jsonl")) == kept
    found, other = (json.loads(Path(f"{name}.jsonl.summary.json").read_text()) for name in ("without", "with"))
    assert set(found["correlations"]) == {"rating_regression, length", "rating_regression, rating", "length, rating"}
    assert found["correlations"].items() <= other["correlations"].items()
    assert sorted(path.name for path in Path().glob("without*")) == ["without.jsonl", "without.jsonl.summary.json"]


def test_without_a_model_any_language_is_read_and_pairs_are_compared_in_characters(uptake: Cli) -> None:
    log = [talk("when ?", answer, GERMAN, thumbs=[None, 5, None]) for answer in ("bread .", "cakes .")]
    log[1]["messages"][2]["content"], log[1]["thumbs"] = "Nein, das ist leider falsch.", [None, 1, None]
    for number in range(60):
        said, thumb = (("Nein, das ist leider falsch.", 1), (GERMAN, 5))[number % 2]
        log.append(talk(f"where {number} ?", "it .", said, thumbs=[None, thumb, None]))
    write_jsonl(Path("log.jsonl"), log)
    by_ratings = ["mine-logs", "log.jsonl", "--by", "rating_regression", "--ratings", "thumbs", "--keep", "pairs"]
    uptake(*by_ratings, "--out", "out.jsonl")
    (pair,) = read_jsonl(Path("out.jsonl"))
    assert (pair["chosen"][0]["content"], pair["rejected"][0]["content"]) == ("bread .", "cakes .")
    log[0]["messages"][1]["content"] = "bread and nothing else ."  # more than twice as long
    write_jsonl(Path("log.jsonl"), log)
    code, _, error = uptake.run(*by_ratings, "--out", "none.jsonl")
    assert code == 2
    assert "length ratio: 1" in error


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ([], "field 'model': actual_follow_up is read by a model (allowed: a model, or by rating_regression)"),
        (
            ["--by", "follow_up"],
            "field 'model': follow_up is read by a model (allowed: a model, or by rating_regression)",
        ),
        (
            ["--by", "rating_regression", "--ratings", "thumbs", "--followups", "followups.yaml"],
            "field '--followups': not used",
        ),
    ],
)
def test_what_needs_a_model(more: list[str], message: str, uptake: Cli) -> None:
    write_jsonl(Path("log.jsonl"), reactions(4))
    assert uptake.fails("mine-logs", "log.jsonl", "--out", "out.jsonl", *more).startswith(message)


def test_responses_that_differ_in_a_call_alone_keep_their_own_words(uptake: Cli) -> None:
    """The call is the whole response; who got the right one thanks, and who did not complains."""
    log = reactions(60)
    for thumb, said, shop in ((1, "It helped, thanks.", "bakery"), (0, "It is wrong.", "library")):
        called = {"type": "function", "function": {"name": "hours", "arguments": {"shop": shop}}}
        both = talk("when ?", "", said, thumbs=[None, thumb, None])
        both["messages"][1]["tool_calls"] = [called]
        log.append(both)
    write_jsonl(Path("log.jsonl"), log)
    by_ratings = ["mine-logs", "log.jsonl", "--by", "rating_regression", "--ratings", "thumbs"]
    for keep in ("rated", "scored"):
        uptake(*by_ratings, "--keep", keep, "--out", f"{keep}.jsonl")
        words = {
            row["completion"][0]["tool_calls"][0]["function"]["arguments"]["shop"]: row
            for row in read_jsonl(Path(f"{keep}.jsonl"))
            if "tool_calls" in row["completion"][0]
        }
        assert words["bakery"]["actual_follow_up"] == ["It helped, thanks."]
        assert words["library"]["actual_follow_up"] == ["It is wrong."]
        assert words["bakery"]["reward"] > words["library"]["reward"]
    rated = {tuple(row["actual_follow_up"]): row["label"] for row in read_jsonl(Path("rated.jsonl"))}
    assert (rated["It helped, thanks.",], rated["It is wrong.",]) == (True, False)


def test_pairs_are_those_of_all_responses_together(uptake: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    """Prompts with one answer, which are looked at a few at a time and not held, change nothing but the counts."""
    rng = random.Random(0)
    log = reactions(40)
    for number in range(12):
        for _ in range(rng.choice([1, 2, 3])):
            answer, said, thumb = rng.choice(
                [("bread .", "thanks, it helped", 1), ("cakes .", "It is wrong.", 0), ("it .", "Thanks it helped.", 1)]
            )
            log.append(talk(f"where {number} ?", answer, said, thumbs=[None, thumb, None]))
    write_jsonl(Path("log.jsonl"), log)
    by_ratings = ["mine-logs", "log.jsonl", "--by", "rating_regression", "--ratings", "thumbs"]
    uptake(*by_ratings, "--keep", "scored", "--out", "all.jsonl")
    groups: dict[str, list[tuple[Rollout, Judgement]]] = {}
    for row, record in zip(read("all.jsonl"), read_jsonl(Path("all.jsonl")), strict=True):
        assert isinstance(row, Answered)
        group = groups.setdefault(row.prompt.key, [])
        ids = tuple(map(ord, row.response))
        group.append((Rollout(row.prompt, (), ids, row.response, True, sample=len(group)), Judgement(record["reward"])))
    sampled = [tuple(rollout for rollout, _ in group) for group in groups.values()]
    judged = [tuple(judgement for _, judgement in group) for group in groups.values()]
    expected = BestWorst().mine(sampled, judged)
    assert expected.examples
    monkeypatch.setattr(mine_logs, "LONE", 3)
    uptake(*by_ratings, "--keep", "pairs", "--out", "pairs.jsonl")
    assert [
        (row["prompt"][0]["content"], row["chosen"][0]["content"], row["rejected"][0]["content"], row["margin"])
        for row in read_jsonl(Path("pairs.jsonl"))
    ] == [
        (each.chosen.prompt.turns[0].content, each.chosen.response, each.rejected.response, each.pair.margin)
        for each in expected.examples
    ]
    dropped = json.loads(Path("pairs.jsonl.summary.json").read_text())["dropped"]
    assert dropped == {str(reason): count for reason, count in expected.summary["dropped"].items()}


def test_a_set_of_json_has_no_room_for_evidence(uptake: Cli) -> None:
    write_jsonl(Path("log.jsonl"), reactions(60))
    message = uptake.fails("discover", "log.jsonl", "--ratings", "thumbs", "--out", "ours.json")
    assert message.startswith("ours.json: unknown file format '.json' (allowed: .yaml, .yml)")
