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
from pydantic import BaseModel, ConfigDict, Field, PlainValidator, ValidationError, model_validator

from uptake.data.write import disk_errors, replacing
from uptake.errors import InputError
from uptake.support.texts import json_of, yaml_of

DEFAULT = "default-en"
# Sets that come with Uptake, by name.
PRESETS = {name: Path(__file__).with_name(f"{name}.yaml") for name in (DEFAULT, "short-en")}
FORMATS = (".yaml", ".yml", ".json")
ASCII_QUOTES = str.maketrans(
    dict.fromkeys("\u2018\u2019\u201a\u201b\u02bc", "'") | dict.fromkeys("\u201c\u201d\u201e\u201f", '"')
)


class Columns(NamedTuple):
    """Columns of a category's follow-ups among all follow-ups of their set."""

    positive: slice
    negative: slice


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, allow_inf_nan=False)


class Calibration(_Strict):
    """Calibration of rewards by a set, and what it was learned from: `Calibration(temperature=0.3, low=-1, high=2)`.

    Of two responses to one prompt, a is the better one with probability `sigma((R_a - R_b) / temperature)`. A response
    is good from the reward `high` up and bad from `low` down, each with `precision`. `source` is the fingerprint of
    the set that was calibrated, `model` that of the model; `weighting`, `pairs` and `seed` say how.
    """

    temperature: float | None = Field(None, gt=0)
    low: float | None = None
    high: float | None = None
    precision: float | None = None
    source: str = ""
    model: str = ""
    weighting: str = ""
    pairs: int = 0
    seed: int = 0

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.low is not None and self.high is not None and self.low >= self.high:
            raise ValueError(f"low is {self.low} and high is {self.high}, but no response is both good and bad")
        return self

    def label(self, reward: float) -> bool | None:
        """Whether a response of this reward is good; None in the band between, and where there is no threshold."""
        if self.high is not None and reward >= self.high:
            return True
        return False if self.low is not None and reward <= self.low else None


@dataclass(frozen=True, slots=True)
class Category:
    """Follow-ups about one quality: `Category("correctness", 1.0, ("I checked it and it holds.",), ())`.

    `weights` says how much each follow-up counts, positives first; without any, each counts 1.
    """

    name: str
    weight: float
    positive: tuple[str, ...]
    negative: tuple[str, ...]
    weights: tuple[float, ...] = ()

    def __post_init__(self) -> None:
        count = len(self.positive) + len(self.negative)
        if not count:
            raise InputError("no follow-ups", field=f"categories.{self.name}", allowed="at least one")
        if not 0 <= self.weight < inf:
            raise InputError(f"{self.weight}", field=f"categories.{self.name}.weight", allowed="a number from 0 up")
        if self.weights and (len(self.weights) != count or not all(0 <= weight < inf for weight in self.weights)):
            allowed = f"none, or {count} numbers from 0 up"
            raise InputError(f"{self.weights}", field=f"categories.{self.name}.weights", allowed=allowed)


@dataclass(frozen=True, slots=True)
class FollowUpSet:
    """Categories of follow-ups; their order is that of the columns of a table of log-probabilities."""

    name: str
    version: int
    language: str
    categories: tuple[Category, ...]
    calibration: Calibration | None = None

    def __post_init__(self) -> None:
        if not any(category.weight for category in self.categories):
            raise InputError("nothing to score by", field="categories", allowed="at least one of weight above 0")

    @classmethod
    def load(cls, path: str | Path | None = None, strict: bool = False) -> Self:
        """Read a set from a `.yaml`, `.yml` or `.json` file; without a path, Uptake's own English set.

        A name is enough for a set that comes with Uptake: "default-en", or "short-en", which has a fifth of its lines.
        Blanks around a follow-up are removed. Curly quotes become straight ones, and a follow-up that repeats an
        earlier one of the set, but for case and punctuation, is removed: both with a warning and a count, or an
        `InputError` where `strict`. Raises `InputError`, naming file and key, for whatever else is not in the format.
        """
        path = PRESETS.get(str(path or DEFAULT)) or Path(path or DEFAULT)
        file = _validated(path)
        try:
            return cls(file.name, file.version, file.language, _cleaned(file, path, strict), file.calibration)
        except InputError as error:
            raise InputError(error.problem, path=path, field=error.field, allowed=error.allowed) from None

    def save(self, path: str | Path, *, overwrite: bool = False) -> None:
        """Write the set as a file that `load` reads, whole or not at all; raises InputError where the file exists."""
        path = Path(path)
        _check_suffix(path)
        with replacing(path, overwrite=overwrite) as temporary, disk_errors(path):
            temporary.write_text(_spelled(self, path.suffix == ".json"), encoding="utf-8")

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
    def weights(self) -> tuple[float, ...]:
        """How much every follow-up counts, in column order; 1 where the file says nothing."""
        sizes = (len(category.positive) + len(category.negative) for category in self.categories)
        both = zip(self.categories, sizes, strict=True)
        return tuple(weight for category, size in both for weight in category.weights or (1.0,) * size)

    @property
    def fingerprint(self) -> str:
        """First 16 hex digits of the SHA-256 of what rewards depend on, whatever format it was read from."""
        content = asdict(self, dict_factory=_content)
        return hashlib.sha256(json.dumps(content, ensure_ascii=False).encode()).hexdigest()[:16]


def _content(fields: list[tuple[str, Any]]) -> dict[str, Any]:
    """What rewards depend on, of a set or a category: no calibration, and no weights where each is 1."""
    return {name: value for name, value in fields if name != "calibration" and (name != "weights" or value)}


