"""Two models compared by an annotator: the figures by hand, and the win rate at equal lengths on planted verdicts."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy.special import expit, logit
from tiny import prompt_records, read_jsonl, saved, tiny_llama, write_followups, write_jsonl

from uptake.annotators.oracle import OracleAnnotator
from uptake.errors import InputError
from uptake.evaluate import length_controlled_win_rate
from uptake.follow_up.reward import FollowUpSpec
from uptake.rollout import PolicySamples
from uptake.support.keys import prompt_key
from uptake.tasks.annotated_comparison import AnnotatedPair, annotated_figures, compare_by_annotator
from uptake.tasks.compare import compare_files
from uptake.town import Town
from uptake.types import Dropped, Prompt, Rollout, Turn, Verdict

RNG = np.random.default_rng(0)


def test_length_alone_wins_nothing() -> None:
    """Verdicts that follow length only: the plain win rate is high, that at equal lengths one half."""
    lengths = RNG.integers(20, 60, 4000) + 15.0, RNG.integers(20, 60, 4000) * 1.0
    difference = lengths[0] - lengths[1]
    wins = (RNG.random(4000) < expit(2 * np.tanh(difference / difference.std()))).astype(float)
    assert wins.mean() > 0.65
    found = length_controlled_win_rate(wins.tolist(), lengths[0].tolist(), lengths[1].tolist())
    assert found.low < 0.5 < found.high
    assert found.high - found.low < 0.08


def test_the_planted_advantage_is_found_in_nine_of_ten_intervals() -> None:
    """Coverage of a 95 % interval over 200 data sets: between 90 and 99 %."""
    covered = 0
    for _ in range(200):
        difference = RNG.normal(5, 10, 300)
        p = expit(logit(0.6) + 1.5 * np.tanh(difference / difference.std()))
        wins = (RNG.random(300) < p).astype(float)
        found = length_controlled_win_rate(wins.tolist(), (difference + 50).tolist(), [50.0] * 300)
        covered += found.low <= 0.6 <= found.high
    assert 0.9 <= covered / 200 <= 0.99


def test_equal_lengths_give_the_plain_rate() -> None:
    found = length_controlled_win_rate([1, 0, 1, 0.5, 1] * 8, [7.0] * 40, [7.0] * 40)
    assert found.rate == pytest.approx(0.7, abs=1e-3)
    assert found.n == 40


def test_swapping_the_sides_mirrors_the_rate() -> None:
    p, a, b = ([*some] * 10 for some in ((0.9, 0.2, 0.6, 0.7), (3.0, 9.0, 4.0, 6.0), (5.0, 2.0, 4.0, 3.0)))
    one = length_controlled_win_rate(p, a, b)
    other = length_controlled_win_rate([1 - each for each in p], b, a)
    assert (one.rate, one.low) == pytest.approx((1 - other.rate, 1 - other.high))


def test_separable_verdicts_stay_finite() -> None:
    found = length_controlled_win_rate([1, 1, 0, 0] * 10, [9.0, 8.0, 1.0, 2.0] * 10, [1.0, 2.0, 9.0, 8.0] * 10)
    assert 0.3 < found.rate < 0.7


def test_what_no_interval_can_be_made_of() -> None:
    with pytest.raises(InputError, match=r"39 verdicts.*at least 40"):
        length_controlled_win_rate([1, 0, 1] * 13, [1.0, 2.0, 3.0] * 13, [2.0, 1.0, 3.0] * 13)
    with pytest.raises(InputError, match="all verdicts prefer the same side"):
        length_controlled_win_rate([1.0] * 40, [1.0, 2.0] * 20, [2.0, 1.0] * 20)


def duel(p: float, words: tuple[int, int] = (2, 2), valid: bool = True) -> AnnotatedPair:
    turns = (Turn("user", "when ?"),)
    prompt = Prompt(turns, prompt_key(turns))
    before, after = (Rollout(prompt, (1,), (5,) * count, "it " * count, True) for count in words)
    return before, after, Verdict(p, (p, p), None if valid else Dropped.NO_ANSWER, tokens=10)


def test_figures_by_hand() -> None:
    figures = annotated_figures([duel(0.9, (2, 4)), duel(0.2), duel(0.5), duel(0.5, valid=False), duel(0.7, (3, 3))])
    wins = figures["win_rate"]
    assert (wins["wins"], wins["losses"], wins["ties"], wins["n"]) == (2, 1, 1, 4)
    assert figures["lengths"]["ratio"] == pytest.approx(11 / 9)
    assert figures["annotator"]["reasons"] == {"no answer": 1}
    assert figures["annotator"]["tokens"] == 50
    assert figures["prompts"] == 5
    with pytest.raises(InputError, match="no verdict is valid; the first: no answer"):
        annotated_figures([duel(0.5, valid=False)])


def test_a_model_against_another_by_the_towns_oracle(tmp_path: Path) -> None:
    models = {name: str(saved(tiny_llama(seed), tmp_path / name)) for seed, name in enumerate(("before", "after"))}
    questions = Town().questions(6, 0, "heldout")
    data = write_jsonl(tmp_path / "in.jsonl", [{"prompt": question.text} for question in questions])
    figures = compare_by_annotator(data, models, OracleAnnotator(), tmp_path / "out", device="cpu")
    assert json.loads((tmp_path / "out" / "evaluation.json").read_text())["win_rate"] == figures["win_rate"]
    samples = read_jsonl(tmp_path / "out" / "samples.jsonl")
    wins = figures["win_rate"]
    assert [sum(each["winner"] == side for each in samples) for side in ("after", "before", "tie")] == [
        wins["wins"],
        wins["losses"],
        wins["ties"],
    ]


LONG = "bread " * 60


@pytest.mark.parametrize(
    ("before", "after", "left"),
    [(["it", LONG, "nine .", "it ."], ["it .", "at", LONG, "nine"], 2), ([LONG] * 4, ["it"] * 4, 0)],
)
def test_what_cannot_be_scored_is_left_out_on_both_sides(
    before: list[str], after: list[str], left: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    answers = iter((before, after))

    def of(self: PolicySamples, lm: Any, prompts: Sequence[Prompt], *_: Any, **__: Any) -> list[Rollout]:
        return [Rollout(prompt, (1,), (5,), text, True) for prompt, text in zip(prompts, next(answers), strict=True)]

    monkeypatch.setattr(PolicySamples, "of", of)
    models = {name: str(saved(tiny_llama(seed), tmp_path / name)) for seed, name in enumerate(("before", "after"))}
    models["follow_up"] = str(saved(tiny_llama(2, max_position_embeddings=40), tmp_path / "judge"))
    data = write_jsonl(tmp_path / "in.jsonl", prompt_records(4))
    spec = FollowUpSpec(str(write_followups(tmp_path)))
    if not left:
        with pytest.raises(InputError, match=r"no response could be scored; the first: .*window of 40"):
            compare_files(data, models, tmp_path / "out", reward=spec, device="cpu")
        return
    figures = compare_files(data, models, tmp_path / "out", reward=spec, device="cpu")
    assert (figures["prompts"], figures["win_rate"]["n"], figures["left_out"]) == (
        4,
        left,
        {"longer than the window": 2},
    )
    samples = read_jsonl(tmp_path / "out" / "samples.jsonl")
    assert [each["before"]["response"] for each in samples] == ["it", "it ."]
    both = [[each[side]["reward"] for each in samples] for side in ("before", "after")]
    assert [sum(side) / 2 for side in both] == pytest.approx([*figures["follow_up_reward"].values()])


def test_a_judge_has_to_be_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from uptake.cli import main  # noqa: PLC0415

    models = {name: str(saved(tiny_llama(seed), tmp_path / name)) for seed, name in enumerate(("one", "two", "judge"))}
    data = write_jsonl(tmp_path / "in.jsonl", prompt_records(4))
    out = tmp_path / "out"
    sides = ["--policy", models["one"], "--against", models["two"], "--out", str(out), "--max-new-tokens", "4"]
    monkeypatch.setattr("sys.argv", ["uptake", "eval", str(data), *sides])
    with pytest.raises(SystemExit) as refused:
        main()
    assert refused.value.code == 2
    assert "no judge (allowed: --reward, or --judge)" in capsys.readouterr().err
