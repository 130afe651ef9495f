"""Runs the command line in this process and keeps what it prints."""

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from uptake import cli


class Cli:
    """Runs `uptake` in this process, in a folder of its own, and keeps what it printed."""

    def __init__(self, folder: Path, capture: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
        self.folder, self.capture, self.monkeypatch = folder, capture, monkeypatch

    def __call__(self, *arguments: object) -> str:
        """What a command that ends well prints."""
        code, out, error = self.run(*arguments)
        assert code == 0, error
        return out

    def fails(self, *arguments: object) -> str:
        """The message of a command that is refused: one paragraph, code 2, no traceback, no file that was not there."""
        before = self.files()
        code, _, error = self.run(*arguments)
        assert code == 2
        assert "Traceback" not in error
        (message,) = [line for line in error.splitlines() if line.startswith("error: ")]
        assert self.files() == before
        return message.removeprefix("error: ")

    def run(self, *arguments: object) -> tuple[int, str, str]:
        self.capture.readouterr()
        self.monkeypatch.setattr(sys, "argv", ["uptake", *map(str, arguments)])
        code: object = 0
        try:
            cli.main()
        except SystemExit as error:
            code = error.code or 0
        out, error_text = self.capture.readouterr()
        assert isinstance(code, int)
        return code, out, error_text

    def files(self) -> dict[str, bytes]:
        return {
            str(path.relative_to(self.folder)): path.read_bytes() for path in self.folder.rglob("*") if path.is_file()
        }


def sets(options: Mapping[str, Any]) -> list[str]:
    return [f"--set={name}={value}" for name, value in options.items()]
