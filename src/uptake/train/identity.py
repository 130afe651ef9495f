"""Identity of a run: its recipe, seed, models and rows, by content and not by name.

A folder that was moved, or is spelled otherwise, holds the same model, and a column that nothing uses makes no other
rows; other weights under the same name are another model.
"""

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Any

import yaml

from uptake.data.read import EVERY_COLUMN, fingerprint
from uptake.errors import InputError
from uptake.recipe import Recipe
from uptake.rewards.base import Resources
from uptake.rewards.fingerprint import model_fingerprint
from uptake.support.texts import json_file, yaml_of
from uptake.world import World

_ALLOWED = "what the run was started with, or another folder; delete this one to start anew"


def identity(recipe: Recipe, world: World) -> dict[str, Any]:
    """What a run is compared by when it is resumed, beside its recipe, as run.json keeps it; names are for people."""
    models = {"policy": world.policy, **world.models}
    weights = {id(lm.model): model_fingerprint(lm.model) for lm in models.values()}
    rows = fingerprint(world.rows)
    return {
        "seed": world.seed,
        "models": {name: lm.name for name, lm in models.items()},
        "weights": {name: weights[id(lm.model)] for name, lm in models.items()},
        "precision": {name: str(lm.compute_dtype).removeprefix("torch.") for name, lm in models.items()},
        "chat": world.chat.fingerprint,
        "contents": _contents(recipe, Resources.of(world)),
        "rows": {"count": len(world.rows), "fingerprint": rows.rows, "columns": rows.columns},
    }


def check_same(folder: Path, recipe: Recipe, world: World) -> None:
    """Raise InputError, saying what has changed, where the run in a folder is not the one of this recipe and world."""
    file, now = folder / "run.json", identity(recipe, world)
    then = _written(file)
    _check_recipe(folder / "recipe.yaml", recipe, list(now["contents"]))
    for problem, field in _changes(then, now, _columns(recipe)):
        raise InputError(problem, path=file, field=field, allowed=_ALLOWED)


def _written(file: Path) -> dict[str, Any]:
    try:
        found = json_file(file)
    except (OSError, ValueError) as error:
        raise InputError(f"cannot be read: {error}", path=file, allowed=_ALLOWED) from error
    tables = ("models", "weights", "precision", "contents", "rows")
    if not isinstance(found, dict) or not all(isinstance(found.get(name) or {}, dict) for name in tables):
        raise InputError("holds no facts of a run", path=file, allowed=_ALLOWED)
    return found


def _changes(then: Mapping[str, Any], now: Mapping[str, Any], used: Sequence[str]) -> Iterator[tuple[str, str]]:
    """What is not as it was, with its name in run.json."""
    if then.get("seed") != now["seed"]:
        yield f"the run was started with another seed: {then.get('seed')} there, {now['seed']} now", "seed"
    names, weights = (then.get(name) or {} for name in ("models", "weights"))
    for name, found in now["weights"].items():
        if weights.get(name) != found:
            there = f"{names.get(name)}, {weights.get(name)}" if name in weights else "no such model"
            here = f"{now['models'][name]}, {found}"
            yield f"the run was started with other weights of the model {name!r}: {there} there, {here} now", "weights"
    if gone := sorted(weights.keys() - now["weights"].keys()):
        yield f"the run was started with a model {gone[0]!r}, {names.get(gone[0])}; there is none now", "models"
    for name, found in now["precision"].items():
        if (before := (then.get("precision") or {}).get(name)) != found:
            yield f"the run was started with {name!r} in another precision: {before} there, {found} now", "precision"
    if then.get("chat") != now["chat"]:
        yield "the run was started with another chat template or vocabulary of the policy", "chat"
    for setting, held in now["contents"].items():
        if (then.get("contents") or {}).get(setting) != held:
            yield f"what {setting} names has changed since the run was started", "contents"
    yield from ((problem, "rows") for problem in _other_rows(then.get("rows") or {}, now["rows"], used))


def _other_rows(then: Mapping[str, Any], now: Mapping[str, Any], used: Sequence[str]) -> Iterator[str]:
    if any(then.get(name) != now[name] for name in ("count", "fingerprint")):
        there, here = (f"{rows.get('count')} rows, {rows.get('fingerprint')}" for rows in (then, now))
        yield f"the run was started with other rows: {there} there, {here} now"
    columns = then.get("columns") or {}
    for name in {**columns, **now["columns"]}:
        if columns.get(name) != now["columns"].get(name) and {name, EVERY_COLUMN} & {*used}:
            yield f"the run was started with another column {name!r} of its rows"


def _check_recipe(file: Path, recipe: Recipe, settings: Sequence[str]) -> None:
    """Compare the recipe in a recipe.yaml with this one, leaving out `settings`, which name files."""
    try:
        _, _, written = f"\n{file.read_text(encoding='utf-8')}".partition("\nRecipe:")
        then, now = (
            yaml.safe_dump(_without(yaml_of(text), settings), sort_keys=False, allow_unicode=True)
            for text in (f"Recipe:{written}", str(recipe))
        )
    except (OSError, ValueError) as error:
        raise InputError(f"cannot be read: {error}", path=file, allowed=_ALLOWED) from error
    if then != now:
        problem = f"the run was started with another recipe: {_first_change(then, now)}"
        raise InputError(problem, path=file, allowed=_ALLOWED)


def _without(described: Any, settings: Sequence[str], kind: str = "") -> Any:
    """A described recipe without `settings`, each of them spelled "TypeName.name"."""
    if isinstance(described, Mapping):
        left = {name: each for name, each in described.items() if f"{kind}.{name}" not in settings}
        return {name: _without(each, settings, name) for name, each in left.items()}
    if isinstance(described, list):
        return [_without(each, settings) for each in described]
    return described


def _first_change(old: str, new: str) -> str:
    for line, other in zip(old.splitlines(), new.splitlines(), strict=False):
        if line != other:
            return f"{line.strip()!r} there, {other.strip()!r} now"
    return "one is longer than the other"


def _contents(recipe: Recipe, resources: Resources) -> dict[str, list[str]]:
    """Hashes of what the settings of a recipe name, in order, by setting: {"FollowUpSpec.followups": ["1f2e"]}."""
    found: dict[str, list[str]] = defaultdict(list)
    for part in parts(recipe):
        held: Mapping[str, str] = part.contents(resources) if hasattr(part, "contents") else {}
        for name, content in held.items():
            found[f"{type(part).__name__}.{name}"].append(content)
    return dict(found)


def _columns(recipe: Recipe) -> list[str]:
    """The columns that parts of a recipe use; a part of one's own may use any."""
    return [name for part in parts(recipe) for name in _columns_of(part)]


def _columns_of(part: Any) -> Sequence[str]:
    ours = is_dataclass(part) and type(part).__module__.startswith("uptake.")
    columns: Sequence[str] = getattr(part, "columns", ()) if ours else (EVERY_COLUMN,)
    return columns


def parts(part: Any) -> Iterator[Any]:
    """All parts of a part: records, and functions that one of them holds."""
    if isinstance(part, Mapping):
        part = list(part.values())
    if isinstance(part, list | tuple):
        for each in part:
            yield from parts(each)
    elif is_dataclass(part) and not isinstance(part, type):
        yield part
        for field in fields(part):
            yield from parts(getattr(part, field.name))
    elif callable(part):
        yield part
