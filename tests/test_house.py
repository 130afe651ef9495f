"""The house rules a program can hold: sizes, shallow classes, imports without effect, a driver that is blind."""

import ast
import pkgutil
import re
import subprocess
import sys
import tomllib
from abc import abstractmethod
from collections.abc import Callable, Iterable, Iterator
from functools import cache
from importlib import import_module
from pathlib import Path
from statistics import median
from typing import Protocol

import pytest

import uptake

SOURCE = Path(uptake.__file__).parent
EXCEPTIONS = tomllib.loads(Path(__file__).with_name("budget_exceptions.toml").read_text())
METHODS = sorted(path.stem for path in (SOURCE / "methods").glob("[!_]*.py"))

# Modules that run every method and know none by name.
BLIND = ("train/", "objective/", "recipe.py", "update/")

# Words that would name anything: a name says what the thing is. A verb that says what a function does may stay.
VAGUE = {"said", "place", "kept", "asked", "own"}
VERBS = {"place_labels", "place_rewards"}

Sources = dict[str, str]  # a path below src/uptake -> its text
Breaches = Iterator[tuple[str, object]]  # where a rule is broken, and what was found there


def test_functions_fit_on_a_screen() -> None:
    hold("function-lines", long_functions(sources()))


def test_the_usual_function_is_short() -> None:
    hold("median-function-lines", long_medians(sources()))


def test_files_are_short() -> None:
    hold("file-lines", long_files(sources()))


def test_few_parameters_are_positional() -> None:
    hold("positional-parameters", many_positionals(sources()))


def test_a_public_type_has_a_name_of_its_own() -> None:
    hold("type-names", repeated_types(sources()))


def test_a_public_docstring_begins_with_its_noun() -> None:
    hold("docstrings", riddles(sources()))


def test_no_name_is_a_word_for_anything() -> None:
    hold("vague-names", vague_names(sources()))


def test_annotations_are_not_postponed() -> None:
    hold("postponed-annotations", postponed_annotations(sources()))


def test_text_is_utf8_whatever_the_locale() -> None:
    hold("encodings", unsaid(sources(), r".*\.(read|write)_text", "encoding"))


def test_code_of_model_folders_is_never_run() -> None:
    hold("remote-code", unsaid(sources(), r"[Aa]uto\w*\.from_(pretrained|config)", "trust_remote_code"))


def test_inheritance_is_shallow() -> None:
    hold("inheritance-levels", deep_classes(classes()))


def test_nothing_implemented_is_overridden() -> None:
    hold("overridden", overridden(classes()))


def test_the_driver_knows_no_method_by_name() -> None:
    driver = {path: text for path, text in sources().items() if path.startswith(BLIND)}
    hold("method-names", named_methods(driver, METHODS))


def test_importing_starts_nothing_heavy(tmp_path: Path) -> None:
    run_python(
        tmp_path, "import sys, uptake, uptake.types, uptake.errors, uptake.town; assert 'torch' not in sys.modules"
    )


def test_importing_changes_nothing(tmp_path: Path) -> None:
    run_python(tmp_path, PROBE.format(modules=", ".join(module_names())))


PROBE = """
import logging, os, random, sys, threading, warnings
import datasets, matplotlib.pyplot, numpy, peft, pydantic, rich.progress, torch, transformers, typer

def state():
    return dict(
        threads=(torch.get_num_threads(), torch.get_num_interop_threads(), threading.active_count()),
        defaults=(torch.get_default_dtype(), torch.get_default_device(), torch.are_deterministic_algorithms_enabled()),
        randomness=(random.getstate(), str(numpy.random.get_state()), torch.get_rng_state().tolist()),
        process=(dict(os.environ), os.getcwd(), os.listdir(), sys.path[:], sys.excepthook),
        messages=(warnings.filters[:], logging.root.handlers[:], logging.root.level),
        style=dict(matplotlib.rcParams),
    )

before = state()
import {modules}
after = state()
changed = [name for name in before if before[name] != after[name]]
assert not changed, changed
"""

PAIR = "class Pair: ..."
LONG = "def f():\n" + "    pass\n" * 60


class Base(Protocol):
    @abstractmethod
    def planned(self) -> int: ...


class Child(Base):
    def planned(self) -> int:
        return 1


class Grandchild(Child):
    def planned(self) -> int:
        return 2


class GreatGrandchild(Grandchild): ...


