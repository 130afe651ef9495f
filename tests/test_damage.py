"""Damage: snapshots that a disk or a power cut has spoiled, and folders that are replaced at any moment of a kill."""

import os
import shutil
import signal
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from test_loop import EVERY_STEP, Stop, same_run, stop_at, two_stages
from tiny import in_process, killer, pair_records, tiny_llama, tiny_world, weights_of

from uptake.errors import UptakeError
from uptake.models import load, save_model
from uptake.support import folders
from uptake.support.folders import replacing_folder
from uptake.town import CHAT_TEMPLATE
from uptake.train.loop import run
from uptake.train.tensor_folder import DamagedFolder, exact, read_tensors, write_tensors

FILES = tuple(f"{name}.safetensors" for name in ("weights", "optimizer", "reference", "rng"))

# An optimizer step of the second stage, whose reference is there.
LATE = 18


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("damage") / "whole"
    run(two_stages(), tiny_world(folder, pair_records(4)), EVERY_STEP)
    return folder


@pytest.fixture(scope="module")
def begun(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("damage") / "begun"
    with pytest.raises(Stop):
        run(two_stages(), tiny_world(folder, pair_records(4)), replace(EVERY_STEP, observe=stop_at(LATE)))
    return folder


@pytest.fixture
def stopped(begun: Path, tmp_path: Path) -> Path:
    """A run of two checkpoints, to be damaged."""
    shutil.copytree(begun, tmp_path / "run")
    return tmp_path / "run"


def checkpoints(run_folder: Path) -> list[Path]:
    return sorted((run_folder / "checkpoints").iterdir())


def resume(folder: Path) -> None:
    run(two_stages(), tiny_world(folder, pair_records(4)), replace(EVERY_STEP, resume=True))


def cut(path: Path) -> None:
    os.truncate(path, path.stat().st_size - 9)


def flip(path: Path) -> None:
    """One bit, in the middle of the last tensor."""
    data = bytearray(path.read_bytes())
    data[-2] ^= 4
    path.write_bytes(data)


def empty(path: Path) -> None:
    os.truncate(path, 0)


def zero(path: Path) -> None:
    """As long as it was, and nothing in it: what a power cut leaves of a file that was not synced."""
    path.write_bytes(bytes(path.stat().st_size))


def other_words(path: Path) -> None:
    path.write_text("[]")


DAMAGES: list[tuple[str, Callable[[Path], None]]] = [
    *((file, damage) for file in FILES for damage in (cut, flip, empty, zero, Path.unlink)),
    *(("manifest.json", damage) for damage in (cut, empty, zero, other_words, Path.unlink)),
]


@pytest.mark.parametrize(("file", "damage"), DAMAGES)
def test_the_checkpoint_before_a_damaged_one_is_taken(
    file: str, damage: Callable[[Path], None], stopped: Path, whole: Path, caplog: pytest.LogCaptureFixture
) -> None:
    older, newer = checkpoints(stopped)
    assert (newer / file).stat().st_size
    damage(newer / file)
    resume(stopped)
    (message,) = [record.message for record in caplog.records if record.name == "uptake.train.checkpoint"]
    assert f"{newer}/" in message
    assert " is damaged: " in message
    assert message.endswith(f"the run goes on from the checkpoint before, {older}")
    assert same_run(stopped, whole)
    assert len(checkpoints(stopped)) == 2
    assert newer not in checkpoints(stopped)


def test_no_checkpoint_is_whole(stopped: Path, whole: Path) -> None:
    older, newer = checkpoints(stopped)
    flip(newer / "weights.safetensors")
    cut(older / "optimizer.safetensors")
    files = {path: path.read_bytes() for path in stopped.rglob("*") if path.is_file()}
    with pytest.raises(UptakeError) as error:
        resume(stopped)
    for part in (
        "weights.safetensors is damaged: crc32",
        "optimizer.safetensors is damaged: bytes",
        "is whole (remove",
    ):
        assert part in str(error.value)
    assert {path: path.read_bytes() for path in stopped.rglob("*") if path.is_file()} == files
    shutil.rmtree(stopped / "checkpoints")
    resume(stopped)
    assert same_run(stopped, whole)


def test_the_weights_that_a_stage_began_with_are_looked_at(stopped: Path) -> None:
    flip(stopped / "stages" / "01" / "weights.safetensors")
    with pytest.raises(DamagedFolder, match=r"stages/01/weights\.safetensors is damaged: crc32"):
        resume(stopped)


def test_a_damaged_checkpoint_does_not_outlive_those_after_it(stopped: Path, whole: Path) -> None:
    """The damaged one is the newest by its name until the run has passed it."""
    older, newer = checkpoints(stopped)
    newer = newer.rename(newer.with_name("01-00000-00000099-00000099"))
    empty(newer / "manifest.json")
    with pytest.raises(Stop):
        run(two_stages(), tiny_world(stopped, pair_records(4)), replace(EVERY_STEP, resume=True, observe=stop_at(LATE)))
    assert older in checkpoints(stopped)
    assert newer not in checkpoints(stopped)
    resume(stopped)
    assert same_run(stopped, whole)


def test_other_things_beside_checkpoints_are_none(stopped: Path, whole: Path) -> None:
    (stopped / "checkpoints" / "zz-notes-of-mine-x").mkdir()
    resume(stopped)
    assert same_run(stopped, whole)


@pytest.mark.parametrize("bit", range(0, 8 * 300, 37))
def test_every_bit_counts(bit: int, tmp_path: Path) -> None:
    """Header and tensors: a file is what it was, or damaged."""
    numbers = {"a": 0.1, "b": -3.0}
    write_tensors(tmp_path / "kept", {"numbers": exact(numbers)})
    assert {name: float(value) for name, value in read_tensors(tmp_path / "kept", "numbers").items()} == numbers
    path = tmp_path / "kept" / "numbers.safetensors"
    data = bytearray(path.read_bytes())
    data[bit // 8 % len(data)] ^= 1 << bit % 8
    path.write_bytes(data)
    with pytest.raises(DamagedFolder, match="crc32"):
        read_tensors(tmp_path / "kept", "numbers")


# --- folders by renames ----------------------------------------------------------------------------------------------


def parts(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


def whole_or_absent(folder: Path) -> Callable[[str, tuple[Any, ...]], None]:
    """A hook on all that a process does to files: at each moment a folder has both its files, or is not there."""

    def hook(event: str, arguments: tuple[Any, ...]) -> None:
        if event.startswith(("os.", "open", "shutil.")) and os.path.isdir(folder):
            names = [name for name in ("one", "two") if os.path.exists(folder / name)]
            assert len(names) == 2, (event, arguments)

    return hook


def replace_folder(folder: Path, text: str, kill_at: tuple[str, str, int] | None = None) -> None:
    sys.addaudithook(whole_or_absent(folder))
    if kill_at is not None:
        sys.addaudithook(killer(*kill_at))
    with replacing_folder(folder) as new:
        for name in ("one", "two"):
            (new / name).write_text(text)


MOMENTS = [
    *(("os.mkdir", "model.partial", 1), ("open", "partial/one", 1), ("open", "partial/two", 1)),
    *(("os.rename", "model", 1), ("os.rename", "model.partial", 1)),
    *(
        ("shutil.rmtree", "model.old", 2),
        ("os.remove", "one", 1),
        ("os.remove", "two", 1),
        ("os.rmdir", "model.old", 1),
    ),
]


@pytest.mark.parametrize("moment", MOMENTS)
def test_a_folder_is_whole_at_any_moment_of_a_kill(moment: tuple[str, str, int], tmp_path: Path) -> None:
    folder = tmp_path / "model"
    assert in_process(replace_folder, folder, "old") == 0
    assert in_process(replace_folder, folder, "new", moment) == -signal.SIGKILL
    texts = {path.read_text() for path in folder.glob("*")}
    assert texts in ({"old"}, {"new"}, set())
    if not texts:
        assert moment == ("os.rename", "model.partial", 1)
        assert {path.read_text() for path in (tmp_path / "model.old").iterdir()} == {"old"}
    # The next call tidies up first, also where it fails itself.
    with pytest.raises(ZeroDivisionError):
        fail_half_way(folder, texts or {"old"})
    assert parts(tmp_path) == {"model"}
    assert {path.read_text() for path in folder.iterdir()} == (texts or {"old"})
    assert in_process(replace_folder, folder, "newest") == 0
    assert parts(tmp_path) == {"model"}
    assert {path.read_text() for path in folder.iterdir()} == {"newest"}


def fail_half_way(folder: Path, texts: set[str]) -> None:
    with replacing_folder(folder) as new:
        assert {path.read_text() for path in folder.iterdir()} == texts
        (new / "one").write_text("more")
        assert 1 / 0


def test_all_is_on_the_disk_before_it_has_the_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What was synced, by its name, when the last rename came; the folder that holds the new name comes after it."""
    synced: list[Path] = []
    sync = folders.sync
    before: list[set[str]] = []
    rename = Path.rename

    def watched_sync(path: Path) -> None:
        sync(path)
        synced.append(path)

    def watched_rename(path: Path, target: Path) -> Path:
        before.append({str(each.relative_to(tmp_path)) for each in synced})
        return rename(path, target)

    monkeypatch.setattr(folders, "sync", watched_sync)
    monkeypatch.setattr(Path, "rename", watched_rename)
    write_tensors(tmp_path / "kept", {"numbers": exact({"a": 1.0})})
    files = {"numbers.safetensors", "manifest.json"}
    assert before == [{"kept.partial", *(f"kept.partial/{name}" for name in files)}]
    assert synced[-1] == tmp_path


@pytest.mark.parametrize("moment", [("os.rename", "m", 1), ("os.rename", "m.partial", 1), ("os.rmdir", "m.old", 1)])
def test_a_model_is_replaced_by_renames(moment: tuple[str, str, int], tmp_path: Path) -> None:
    old, new = tiny_llama(), tiny_llama(seed=1)
    save_model(old, CHAT_TEMPLATE, tmp_path / "m")
    files = parts(tmp_path / "m")
    assert in_process(saves, tmp_path / "m", moment) == -signal.SIGKILL
    assert not (tmp_path / "m").exists() or parts(tmp_path / "m") == files
    save_model(new, CHAT_TEMPLATE, tmp_path / "m")
    assert parts(tmp_path) == {"m"}
    found = weights_of(load(tmp_path / "m", dtype="float32"))
    assert all(torch.equal(weight, found[name]) for name, weight in weights_of(new).items())


def saves(folder: Path, kill_at: tuple[str, str, int]) -> None:
    sys.addaudithook(killer(*kill_at))
    save_model(tiny_llama(seed=1), CHAT_TEMPLATE, folder)
