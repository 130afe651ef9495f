"""Sources of rows: every format and packing, folders, patterns, and paths that somebody has misspelt."""

import gzip
import json
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import datasets
import pyarrow as pa
import pytest

from uptake.data import read
from uptake.errors import InputError, ModelError
from uptake.models import load
from uptake.support.paths import near_path
from uptake.types import Answered, Prompt, Rated, Row

RECORDS = [{"prompt": "When?", "completion": "At eight."}, {"prompt": "Where?", "completion": "Here, or there."}]
LINES = "".join(f"{json.dumps(record)}\n" for record in RECORDS).encode()
TABLE = b"prompt\tcompletion\nWhen?\tAt eight.\nWhere?\tHere, or there.\n"


def said(rows: list[Row]) -> list[tuple[str, str]]:
    assert all(isinstance(row, Answered) for row in rows)
    return [(row.prompt.turns[-1].content, row.response) for row in rows if isinstance(row, Answered)]


EXPECTED = [("When?", "At eight."), ("Where?", "Here, or there.")]


def zstd(raw: bytes) -> bytes:
    stream = pa.BufferOutputStream()
    with pa.CompressedOutputStream(stream, "zstd") as packed:
        packed.write(raw)
    return bytes(stream.getvalue())


@pytest.mark.parametrize("pack", [bytes, gzip.compress, zstd], ids=["", ".gz", ".zst"])
@pytest.mark.parametrize(
    ("ending", "raw"),
    [
        (".jsonl", LINES),
        (".ndjson", LINES),
        (".json", LINES),
        (".json", b"\xef\xbb\xbf\n " + LINES),
        (".json", json.dumps(RECORDS, indent=2).encode()),
        (".csv", TABLE.replace(b"Here, or there.", b'"Here, or there."').replace(b"\t", b",")),
        (".tsv", TABLE),
    ],
)
def test_every_text_format_plain_and_packed(
    tmp_path: Path, ending: str, raw: bytes, pack: Callable[[bytes], bytes]
) -> None:
    packing = {bytes: "", gzip.compress: ".gz", zstd: ".zst"}[pack]
    path = tmp_path / f"rows{ending}{packing}"
    path.write_bytes(pack(raw))
    assert said(read(path)) == EXPECTED


def test_streams_of_several_frames_are_read_to_the_end(tmp_path: Path) -> None:
    first, second = LINES.splitlines(keepends=True)
    for name, pack in (("a.jsonl.zst", zstd), ("a.jsonl.gz", gzip.compress)):
        (tmp_path / name).write_bytes(pack(first) + pack(second))
        assert said(read(tmp_path / name)) == EXPECTED


