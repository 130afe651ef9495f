"""Output files are whole or absent, journals survive a kill, and what is written reads back as it was."""

import errno
import gzip
import json
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from uptake.data import Journal, Writer, read, replacing, to_record, to_row
from uptake.errors import InputError, UptakeError
from uptake.support.keys import prompt_key
from uptake.types import Answered, Preference, Prompt, Rated, Row, Turn

FORMATS = (".jsonl", ".jsonl.gz", ".csv", ".parquet")

texts = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=20).filter(str.strip)


@st.composite
def rows(draw: st.DrawFn) -> Row:
    said = draw(st.lists(texts, min_size=1, max_size=5).filter(lambda said: len(said) % 2))
    system = [Turn("system", draw(texts))] if draw(st.booleans()) else []
    body = [Turn(("user", "assistant")[place % 2], content) for place, content in enumerate(said)]  # type: ignore[arg-type]
    turns = (*system, *body)
    prompt = Prompt(turns, prompt_key(turns), extra={"note": draw(texts.filter(lambda text: text[0] != "["))})
    kinds: list[Row] = [
        prompt,
        Answered(prompt, draw(texts)),
        Preference(prompt, draw(texts), draw(texts)),
        Rated(prompt, draw(texts), draw(st.booleans())),
    ]
    return draw(st.sampled_from(kinds))


def write(path: Path, records: list[dict[str, Any]]) -> None:
    with Writer(path, overwrite=True) as out:
        for record in records:
            out.write(record)


@pytest.mark.parametrize("ending", FORMATS)
@settings(deadline=None, max_examples=40)
@given(drawn=rows())
def test_every_row_reads_back_as_it_was_written(
    tmp_path_factory: pytest.TempPathFactory, ending: str, drawn: Row
) -> None:
    path = tmp_path_factory.getbasetemp() / f"rows{ending}"
    write(path, [to_record(drawn)])
    (back,) = read(path)
    record = to_record(back)
    assert type(back) is type(drawn)
    assert record == to_record(drawn)


def test_records_are_those_of_trl() -> None:
    turns = (Turn("user", "When?"),)
    prompt = Prompt(turns, prompt_key(turns), extra={"id": 3, "messages": "clash", "label": "safe"})
    asked = [{"role": "user", "content": "When?"}]
    assert to_record(prompt) == {"prompt": asked, "id": 3, "label": "safe"}
    said = [{"role": "assistant", "content": "Now."}]
    assert to_record(Answered(prompt, "Now.")) == {"prompt": asked, "completion": said, "id": 3}
    assert to_record(Rated(prompt, "Now.", True)) == {"prompt": asked, "completion": said, "label": True, "id": 3}
    assert to_row(to_record(prompt)) == prompt


@pytest.mark.parametrize("ending", FORMATS)
def test_an_existing_file_is_kept_unless_overwriting_is_asked_for(tmp_path: Path, ending: str) -> None:
    path = tmp_path / f"rows{ending}"
    path.write_text("old")
    with pytest.raises(InputError, match=r"the output file exists .*overwrite"), Writer(path) as out:
        out.write({"prompt": "a"})
    assert path.read_text() == "old"
    write(path, [{"prompt": "a"}])
    assert len(read(path)) == 1


@pytest.mark.parametrize("ending", FORMATS)
def test_an_error_while_writing_leaves_everything_as_it_was(tmp_path: Path, ending: str) -> None:
    path = tmp_path / f"rows{ending}"
    path.write_text("old")
    with pytest.raises(FileNotFoundError, match="a model"), Writer(path, overwrite=True) as out:
        fail(out)
    assert path.read_text() == "old"
    assert os.listdir(tmp_path) == [path.name]


def fail(out: Writer) -> None:
    out.write({"prompt": "a"})
    raise FileNotFoundError("a model")


def test_nothing_is_at_the_path_before_the_end(tmp_path: Path) -> None:
    path = tmp_path / "new" / "rows.jsonl"
    with Writer(path) as out:
        out.write({"prompt": "a"})
        assert not path.exists()
    assert path.read_text() == '{"prompt": "a"}\n'


def test_equal_records_give_equal_files(tmp_path: Path) -> None:
    for name in ("a.jsonl.gz", "b.jsonl.gz"):
        write(tmp_path / name, [{"prompt": "é"}])
    assert (tmp_path / "a.jsonl.gz").read_bytes() == (tmp_path / "b.jsonl.gz").read_bytes()
    assert (tmp_path / "a.jsonl.gz").read_bytes()[3:8] == bytes(5)  # neither name nor time
    assert gzip.decompress((tmp_path / "a.jsonl.gz").read_bytes()).decode() == '{"prompt": "é"}\n'


def test_half_a_surrogate_pair_survives_jsonl(tmp_path: Path) -> None:
    write(tmp_path / "a.jsonl", [{"prompt": "\ud83d \\ud83d é"}])
    assert json.loads((tmp_path / "a.jsonl").read_text(encoding="utf-8")) == {"prompt": "\ud83d \\ud83d é"}


@pytest.mark.parametrize("ending", FORMATS)
def test_a_record_that_the_format_cannot_hold_is_refused(tmp_path: Path, ending: str) -> None:
    with pytest.raises(UptakeError, match=r"cannot be written as JSON|do not fit the format"):
        write(tmp_path / f"rows{ending}", [{"a": 1.5}, {"a": [object()]}])
    assert os.listdir(tmp_path) == []