@pytest.mark.parametrize(
    ("check", "bad", "good"),
    [
        (lambda text: long_functions({"a.py": text}), LONG, LONG.removesuffix("    pass\n")),
        (lambda text: long_medians({"room/a.py": text}), "def f():\n" + "    pass\n" * 12, "def f():\n    pass\n"),
        (lambda text: long_files({"a.py": text}), "\n" * 401, "\n" * 400),
        (lambda text: long_files({"methods/a.py": text}), "\n" * 121, "\n" * 120),
        (lambda text: many_positionals({"a.py": text}), "def f(a, b, c, d, e, f, g): ...", "def f(a, *, b, c): ..."),
        (
            lambda text: repeated_types({"a.py": text, "b.py": "class Pair: ..."}),
            "Pair = tuple[int]",
            "class Edit: ...",
        ),
        (lambda text: riddles({"a.py": text}), '"""What a token is paid."""', '"""Shaped reward of a token."""'),
        (lambda text: vague_names({"a.py": text}), "for place in range(3): ...", '"of no place"'),
        (lambda text: vague_names({"a.py": text}), "def f(*, own): ...", "def f(*, owner): ..."),
        (lambda text: vague_names({"a.py": text}), "class _SaidNext: ...", "def place_labels(): ..."),
        (lambda text: vague_names({"a.py": text}), "self.kept = 1", "import keeper as keeps"),
        (lambda text: vague_names({"a.py": text}), "f(asked=1)", "f('asked')"),
        (
            lambda text: unsaid({"a.py": text}, r".*\.read_text", "encoding"),
            "Path('a').read_text()",
            "f(path.read_text(encoding='utf-8'))",
        ),
        (lambda text: postponed_annotations({"a.py": text}), "from __future__ import annotations", "import ast"),
        (lambda text: named_methods({"a.py": text}, ["dpo"]), "if method == 'dpo': ...", '"""Runs DPO."""'),
        (lambda text: named_methods({"a.py": text}, ["dpo"]), "from methods import DPO_loss", "endpoint = 1"),
        (lambda item: deep_classes([item]), GreatGrandchild, Grandchild),
        (lambda item: overridden([item]), Grandchild, Child),
    ],
)
def test_every_check_sees_a_breach(check: Callable[[object], Breaches], bad: object, good: object) -> None:
    assert list(check(bad))
    assert not list(check(good))


def hold(rule: str, breaches: Breaches) -> None:
    """Fail with every breach that has no exception, and with every exception that nothing needs."""
    found, excused = dict(breaches), EXCEPTIONS.get(rule, {})
    assert {where: what for where, what in found.items() if where not in excused} == {}
    assert {where: why for where, why in excused.items() if where not in found or not why.strip()} == {}


# The text of the whole package is looked through by many checks; its trees are let go with the last of them.
parsed = cache(ast.parse)


@pytest.fixture(scope="module", autouse=True)
def _let_go() -> Iterator[None]:
    yield
    parsed.cache_clear()


def sources() -> Sources:
    return {path.relative_to(SOURCE).as_posix(): path.read_text() for path in sorted(SOURCE.rglob("*.py"))}


def module_names() -> list[str]:
    return [module.name for module in pkgutil.walk_packages(uptake.__path__, "uptake.")]


def classes() -> Iterator[type]:
    for name in module_names():
        for item in vars(import_module(name)).values():
            if isinstance(item, type) and item.__module__ == name:
                yield item


def run_python(folder: Path, code: str) -> None:
    """Run code in a folder that no other test writes to."""
    done = subprocess.run([sys.executable, "-c", code], cwd=folder, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def functions(node: ast.AST, prefix: str = "") -> Iterator[tuple[str, ast.FunctionDef | ast.AsyncFunctionDef]]:
    """Every function below a node, with its dotted name."""
    for child in ast.iter_child_nodes(node):
        name = f"{prefix}.{child.name}".strip(".") if isinstance(child, NAMED) else prefix
        if isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef):
            yield name, child
        yield from functions(child, name)


NAMED = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)