@pytest.mark.skipif(shutil.which("zstd") is None, reason="no zstd here")
def test_what_the_program_packs_is_read(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_bytes(LINES)
    subprocess.run(["zstd", "-q", "-19", str(tmp_path / "a.jsonl")], check=True)
    assert said(read(tmp_path / "a.jsonl.zst")) == EXPECTED


@pytest.mark.parametrize("ending", [".jsonl", ".json", ".csv"])
@pytest.mark.parametrize("packing", [".gz", ".zst"])
def test_a_packed_file_that_is_damaged_is_named(tmp_path: Path, ending: str, packing: str) -> None:
    pack: Callable[[bytes], bytes] = gzip.compress if packing == ".gz" else zstd
    path = tmp_path / f"rows{ending}{packing}"
    for raw in (b"no such thing", pack(LINES * 50)[:40]):
        path.write_bytes(raw)
        with pytest.raises(InputError, match=rf"rows{ending}{packing}.*(read|breaks off|broken)"):
            read(path)


def test_a_saved_data_set_of_datasets_is_a_folder(tmp_path: Path) -> None:
    datasets.Dataset.from_list(RECORDS).save_to_disk(str(tmp_path / "saved"))
    assert said(read(tmp_path / "saved")) == EXPECTED


def test_arrow_files_and_streams(tmp_path: Path) -> None:
    table = pa.Table.from_pylist([*RECORDS, {"prompt": "Why?", "completion": None}])
    for name, opened in (("file.arrow", pa.ipc.new_file), ("stream.arrow", pa.ipc.new_stream)):
        with opened(tmp_path / name, table.schema) as writer:
            writer.write_table(table, max_chunksize=1)
        rows = read(tmp_path / name)
        assert said(rows[:2]) == EXPECTED
        assert type(rows[2]) is Prompt
    (tmp_path / "file.arrow").write_bytes(b"ARROW1 and no more")
    with pytest.raises(InputError, match=r"file.arrow: not a readable Arrow file"):
        read(tmp_path / "file.arrow")


def test_folders_and_patterns(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    folder = tmp_path / "data" / "train"
    folder.mkdir(parents=True)
    for name, line in zip(("part-0.jsonl", "part-1.jsonl"), LINES.splitlines(keepends=True), strict=True):
        (folder / name).write_bytes(line)
    (folder / "README.md").write_text("no rows")
    (folder / ".hidden.jsonl").write_text("no JSON")
    sources: list[Any] = ["data/train", "./data/train", folder, "data/train/*.jsonl", "data/**/part-?.jsonl"]
    for source in sources:
        rows = read(source)
        assert said(rows) == EXPECTED, source
        places = [row.prompt.where for row in rows if isinstance(row, Answered)]
        assert [(place and place.path.name, place and place.line) for place in places] == [
            ("part-0.jsonl", 1),
            ("part-1.jsonl", 1),
        ]
    with pytest.raises(InputError, match="the folders in it are: train"):
        read("data")
    with pytest.raises(InputError, match="no file fits"):
        read("data/train/*.csv")
    (folder / "more.csv").write_bytes(b"prompt\nWhy?\n")
    with pytest.raises(InputError, match=r"several formats: .csv, .jsonl \(allowed: one of them: data/train/\*.csv"):
        read("data/train")


@pytest.mark.parametrize("source", ["data/trian", "dta/train", "./data/trian", "data/train/a.json", "typo/a.jsonl.zst"])
def test_a_misspelt_path_is_never_asked_for_on_the_hub(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, source: str
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(datasets, "load_dataset", lambda *_, **__: pytest.fail("the Hub was asked"))
    (tmp_path / "data" / "train").mkdir(parents=True)
    (tmp_path / "data" / "train" / "a.jsonl").write_bytes(LINES)
    hint = {"data/train/a.json": "data/train/a.jsonl", "typo/a.jsonl.zst": None}.get(source, "data/train")
    with pytest.raises(InputError, match=rf"did you mean {hint}\?" if hint else "no such file") as caught:
        read(source)
    assert hint is not None or "did you mean" not in str(caught.value)


def test_names_of_the_hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    asked: list[tuple[str, str]] = []

    def load_dataset(name: str, split: str, streaming: bool) -> list[dict[str, str]]:
        asked.append((name, split))
        return RECORDS

    monkeypatch.setattr(datasets, "load_dataset", load_dataset)
    for source in ("org/name", "org/name:test[:10]", "hf://datasets/org/name"):
        assert said(read(source)) == EXPECTED
    (tmp_path / "org").mkdir()  # from here on "org/..." is a path
    assert said(read("hf://datasets/org/name:test")) == EXPECTED
    with pytest.raises(InputError, match="no such file or folder"):
        read("org/name")
    assert asked == [("org/name", "train"), ("org/name", "test[:10]"), ("org/name", "train"), ("org/name", "test")]


@pytest.mark.parametrize("name", ["my-modle", "./my-modle", "run/modle", "/no/such/model", "a/b/c"])
def test_a_misspelt_model_is_refused_before_any_look_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.chdir(tmp_path)
    for folder in ("my-model", "run/model"):
        (tmp_path / folder).mkdir(parents=True)
    monkeypatch.setattr("uptake.models.adapters.cached_file", lambda *_, **__: pytest.fail("the Hub was asked"))
    hint = r"; did you mean (my-model|run/model)\?" if "modle" in name else r" \("
    with pytest.raises(ModelError, match=rf"{name}: no such folder{hint}"):
        load(name)


def test_the_nearest_path_is_found_name_by_name(tmp_path: Path) -> None:
    (tmp_path / "data" / "train").mkdir(parents=True)
    (tmp_path / "data" / "rows.jsonl").touch()
    assert near_path(tmp_path / "dat" / "rows.json") == tmp_path / "data" / "rows.jsonl"
    assert near_path(tmp_path / "data" / "train") == tmp_path / "data" / "train"
    assert near_path(tmp_path / "data" / "other") is None
    assert near_path(tmp_path / "data" / "rows.jsonl" / "below") is None


@pytest.mark.parametrize(
    ("name", "raw"),
    [
        ("n.jsonl", b'{"prompt": "a", "completion": "Yes.", "label": true}\n'
         b'{"prompt": "b", "completion": "No.", "label": null, "chosen": null, "messages": null}\n'),
        ("n.json", b'[{"prompt": "a", "completion": "Yes.", "label": "true"},'
         b' {"prompt": "b", "completion": "No.", "label": null}]'),
        ("n.csv", b"prompt,completion,label,edited\na,Yes.,1.0,\nb,No.,,\n"),
        ("n.tsv", b"prompt\tcompletion\tlabel\na\tYes.\tTrue\nb\tNo.\t\n"),
    ],
)  # fmt: skip
def test_a_null_is_absent_in_every_format(tmp_path: Path, name: str, raw: bytes) -> None:
    (tmp_path / name).write_bytes(raw)
    one, other = read(tmp_path / name)
    assert isinstance(one, Rated)
    assert one.good
    assert isinstance(other, Answered)
    assert other.prompt.extra == {}
