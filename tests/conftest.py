"""Every test runs offline, and calls into the rooms that hold tensors are held to their annotations, axes included."""

import dataclasses
import functools
import gc
import inspect
import os
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

import hypothesis
import jaxtyping
import pytest
from beartype import BeartypeConf, beartype
from beartype.roar import BeartypeDecorHintException

if TYPE_CHECKING:
    from tiny_cli import Cli

os.environ["HF_HUB_OFFLINE"] = "1"
# The last bit of a sum depends on how many threads share it, and tests compare runs of several processes bit by bit.
# Set before torch is there, and inherited by every process that a test starts.
os.environ["OMP_NUM_THREADS"] = "1"
# A console that is made while this is set keeps the width, and workers of a run in parallel come with one.
os.environ.pop("COLUMNS", None)

hypothesis.settings.register_profile("house", deadline=None, derandomize=True)
hypothesis.settings.load_profile("house")

ROOMS = (
    *("ops", "losses", "models", "reference", "sampling", "rollout", "rewards", "follow_up", "annotators", "judge"),
    *("signal", "objective", "weights", "update"),
)
CONFIG = BeartypeConf(is_pep484_tower=True)  # an int is a float, as it is for mypy


def checked(function: Callable[..., Any]) -> Callable[..., Any]:
    """The function under beartype, or as it is where beartype cannot check a hint (`Self`, a foreign generic)."""
    try:
        return beartype(function, conf=CONFIG)
    except BeartypeDecorHintException:
        return function


def jaxtyped(*, typechecker: Callable[..., Any]) -> Callable[[Any], Any]:
    """Does at a tenth of the cost what `jaxtyping.jaxtyped` does, which binds and checks all arguments twice a call.

    What has nothing to check, as `Any`, stays as it is.
    """

    def decorate(item: Any) -> Any:
        if inspect.isclass(item):
            if dataclasses.is_dataclass(item) and "__init__" in vars(item):
                item.__init__ = decorate(item.__init__)  # type: ignore[misc]
            return item
        guarded = typechecker(item)

        @functools.wraps(item)
        def call(*arguments: Any, **options: Any) -> Any:
            if jaxtyping.config.jaxtyping_disable:
                return item(*arguments, **options)
            with axes("context"):
                return guarded(*arguments, **options)

        return item if guarded is item else call

    return decorate


axes, jaxtyping.jaxtyped = jaxtyping.jaxtyped, jaxtyped
jaxtyping.install_import_hook([f"uptake.{room}" for room in ROOMS], "conftest.checked")


@pytest.fixture(autouse=True)
def _check_annotations(request: pytest.FixtureRequest) -> None:
    jaxtyping.config.update("jaxtyping_disable", request.node.get_closest_marker("unchecked") is not None)


def pytest_collection_finish() -> None:
    """Make the command line's console while no test sets its width, which it would keep for all that follow.

    No later search for garbage goes through what is imported by now, which lives as long as the process.
    """
    import_module("uptake.cli.options")
    gc.collect()
    gc.freeze()


# Uptake is imported here only once its calls are checked, as above.


@pytest.fixture
def uptake(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> "Cli":
    """The command line in a folder of its own, with a small follow-up set in it."""
    from tiny import write_followups  # noqa: PLC0415
    from tiny_cli import Cli  # noqa: PLC0415

    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "200")
    write_followups(tmp_path)
    return Cli(tmp_path, capsys, monkeypatch)


@pytest.fixture(scope="session")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a tiny model."""
    from tiny import saved, tiny_llama  # noqa: PLC0415

    return saved(tiny_llama(), tmp_path_factory.mktemp("models") / "policy")
