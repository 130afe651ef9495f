"""What the README and the pages in docs show is run as shown.

Python blocks of a page run one after another in one namespace; of console blocks the lines that start with `$ ` run in
a shell, but calls of `uptake` in a process that has imported everything; all of it in an empty folder with a copy of
examples/. A block stays out with a reason: `<!-- not run: it takes an hour -->` on the line above it, or `not run: it
takes an hour` after its language.
"""

import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
from tiny import command_line, in_process, written

ROOT = Path(__file__).parent.parent
PAGES = [ROOT / "README.md", *sorted(ROOT.glob("docs/**/*.md"))]
FENCE = re.compile(r"^```(python|console|bash)\b([^\n]*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
CALL = re.compile(r"uptake ([^|&;<>$`*?()]*?)(?: > (\S+))?")
EXCUSE = re.compile(r"not run: .+ -->\s*\Z")


@dataclass(frozen=True)
class Block:
    """A fenced block: `Block("console", "$ uptake methods", 12)`; its text starts on the given line of the page."""

    language: str
    text: str
    line: int


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_every_block_runs(page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found = list(blocks(page.read_text()))
    if not found:
        pytest.skip("shows no code")
    shutil.copytree(ROOT / "examples", tmp_path / "examples")
    monkeypatch.chdir(tmp_path)
    namespace: dict[str, Any] = {"__name__": "__main__"}
    for block in found:
        run(block, page, namespace)


def blocks(text: str) -> Iterator[Block]:
    """The blocks of a page that are to be run."""
    for match in FENCE.finditer(text):
        language, info, code = match.groups()
        if "not run: " not in info and not EXCUSE.search(text, 0, match.start()):
            yield Block(language, code, text.count("\n", 0, match.start(3)) + 1)


def run(block: Block, page: Path, namespace: dict[str, Any]) -> None:
    if block.language == "python":
        exec(compile("\n" * (block.line - 1) + block.text, page, "exec"), namespace)
        return
    lines = block.text.replace("\\\n", "").splitlines()
    commands = [line.removeprefix("$ ") for line in lines if line.startswith("$ ")]
    assert commands, f"{page.name}:{block.line}: no line starts with `$ `"
    for calls, group in groupby(commands, lambda command: CALL.fullmatch(command) is not None):
        for code, said in map(call, group) if calls else [shell(group)]:
            assert code == 0, f"{page.name}:{block.line}: exit code {code}\n{said}"


def shell(commands: Iterable[str]) -> tuple[int, str]:
    """Exit code and output of commands in a shell that ends with the first to fail."""
    path = os.pathsep.join((str(Path(sys.executable).parent), os.environ["PATH"]))
    done = subprocess.run(
        ["sh", "-ec", "\n".join(commands)],
        env=os.environ | {"PATH": path},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    return done.returncode, done.stdout


def call(command: str) -> tuple[int, str]:
    """Exit code and output of a call of `uptake`, whose output may go to a file."""
    found = CALL.fullmatch(command)
    assert found is not None
    with TemporaryDirectory() as folder:
        code = in_process(written, Path(folder), command_line, shlex.split(found[1]))
        out, error = (Path(folder, name).read_text() for name in ("out.txt", "error.txt"))
    if found[2]:
        Path(found[2]).write_text(out)
    return code, out + error


PAGE = """
```python
a = 1
```
<!-- not run: it installs -->
```console
$ pip
```
```bash not run: it installs
$ pip
```

```bash
$ true \\
  && true
```
```text
x
```
"""


def test_blocks_are_found_and_excused() -> None:
    assert list(blocks(PAGE)) == [Block("python", "a = 1\n", 3), Block("bash", "$ true \\\n  && true\n", 14)]


def test_a_broken_block_fails_at_its_line() -> None:
    page = Path("page.md")
    with pytest.raises(ZeroDivisionError) as caught:
        run(Block("python", "1 / 0\n", 7), page, {})
    assert f"{caught.traceback[-1].path}:{caught.traceback[-1].lineno + 1}" == "page.md:7"
    with pytest.raises(AssertionError, match=r"page\.md:3: exit code 1"):
        run(Block("console", "$ true \\\n && false\n$ true\n", 3), page, {})
    with pytest.raises(AssertionError, match=r"page\.md:3: exit code 2\n.*error: .*no method 'nonsense'"):
        run(Block("console", "$ uptake methods show nonsense\n", 3), page, {})
    with pytest.raises(AssertionError, match="no line starts with"):
        run(Block("bash", "make demo\n", 3), page, {})
