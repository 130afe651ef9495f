"""Results on disk, one file for every arm, choice of options and seed, and what they depend on.

A file's name is a digest of what was asked for; in it stands by which version it was answered. A result of another
version is not used: it is made anew by whoever makes results, and named by whoever only reads them.
"""

import ast
import json
import os
import sys
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from functools import cache
from hashlib import sha256
from importlib import import_module
from pathlib import Path

from _harness import environment

import uptake
from claims.claim import Arm, Measured, Options, Questions
from uptake.data.write import replacing

# Rooms whose code changes no result: what people see, and what comes from elsewhere.
UNSEEN = ("cli", "report", "client", "datasets", "tasks")
# Tasks that arms use.
TASKS = ("demo", "calibrate")
# What arms do, each in a module of its own that counts for its results only; and what all of them share.
WORK = "claims.work."
SHARED = WORK + "town"
# What a result depends on besides the code.
NAMED = ("cpu", "python", "torch", "transformers", "uptake")


@dataclass(frozen=True)
class Job:
    """One result to make: an arm with one of its candidates, a seed, and the questions it is asked."""

    arm: Arm
    candidate: Options
    seed: int
    questions: Questions

    @property
    def version(self) -> Mapping[str, str]:
        """What the result depends on besides what is asked for."""
        return version(self.arm.work.__module__)

    @property
    def digest(self) -> str:
        """A short text that names what is asked for."""
        work = f"{self.arm.work.__module__}.{self.arm.work.__qualname__}"
        wanted = [work, {**self.arm.options, **self.candidate}, self.seed, self.questions]
        return sha256(json.dumps(wanted, sort_keys=True).encode()).hexdigest()[:16]


@cache
def version(work: str = SHARED) -> Mapping[str, str]:
    """What results by a module of `claims.work` depend on here: packages, processor, code, text of the town."""
    here, source = environment(), Path(uptake.__file__).parent
    rooms = [path for path in source.iterdir() if path.name not in (*UNSEEN, "town")]
    tasks = [source / "tasks" / f"{name}.py" for name in TASKS]
    return {
        **{name: here[name] for name in NAMED},
        "town": content(source / "town"),
        "code": content(*rooms, *tasks, *modules(work), Path(__file__).parents[1] / "_tokens.py"),
    }


def modules(name: str) -> set[Path]:
    """The files of a module and of those of `claims.work` that it imports, by however many steps."""
    found: set[Path] = set()
    names = [name]
    while names:
        module = sys.modules.get(name := names.pop()) or import_module(name)
        path = Path(str(module.__file__))
        if path not in found:
            found.add(path)
            imports = [
                node.module for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.ImportFrom)
            ]
            names += [each for each in imports if each and each.startswith(WORK)]
    return found


def content(*roots: Path) -> str:
    """A digest of files and folders in which comments, layout and docstrings of Python files do not count."""
    seen = sha256()
    for root in sorted(roots):
        for path in sorted(root.rglob("*")) if root.is_dir() else [root]:
            if path.suffix in (".py", ".yaml"):
                text = path.read_text()
                seen.update(f"{path.name}\n{_meaning(text) if path.suffix == '.py' else text}\n".encode())
    return seen.hexdigest()[:12]


def _meaning(text: str) -> str:
    tree = ast.parse(text)
    for node in ast.walk(tree):
        body = getattr(node, "body", None)
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef) and isinstance(body, list):
            node.body = [each for each in body if not _is_text(each)]
    return ast.dump(tree)


def _is_text(node: ast.AST) -> bool:
    return isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str)


@dataclass(frozen=True)
class Store:
    """Folder of results."""

    folder: Path

    def workspace(self, job: Job) -> Path:
        """A folder for the work of a job by this version, which goes on there after it was killed."""
        by = sha256(json.dumps(job.version).encode()).hexdigest()[:8]
        return self.folder / "work" / f"{job.digest}-{by}"

    def read(self, job: Job) -> tuple[Measured | None, str]:
        """The result of a job, or None and why there is none."""
        path = self._path(job)
        if not path.exists():
            return None, f"no result of {job.arm.name!r} for seed {job.seed}"
        found = json.loads(path.read_text())
        if found["version"] != job.version:
            names = [name for name, now in job.version.items() if found["version"].get(name) != now]
            return None, f"the result of {job.arm.name!r} for seed {job.seed} is of another version: {', '.join(names)}"
        return Measured(found["values"], found["budget"], found["failed"]), ""

    def write(self, job: Job, measured: Measured) -> None:
        """Keep the result of a job, whole or not at all."""
        facts = {"arm": job.arm.name, "options": {**job.arm.options, **job.candidate}, "seed": job.seed}
        with replacing(self._path(job), overwrite=True) as partial:
            partial.write_text(json.dumps({**facts, "version": job.version, **asdict(measured)}))

    def _path(self, job: Job) -> Path:
        return self.folder / f"{job.digest}.json"


def folder() -> Path:
    """Where results are: `CLAIMS` of the environment, or under `runs`."""
    return Path(os.environ.get("CLAIMS", "runs/claims"))
