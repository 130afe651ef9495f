"""Checkpoints by themselves: which are there, which is taken, and that a snapshot comes back as it was."""

from dataclasses import replace
from pathlib import Path

import torch
from torch import nn

from uptake.train import checkpoint
from uptake.train.checkpoint import Cursor, Snapshot, optimizer_tensors, restore_optimizer

# In the order of a run: by stage, by round, and by step within a round. Its end has the cursor of the next one.
COURSE = (
    Cursor(0, 0, done=2, step=2),
    Cursor(0, 0, done=10, step=10),
    Cursor(0, 1, done=0, step=12),
    Cursor(0, 1, done=3, step=15),
    Cursor(0, 2, done=0, step=24),
    Cursor(0, 10, done=0, step=120),
    Cursor(1, 0, done=0, step=120),
    Cursor(1, 0, done=1, step=121),
    Cursor(1, 0, done=99_999, step=100_119),
)


def snapshot(cursor: Cursor) -> Snapshot:
    weights = {"weight": torch.tensor([float(cursor.step), float(cursor.done)])}
    return Snapshot(cursor, weights, {"0.step": torch.tensor(1.0)}, {}, torch.get_rng_state())


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in (folder / "checkpoints").iterdir())


def test_the_newest_is_taken_and_the_one_before_stays(tmp_path: Path) -> None:
    assert checkpoint.load(tmp_path) is None
    assert checkpoint.newest(tmp_path) is None
    for number, cursor in enumerate(COURSE):
        checkpoint.save(tmp_path, snapshot(cursor))
        found = checkpoint.load(tmp_path)
        assert found is not None
        assert found.cursor == checkpoint.newest(tmp_path) == cursor
        assert torch.equal(found.weights["weight"], snapshot(cursor).weights["weight"])
        assert (found.optimizer, found.reference) == ({"0.step": torch.tensor(1.0)}, {})
        assert torch.equal(found.rng, torch.get_rng_state())
        assert len(names(tmp_path)) == min(2, number + 1)
    assert names(tmp_path) == ["01-00000-00000121-00000001", "01-00000-00100119-00099999"]


def test_a_run_that_went_back_leaves_nothing_later(tmp_path: Path) -> None:
    """Whoever saves an earlier cursor could not read the later ones."""
    for cursor in COURSE[:5]:
        checkpoint.save(tmp_path, snapshot(cursor))
    checkpoint.save(tmp_path, snapshot(COURSE[3]))
    assert checkpoint.newest(tmp_path) == COURSE[3]
    assert len(names(tmp_path)) == 1
    checkpoint.save(tmp_path, snapshot(replace(COURSE[3], done=4, step=16)))
    assert names(tmp_path) == ["00-00001-00000015-00000003", "00-00001-00000016-00000004"]


def test_what_is_half_written_is_none(tmp_path: Path) -> None:
    checkpoint.save(tmp_path, snapshot(COURSE[2]))
    for name in ("00-00001-00000015-00000003.partial", "00-00001-00000015-00000003.old", "notes"):
        (tmp_path / "checkpoints" / name).mkdir()
    found = checkpoint.load(tmp_path)
    assert found is not None
    assert found.cursor == checkpoint.newest(tmp_path) == COURSE[2]
    checkpoint.save(tmp_path, snapshot(COURSE[3]))
    assert names(tmp_path) == ["00-00001-00000012-00000000", "00-00001-00000015-00000003"]


def test_an_optimizer_goes_on_where_it_was() -> None:
    """Adam's next step on a gradient of 0 comes from its memory alone."""

    def built() -> tuple[nn.Parameter, torch.optim.Optimizer]:
        weight = nn.Parameter(torch.ones(3))
        return weight, torch.optim.AdamW([weight], lr=0.1)

    weight, optimizer = built()
    weight.grad = torch.tensor([1.0, -2.0, 0.5])
    optimizer.step()
    other, fresh = built()
    restore_optimizer(fresh, {name: tensor.clone() for name, tensor in optimizer_tensors(optimizer).items()})
    with torch.no_grad():
        other.copy_(weight)
    for each, adam in ((weight, optimizer), (other, fresh)):
        each.grad = torch.zeros(3)
        adam.step()
    assert torch.equal(weight, other)
    assert float((weight.detach() - 1).abs().min()) > 0.1
