"""Method files: what a method is called and says of itself, read without running it, and its module from a path."""

import ast
import sys
from collections.abc import Iterable
from dataclasses import dataclass
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from types import ModuleType

from uptake.errors import InputError


@dataclass(frozen=True)
class Method:
    """A method as its file describes it, read without running it: `Method("dpo", Path("dpo.py"), ...)`."""

    name: str
    path: Path
    module: str | None
    aliases: tuple[str, ...]
    doc: str

    @property
    def summary(self) -> str:
        """The first line of the docstring."""
        return self.doc.split("\n", 1)[0]


def read_method(path: Path, module: str | None = None) -> Method:
    """The method in a file; raises InputError for one that does not parse, or lacks `Config` or `build`."""
    try:
        tree = ast.parse(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"no method could be read: {error}", path=path, allowed="a Python file") from error
    except SyntaxError as error:
        raise InputError(f"does not parse: {error.msg}", path=path, line=error.lineno) from error
    except (ValueError, MemoryError, RecursionError) as error:  # a null byte, or a program that nests without end
        raise InputError(f"does not parse: {error}", path=path) from error
    held = {
        name
        for node in tree.body
        for name in ([node.name] if isinstance(node, ast.ClassDef | ast.FunctionDef) else _assigned(node))
    }
    if missing := [name for name in ("Config", "build") if name not in held]:
        raise InputError(f"no method: {missing[0]} is missing", path=path, allowed="Config and build(config) -> Recipe")
    aliases = next(
        (node.value for node in tree.body if isinstance(node, ast.Assign) and "ALIASES" in _assigned(node)), None
    )
    return Method(path.stem.replace("-", "_"), path, module, _texts_of(aliases, path), ast.get_docstring(tree) or "")


def _texts_of(aliases: ast.expr | None, path: Path) -> tuple[str, ...]:
    try:
        known = () if aliases is None else ast.literal_eval(aliases)
    except (ValueError, TypeError, SyntaxError, MemoryError, RecursionError):
        known = None
    if not isinstance(known, tuple | list) or not all(isinstance(each, str) for each in known):
        raise InputError("no names", path=path, field="ALIASES", allowed='a tuple of texts: ("best",)')
    return tuple(known)


def refuse_taken(method: Method, known: Iterable[Method]) -> None:
    taken = {alias for each in known for alias in (each.name, *each.aliases)}
    if again := taken & {method.name, *method.aliases}:
        raise InputError(f"the name {min(again)!r} is taken", path=method.path, allowed="a file of another name")


def load_file(method: Method) -> ModuleType:
    """The module of a method's file, run once in a process."""
    name = f"uptake_method_{method.name}"
    if name in sys.modules and sys.modules[name].__file__ == str(method.path):
        return sys.modules[name]
    spec = spec_from_file_location(name, method.path)
    if spec is None or spec.loader is None:
        raise InputError("no method could be read", path=method.path, allowed="a Python file")
    module = module_from_spec(spec)
    # Dataclasses and pydantic look their own module up while it runs.
    sys.modules[name] = module
    try:
        spec.loader.exec_module(module)
    except Exception as error:
        del sys.modules[name]
        raise InputError(f"the method's file fails: {type(error).__name__}: {error}", path=method.path) from error
    return module


def _assigned(node: ast.stmt) -> list[str]:
    targets = node.targets if isinstance(node, ast.Assign) else ()
    return [target.id for target in targets if isinstance(target, ast.Name)]
