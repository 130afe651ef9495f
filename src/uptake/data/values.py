"""Values of a row as they are read: what is missing is absent, a text is of whole characters, a number is finite."""

from collections.abc import Callable, Collection, Mapping
from datetime import date, time
from decimal import Decimal
from math import isfinite, isinf, isnan
from typing import Any, TypeVar

import numpy as np

from uptake.data.where import Record, bad_row
from uptake.support.notes import note
from uptake.support.texts import DEEPEST, json_of, whole
from uptake.types import Turn, Where

ValueT = TypeVar("ValueT")


def present(record: Record, used: Collection[str], where: Where | None) -> Record:
    """The record without null and without NaN, as tables and their exports spell a missing value; NaNs are noted.

    A column of either is absent, and within a list or an object NaN is null. In columns that are `used`, dates are ISO
    text and decimals numbers. Raises InputError for a value there that JSON has no form for, for a text there with half
    of a surrogate pair, which no tokenizer reads, and for any column that nests more than `DEEPEST` deep.
    """
    found: dict[str, Any] = {}
    for name, value in record.items():
        try:
            found[name] = _plain(value, DEEPEST, _read if name in used else _other)
        except _Odd as odd:
            raise bad_row(odd.problem, where, field=name, allowed=odd.allowed) from odd
        if found[name] is None:
            del found[name]
            if value is not None:
                note("cells are NaN, which counts as no value", (where, name))
    return found


def parsed(text: str) -> Any:
    """What a text spells as JSON, with null for NaN; ValueError as of `support.texts`."""
    return _plain(json_of(text), DEEPEST, _read)


def one_of(table: Mapping[str, ValueT], value: Any) -> ValueT | None:
    """What a table has for a value; None where the value is not in it, or no text."""
    return table.get(value) if isinstance(value, str) else None


def finite(value: Any) -> float | None:
    """A number as a float; None for what is none, true and false, and a number that no float can hold."""
    if not isinstance(value, int | float) or isinstance(value, bool):
        return None
    try:
        return float(value) if isfinite(value) else None
    except OverflowError:
        return None


def number(value: Any) -> float | None:
    """A number, or what a cell of a table spells as one; true counts 1. None where it is none or not finite."""
    if isinstance(value, bool):
        return float(value)
    if not isinstance(value, str):
        return finite(value)
    try:
        return finite(float(value))
    except ValueError:
        return None


class _Odd(ValueError):
    def __init__(self, problem: str, allowed: str) -> None:
        super().__init__(problem)
        self.problem, self.allowed = problem, allowed


def _plain(value: Any, levels: int, leaf: Callable[[Any], Any]) -> Any:
    """A value with each of its parts as `leaf` has it; the arrays of NumPy and pandas are lists."""
    if isinstance(value, np.ndarray | np.generic):
        value = value.tolist()
    if isinstance(value, Mapping | list | tuple) and not levels:
        raise _Odd("nested too deeply", f"at most {DEEPEST} objects and lists within one another")
    if isinstance(value, Mapping):
        return {leaf(name): _plain(each, levels - 1, leaf) for name, each in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(each, levels - 1, leaf) for each in value]
    return leaf(value)


def _other(value: Any) -> Any:
    """Not a number is no value; all else is as it is."""
    return None if isinstance(value, float) and isnan(value) else value


def _read(value: Any) -> Any:
    """A part of a value that is read, as JSON has it."""
    match value:
        case None | bool() | int() | Turn():
            return value
        case str():
            try:
                return whole(value)
            except ValueError as error:
                raise _Odd(str(error), "whole characters") from error
        case float() if not isinf(value):
            return _other(value)
        case date() | time():
            return value.isoformat()
        case Decimal() if value.is_finite():
            return int(value) if value == value.to_integral_value() else float(value)
    found = value if isinstance(value, float) else f"a {type(value).__name__}"
    raise _Odd(f"found {found}", "what JSON can spell")