class _FollowUp(NamedTuple):
    text: str
    weight: float


def _follow_up(given: Any) -> _FollowUp:
    """A follow-up of a file: its text, or text and weight."""
    match given:
        case str(text):
            weight: float = 1.0
        case {"text": str(text), "weight": int(weight) | float(weight)} if len(given) == 2 and weight is not True:
            pass
        case _:
            raise ValueError("a follow-up is a text, or {text: ..., weight: ...}")
    if not text.strip():
        raise ValueError("an empty follow-up")
    if not 0 <= weight < inf:
        raise ValueError(f"weight {weight}, allowed are numbers from 0 up")
    return _FollowUp(text.strip(), float(weight))


_FollowUps = list[Annotated[_FollowUp, PlainValidator(_follow_up)]]


class _CategoryFile(_Strict):
    weight: float = 1.0
    positive: _FollowUps = []
    negative: _FollowUps = []


class _File(_Strict):
    name: str
    version: int
    language: str
    categories: dict[str, _CategoryFile]
    calibration: Calibration | None = None


def _check_suffix(path: Path) -> None:
    if path.suffix not in FORMATS:
        raise InputError(f"a follow-up set in {path.suffix!r}", path=path, allowed=", ".join(FORMATS))


def _parsed(path: Path) -> Any:
    _check_suffix(path)
    try:
        text = path.read_text(encoding="utf-8")
        return json_of(text) if path.suffix == ".json" else yaml_of(text)
    except OSError as error:
        raise InputError(f"cannot be read: {error.strerror}", path=path) from error
    except ValueError as error:
        raise InputError(f"cannot be parsed: {error}", path=path) from error


def _validated(path: Path) -> _File:
    try:
        return _File.model_validate(_parsed(path))
    except ValidationError as error:
        first = error.errors()[0]
        keys = first["loc"]
        if not keys:
            allowed = f"the keys {', '.join(_File.model_fields)}"
            raise InputError("no follow-up set", path=path, allowed=allowed) from error
        if first["type"] != "extra_forbidden":
            raise InputError(first["msg"], path=path, field=".".join(map(str, keys))) from error
        known = _File if len(keys) == 1 else Calibration if keys[0] == "calibration" else _CategoryFile
        allowed = ", ".join(known.model_fields)
        raise InputError("unknown key", path=path, field=".".join(map(str, keys)), allowed=allowed) from error


def _cleaned(file: _File, path: Path, strict: bool) -> tuple[Category, ...]:
    entries = [
        (name, positive, one)
        for name, category in file.categories.items()
        for positive, side in ((True, category.positive), (False, category.negative))
        for one in side
    ]
    straight = [
        (name, positive, one._replace(text=one.text.translate(ASCII_QUOTES))) for name, positive, one in entries
    ]
    first: dict[str, tuple[str, bool, _FollowUp]] = {}
    for entry in straight:
        name, positive, one = entry
        if first.setdefault(letters(one.text), entry)[1] != positive:
            problem = f"{one.text!r} is positive in one place and negative in another"
            raise InputError(problem, path=path, field=f"categories.{name}", allowed="one side for each follow-up")
    curly = sum(before != after for before, after in zip(entries, straight, strict=True))
    _complain(path, strict, curly, "follow-ups with curly quotes", "made straight")
    _complain(path, strict, len(straight) - len(first), "follow-ups that repeat an earlier one", "removed")
    return tuple(
        _category(
            name,
            category.weight,
            *(
                [one for owner, side, one in first.values() if owner == name and side == wanted]
                for wanted in (True, False)
            ),
        )
        for name, category in file.categories.items()
    )


def _category(name: str, weight: float, positive: list[_FollowUp], negative: list[_FollowUp]) -> Category:
    approving, complaining = (tuple(one.text for one in side) for side in (positive, negative))
    weights = tuple(one.weight for one in (*positive, *negative))
    return Category(name, weight, approving, complaining, weights if any(each != 1 for each in weights) else ())


def _spelled(followups: FollowUpSet, as_json: bool) -> str:
    """The text of a set's file."""
    file = {
        "name": followups.name,
        "version": followups.version,
        "language": followups.language,
        "categories": {category.name: _sides(category) for category in followups.categories},
    }
    made = {} if followups.calibration is None else {"calibration": followups.calibration.model_dump()}
    if as_json:
        return json.dumps(file | made, ensure_ascii=False, indent=1) + "\n"
    # A follow-up and its weight on one line; what was learned, one setting a line.
    style: dict[str, Any] = {"sort_keys": False, "allow_unicode": True, "width": inf}
    text: str = yaml.safe_dump(file, default_flow_style=None, **style)
    return text + (yaml.safe_dump(made, **style) if made else "")


def _sides(category: Category) -> dict[str, Any]:
    texts = (*category.positive, *category.negative)
    entries: list[Any] = list(texts)
    if category.weights:
        entries = [{"text": text, "weight": weight} for text, weight in zip(texts, category.weights, strict=True)]
    middle = len(category.positive)
    return {"weight": category.weight, "positive": entries[:middle], "negative": entries[middle:]}


def letters(text: str) -> str:
    """`text` without case, punctuation and repeated blanks."""
    plain = "".join(letter for letter in text.casefold() if not unicodedata.category(letter).startswith("P"))
    return " ".join(plain.split())


def _complain(path: Path, strict: bool, count: int, problem: str, remedy: str) -> None:
    if count and strict:
        raise InputError(f"{count} {problem}", path=path, allowed="none in a strict load")
    if count:
        warnings.warn(f"{path}: {count} {problem}, {remedy}", stacklevel=4)
