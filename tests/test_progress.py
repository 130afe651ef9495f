"""Progress where there is no terminal: a line for all that runs, time and again, and none for what is quick."""

import re
import time

import pytest

from uptake.support import progress
from uptake.support.progress import Bar, progress_bar


def test_a_log_gets_a_line_now_and_then(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(progress, "SECONDS", 0.2)
    with progress_bar("rounds", 4) as outer, progress_bar("update", 8) as inner:
        outer.advance()
        for _ in range(2):
            inner.advance()
            time.sleep(0.25)
    first, *_ = capsys.readouterr().err.splitlines()
    assert re.match(r"rounds: 1 of 4, 0:00:00 gone.*; update: 1 of 8, 0:00:00 gone", first)
    time.sleep(0.3)
    assert capsys.readouterr().err == ""  # closed


def test_the_time_that_is_left_follows_from_the_pace(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The second of twenty takes some time: the other eighteen take eighteen times as long."""
    monkeypatch.setattr(progress, "SECONDS", 1.2)
    times, line = [], ""
    with progress_bar("score", 20) as bar:
        for _ in range(2):
            time.sleep(0.4)
            bar.advance()
            times.append(time.monotonic())
        while not line:
            time.sleep(0.02)
            line = capsys.readouterr().err.rstrip()
    done = re.fullmatch(r"score: 2 of 20, 0:00:01 gone, 0:00:(\d\d) left", line)
    assert done
    assert int(done[1]) == pytest.approx(18 * (times[1] - times[0]), abs=1.5)


def test_units_that_end_together_do_not_promise_all_others_at_once() -> None:
    """Two workers end within two seconds after ten minutes: thirteen more take 301 seconds each."""
    shown, clock = progress._new_progress(), iter((0.0, 0.0, 600.0, 602.0))
    shown.get_time = lambda: next(clock, 602.0)
    bar = Bar(shown, "claims", 15)
    bar.advance()
    bar.advance()
    (task,) = shown.tasks
    assert task.time_remaining == pytest.approx(13 * 301, abs=1)


def test_what_is_quick_is_silent(capsys: pytest.CaptureFixture[str]) -> None:
    with progress_bar("score", 3) as bar:
        bar.advance(3)
    assert capsys.readouterr() == ("", "")