def length(function: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    return (function.end_lineno or function.lineno) - function.lineno + 1


def long_functions(files: Sources, budget: int = 60) -> Breaches:
    for path, text in files.items():
        for name, function in functions(parsed(text)):
            if length(function) > budget:
                yield f"{path}:{name}", length(function)


def long_medians(files: Sources, budget: int = 12) -> Breaches:
    lengths: dict[str, list[int]] = {}
    for path, text in files.items():
        room = path.rpartition("/")[0] or "the top"
        lengths.setdefault(room, []).extend(length(function) for _, function in functions(parsed(text)))
    for room, found in lengths.items():
        if found and median(found) > budget:
            yield room, median(found)


def long_files(files: Sources, budget: int = 400, method_budget: int = 120) -> Breaches:
    for path, text in files.items():
        lines = len(text.splitlines())
        if lines > (method_budget if path.startswith("methods/") else budget):
            yield path, lines


def many_positionals(files: Sources, budget: int = 6) -> Breaches:
    for path, text in files.items():
        for name, function in functions(parsed(text)):
            given = [arg.arg for arg in (*function.args.posonlyargs, *function.args.args)]
            if len(given) - (given[:1] in (["self"], ["cls"])) > budget:
                yield f"{path}:{name}", given


def repeated_types(files: Sources) -> Breaches:
    """Public classes and type aliases that stand in more than one file; every method has a `Config`."""
    homes: dict[str, list[str]] = {}
    for path, text in files.items():
        for node in parsed(text).body:
            aliases = node.targets if isinstance(node, ast.Assign) else ()
            aliased = [each.id for each in aliases if isinstance(each, ast.Name)]
            names = [node.name] if isinstance(node, ast.ClassDef) else aliased
            for name in names:
                if name[0].isupper() and not name.isupper() and name != "Config":
                    homes.setdefault(name, []).append(path)
    yield from ((name, paths) for name, paths in homes.items() if len(paths) > 1)


def riddles(files: Sources) -> Breaches:
    """Docstrings of modules and public types that begin with a question, not with what a stranger would look for."""
    for path, text in files.items():
        tree = parsed(text)
        types = (node for node in tree.body if isinstance(node, ast.ClassDef) and not node.name.startswith("_"))
        for node in (tree, *types):
            first = (ast.get_docstring(node) or "").partition("\n")[0]
            if re.match(r"(What|How|Which|Who|Where|When|Why|Something|Everything|All|No)\b", first):
                yield f"{path}:{getattr(node, 'name', '')}", first


def vague_names(files: Sources) -> Breaches:
    for path, text in files.items():
        for name in identifiers(parsed(text)):
            parts = {part.lower() for part in re.split(r"_+|(?<=[a-z])(?=[A-Z])", name)}
            if name not in VERBS and parts & VAGUE:
                yield f"{path}:{name}", parts & VAGUE


def unsaid(files: Sources, function: str, keyword: str) -> Breaches:
    """Calls of functions, by a pattern of their names, without a keyword that must not be left to a default."""
    for path, text in files.items():
        for node in ast.walk(parsed(text)):
            if not isinstance(node, ast.Call) or keyword in [each.arg for each in node.keywords]:
                continue
            if re.fullmatch(function, ast.unparse(node.func), re.DOTALL):
                yield f"{path}:{node.lineno}", ast.unparse(node)


def postponed_annotations(files: Sources) -> Breaches:
    for path, text in files.items():
        if re.search(r"^from __future__ import .*annotations", text, re.MULTILINE):
            yield path, "from __future__ import annotations"


def named_methods(files: Sources, methods: Iterable[str]) -> Breaches:
    pattern = re.compile(rf"(?<![a-z0-9])({'|'.join(methods)})(?![a-z0-9])")
    for path, text in files.items():
        for word in words(parsed(text)):
            if pattern.search(word.lower()):
                yield path, word


def identifiers(tree: ast.AST) -> Iterator[str]:
    """Every name, parameter, attribute, keyword and definition; of imports, what they bring in."""
    for node in ast.walk(tree):
        for field in ("id", "arg", "attr", "name", "asname"):
            if isinstance(name := getattr(node, field, None), str):
                yield name


def words(tree: ast.AST) -> Iterator[str]:
    """Every identifier and every string but docstrings."""
    prose = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
    for node in ast.walk(tree):
        if id(node) not in prose:
            yield from (text for _, text in ast.iter_fields(node) if isinstance(text, str))


def ours(classes: Iterable[type]) -> list[type]:
    return [each for each in classes if each.__module__.startswith(("uptake.", __name__))]


def levels(item: type) -> int:
    return max((1 + levels(base) for base in ours(item.__bases__)), default=0)


def deep_classes(items: Iterable[type], budget: int = 2) -> Breaches:
    for item in items:
        if levels(item) > budget:
            yield f"{item.__module__}:{item.__qualname__}", levels(item)


def overridden(items: Iterable[type]) -> Breaches:
    """Methods that replace a base's implementation; what the language itself calls (`__init__`) may be replaced."""
    for item in items:
        for base in ours(item.__mro__[1:]):
            for name in implemented(base) & vars(item).keys():
                yield f"{item.__module__}:{item.__qualname__}.{name}", f"is implemented in {base.__qualname__}"


def implemented(item: type) -> set[str]:
    methods = {name: value for name, value in vars(item).items() if callable(value) or isinstance(value, property)}
    plain = (name for name, value in methods.items() if not getattr(value, "__isabstractmethod__", False))
    is_protocol = getattr(item, "_is_protocol", False)
    return set() if is_protocol else {name for name in plain if name == "__call__" or not name.startswith("__")}
