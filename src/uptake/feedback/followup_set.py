"""Follow-up sets: what a satisfied and a dissatisfied user would say next, by category, as data."""

import hashlib
import json
import unicodedata
import warnings
from dataclasses import asdict, dataclass
from math import inf
from pathlib import Path
from typing import Annotated, Any, NamedTuple, Self

import yaml
from pydantic import BaseModel, ConfigDict, StringConstraints, ValidationError

from uptake.errors import InputError

DEFAULT = Path(__file__).with_name("default-en.yaml")
ASCII_QUOTES = str.maketrans(
    dict.fromkeys("\u2018\u2019\u201a\u201b\u02bc", "'") | dict.fromkeys("\u201c\u201d\u201e\u201f", '"')
)


class Columns(NamedTuple):
    """Where a category's follow-ups stand among all follow-ups of their set."""

    positive: slice
    negative: slice


@dataclass(frozen=True, slots=True)
class Category:
    """Follow-ups about one quality: `Category("correctness", 1.0, ("I checked it and it holds.",), ())`."""

    name: str
    weight: float
    positive: tuple[str, ...]
    negative: tuple[str, ...]

    def __post_init__(self) -> None:
        if not (self.positive or self.negative):
            raise InputError("no follow-ups", field=f"categories.{self.name}", allowed="at least one")
        if not 0 <= self.weight < inf:
            raise InputError(f"{self.weight}", field=f"categories.{self.name}.weight", allowed="a number from 0 up")


@dataclass(frozen=True, slots=True)
class FollowUpSet:
    """Categories of follow-ups; their order is that of the columns of a table of log-probabilities."""

    name: str
    version: int
    language: str
    categories: tuple[Category, ...]

    def __post_init__(self) -> None:
        if not any(category.weight for category in self.categories):
            raise InputError("nothing to score by", field="categories", allowed="at least one of weight above 0")

    @classmethod
    def load(cls, path: str | Path | None = None, strict: bool = False) -> Self:
        """Read a set from a `.yaml`, `.yml` or `.json` file; without a path, Uptake's own English set.

        Blanks around a follow-up are removed. Curly quotes become straight ones, and a follow-up that repeats an
        earlier one of the set, but for case and punctuation, is removed: both with a warning and a count, or an
        `InputError` where `strict`. Raises `InputError`, naming file and key, for whatever else is not in the format.
        """
        path = DEFAULT if path is None else Path(path)
        file = _validated(path)
        try:
            return cls(file.name, file.version, file.language, _cleaned(file, path, strict))
        except InputError as error:
            raise InputError(error.problem, path=path, field=error.field, allowed=error.allowed) from None

    @property
    def sentences(self) -> tuple[str, ...]:
        """All follow-ups in column order: category by category, positives before negatives."""
        return tuple(text for category in self.categories for text in (*category.positive, *category.negative))

    @property
    def columns(self) -> tuple[Columns, ...]:
        """The columns of every category, in the order of `categories`."""
        result, start = [], 0
        for category in self.categories:
            middle = start + len(category.positive)
            end = middle + len(category.negative)
            result.append(Columns(slice(start, middle), slice(middle, end)))
            start = end
        return tuple(result)

    @property
    def fingerprint(self) -> str:
        """First 16 hex digits of the SHA-256 of the content, whatever format it was read from."""
        return hashlib.sha256(json.dumps(asdict(self), ensure_ascii=False).encode()).hexdigest()[:16]


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)


class _CategoryFile(_Strict):
    weight: float = 1.0
    positive: list[Annotated[str, StringConstraints(strip_whitespace=True, min_length=1)]] = []
    negative: list[Annotated[str, StringConstraints(strip_whitespace=True, min_length=1)]] = []


class _File(_Strict):
    name: str
    version: int
    language: str
    categories: dict[str, _CategoryFile]


class _Loader(yaml.SafeLoader):
    """YAML that refuses a key written twice, where YAML itself would silently drop the first."""


_Loader.add_constructor("tag:yaml.org,2002:map", lambda loader, node: _record(loader.construct_pairs(node, deep=True)))


def _record(pairs: list[tuple[Any, Any]]) -> dict[str, Any]:
    keys = [str(key) for key, _ in pairs]
    repeated = sorted({key for key in keys if keys.count(key) > 1})
    if repeated:
        raise ValueError(f"keys written twice: {', '.join(repeated)}")
    return dict(zip(keys, (value for _, value in pairs), strict=True))


def _parsed(path: Path) -> Any:
    if path.suffix not in (".yaml", ".yml", ".json"):
        raise InputError(f"a follow-up set in {path.suffix!r}", path=path, allowed=".yaml, .yml, .json")
    try:
        text = path.read_text(encoding="utf-8")
        if path.suffix == ".json":
            return json.loads(text, object_pairs_hook=_record)
        return yaml.load(text, _Loader)
    except OSError as error:
        raise InputError(f"cannot be read: {error.strerror}", path=path) from error
    except (ValueError, yaml.YAMLError) as error:
        raise InputError(f"cannot be parsed: {error}", path=path) from error


def _validated(path: Path) -> _File:
    try:
        return _File.model_validate(_parsed(path))
    except ValidationError as error:
        first = error.errors()[0]
        place = first["loc"]
        if first["type"] != "extra_forbidden":
            raise InputError(first["msg"], path=path, field=".".join(map(str, place))) from error
        known = _File if len(place) == 1 else _CategoryFile
        allowed = ", ".join(known.model_fields)
        raise InputError("unknown key", path=path, field=".".join(map(str, place)), allowed=allowed) from error


def _cleaned(file: _File, path: Path, strict: bool) -> tuple[Category, ...]:
    entries = [
        (name, positive, text)
        for name, category in file.categories.items()
        for positive, texts in ((True, category.positive), (False, category.negative))
        for text in texts
    ]
    straight = [(name, positive, text.translate(ASCII_QUOTES)) for name, positive, text in entries]
    first: dict[str, tuple[str, bool, str]] = {}
    for entry in straight:
        first.setdefault(_letters(entry[2]), entry)
    curly = sum(before != after for before, after in zip(entries, straight, strict=True))
    _complain(path, strict, curly, "follow-ups with curly quotes", "made straight")
    _complain(path, strict, len(straight) - len(first), "follow-ups that repeat an earlier one", "removed")
    return tuple(
        Category(
            name,
            category.weight,
            tuple(text for owner, positive, text in first.values() if owner == name and positive),
            tuple(text for owner, positive, text in first.values() if owner == name and not positive),
        )
        for name, category in file.categories.items()
    )


def _letters(text: str) -> str:
    """`text` without case, punctuation and repeated blanks."""
    plain = "".join(letter for letter in text.casefold() if not unicodedata.category(letter).startswith("P"))
    return " ".join(plain.split())


def _complain(path: Path, strict: bool, count: int, problem: str, remedy: str) -> None:
    if count and strict:
        raise InputError(f"{count} {problem}", path=path, allowed="none in a strict load")
    if count:
        warnings.warn(f"{path}: {count} {problem}, {remedy}", stacklevel=4)