def test_unknown_output_formats_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"unknown file format '.txt' .*\.parquet"):
        Writer(tmp_path / "rows.txt")
    with pytest.raises(InputError, match=r"unknown file format '.csv'"):
        Journal(tmp_path / "rows.csv")


FILL = """
import random, sys
from uptake.data import Writer
from uptake.errors import UptakeError
for path in sys.argv[1:]:
    try:
        with Writer(path, overwrite=True) as out:
            for row in range(3_000):
                out.write({"prompt": random.randbytes(500).hex()})
    except UptakeError as error:
        print(error)
"""


SMALL_FILES = """
import resource, signal
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))
"""
SMALL_JOURNAL = """
import os
from uptake.data import Journal
with Journal(os.environ["JOURNAL"]) as journal:
    journal.append({"key": "a"})
    try:
        journal.append({"key": "b" * 200_000})
    except UptakeError as error:
        print(error)
    journal.append({"key": "c"})
"""


def run(code: str, *arguments: str, before: Sequence[str] = ()) -> str:
    """What a Python program prints; nothing else may go wrong in it."""
    command = [*before, sys.executable, "-c", code, *arguments]
    return subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True).stdout


def test_a_full_disk_is_one_clear_error(tmp_path: Path) -> None:
    """A file system of one megabyte, where the machine lets a user mount one."""
    if subprocess.run(["unshare", "-rm", "true"], capture_output=True, check=False).returncode:
        pytest.skip("no user may mount a file system here")
    paths = [str(tmp_path / f"rows{ending}") for ending in FORMATS]
    small_disk = (
        'mount -t tmpfs -o size=1m none "$0" && for end in csv parquet jsonl; do echo old > "$0/rows.$end"; done'
    )
    program = '"$@" && cd "$0" && cat rows.csv rows.parquet rows.jsonl && ls -A'
    before = ["unshare", "-rm", "sh", "-c", f"{small_disk} && {program}", str(tmp_path)]
    said = run(FILL, *paths, before=before).splitlines()
    errors = [f"{path}: cannot be written: No space left on device" for path in paths]
    assert said == [*errors, "old", "old", "old", "rows.csv", "rows.jsonl", "rows.parquet"]


def test_a_file_that_may_not_grow_is_one_clear_error(tmp_path: Path) -> None:
    paths = [tmp_path / f"rows{ending}" for ending in FORMATS]
    for path in paths:
        path.write_text("old")
    journal = tmp_path / "done.jsonl"
    said = run(SMALL_FILES + FILL + SMALL_JOURNAL, *map(str, paths), before=["env", f"JOURNAL={journal}"])
    assert said.splitlines() == [f"{path}: cannot be written: File too large" for path in (*paths, journal)]
    assert [path.read_text() for path in paths] == ["old"] * len(paths)
    assert journal.read_text() == '{"key": "a"}\n{"key": "c"}\n'
    assert sorted(os.listdir(tmp_path)) == sorted(path.name for path in (*paths, journal))


def test_a_disk_that_fills_up_at_the_last_sync_is_one_clear_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(handle: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    path = tmp_path / "note.txt"
    path.write_text("old")
    monkeypatch.setattr(os, "fsync", full)
    with (
        pytest.raises(UptakeError, match=r"note.txt: cannot be written: No space"),
        replacing(path, overwrite=True) as new,
    ):
        new.write_text("new")
    assert path.read_text() == "old"
    assert os.listdir(tmp_path) == [path.name]


def test_a_journal_goes_on_where_it_was(tmp_path: Path) -> None:
    path = tmp_path / "new" / "done.jsonl"
    with Journal(path) as journal:
        assert journal.done == []
        journal.append({"key": "a", "score": 0.1})
    with Journal(path) as journal:
        assert journal.done == [{"key": "a", "score": 0.1}]
        journal.append({"key": "b\n"})
    assert path.read_text() == '{"key": "a", "score": 0.1}\n{"key": "b\\n"}\n'


@pytest.mark.parametrize("cut", [1, 5, 11])
def test_a_torn_last_line_is_dropped(tmp_path: Path, cut: int) -> None:
    path = tmp_path / "done.jsonl"
    lines = b'{"key": "a"}\n{"key": "b"}\n'
    path.write_bytes(lines[:-cut])
    with Journal(path) as journal:
        assert journal.done == [{"key": "a"}]
        journal.append({"key": "c"})
    assert path.read_text() == '{"key": "a"}\n{"key": "c"}\n'


def test_a_broken_line_elsewhere_is_an_error(tmp_path: Path) -> None:
    path = tmp_path / "done.jsonl"
    path.write_text('{"key": "a"}\n{"key"\n{"key": "b"}\n')
    with pytest.raises(InputError, match=r"done.jsonl:2: broken JSON"):
        Journal(path)


def test_a_killed_process_loses_nothing_it_has_appended(tmp_path: Path) -> None:
    path = tmp_path / "done.jsonl"
    code = """
import itertools, sys
from uptake.data import Journal
journal = Journal(sys.argv[1])
for number in itertools.count():
    journal.append({"number": number, "filler": "x" * 5_000})
    print(number, flush=True)
"""
    job = subprocess.Popen([sys.executable, "-c", code, str(path)], stdout=subprocess.PIPE, text=True)
    assert job.stdout is not None
    with job, job.stdout:
        said = [int(next(job.stdout)) for _ in range(50)]
        job.kill()
        said.extend(int(line) for line in job.stdout if line.endswith("\n"))
    with Journal(path) as journal:
        numbers = [record["number"] for record in journal.done]
    assert numbers == list(range(len(numbers)))
    assert len(numbers) >= len(said)
