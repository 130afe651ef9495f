"""Damage: values, bytes and words that were right, changed at random places in ways that have ended programs before."""

import json
import random
from collections.abc import Callable
from datetime import date, datetime
from decimal import Decimal
from typing import Any

DEEP: Any = None
for _ in range(600):
    DEEP = [DEEP]

ODD: list[Any] = [
    *(None, True, False, 0, -1, 1, 2**63, 10**400, -0.0, 1e308, float("nan"), float("inf"), 0.5),
    *("", " ", "\n", "\ud800", "\x00", "a", "true", "NaN", "1e999", "[]", "[{", "{}", "null", "\u200b", "\ufeff"),
    *("system", "assistant", "tool", "<end>", "<user>", "\n\nHuman: a\n\nAssistant:", "user", "9" * 5_000),
    *("a" * 20_000, "\n" * 20_000, "a " * 5_000, "\n\nHuman: a\n\nAssistant: b" * 300),
    *([], {}, [[]], [None], [{}], {"": None}, {"a": {}}, DEEP, [1] * 300, {"role": []}, [["user", "a"]]),
    '[{"role": "user", "content": "a"}]',
    "[{'role': 'user', 'content': {1, 2}}]",
]
# What tables hold and JSON does not.
CELLS: list[Any] = [b"\xff\x00", datetime(2023, 4, 9, 0, 2, 53), date(1, 1, 1), Decimal("1.50"), Decimal("NaN")]
WORDS = [
    *("", " ", "-1", "0", "1", "nan", "inf", "-inf", "1e999", "1" + "0" * 30, "9" * 5_000, "0x_", "null", "~", "{}"),
    *("[", "[" * 2_000, "{a: ", "2024-13-45", "2024-01-01", "!!int a", "!!bool x", "!!timestamp x", "!!python/name:os"),
    *(
        "&a [*a]",
        "{[1]: 2}",
        "? a",
        "a: b: c",
        "\ud800",
        "\x00",
        "\n",
        "%",
        "/",
        ".",
        "..",
        "/dev/null",
        "/proc/self/x",
    ),
    *(
        "a" * 300,
        "a/b",
        "a/b:c",
        "http://[::1",
        "http://a b",
        "meta",
        "mps",
        "cuda:99",
        "cpu:7",
        "xla",
        "true",
        "'",
        '"',
    ),
    *(
        "length",
        "follow_up",
        "oracle",
        "person",
        "server",
        "sum",
        "{sum: [length]}",
        "{length: {a: 1}}",
        "=",
        "a=",
        "=a",
    ),
]


def odd(rng: random.Random, more: list[Any] | None = None) -> Any:
    return rng.choice(ODD + (more or []))


def value(rng: random.Random, given: Any, more: list[Any] | None = None) -> Any:
    """A value of JSON with something wrong, at a random place."""
    if isinstance(given, dict) and given and rng.random() < 0.75:
        name = rng.choice(list(given))
        return {**given, name: value(rng, given[name], more)}
    if isinstance(given, list) and given and rng.random() < 0.75:
        place = rng.randrange(len(given))
        return [*given[:place], value(rng, given[place], more), *given[place + 1 :]]
    return rng.choice(_CHANGES)(rng, given, more)


def _renamed(rng: random.Random, given: Any, more: list[Any] | None) -> Any:
    if not isinstance(given, dict) or not given:
        return {rng.choice(["role", "content", "text", "label", "", "\ud800"]): given}
    name = rng.choice(list(given))
    other = rng.choice([*given, "prompt", "chosen", "completion", "messages", "label", "spans", "system", "tools", ""])
    return {**{key: each for key, each in given.items() if key != name}, other: given[name]}


def _without(rng: random.Random, given: Any, more: list[Any] | None) -> Any:
    if not isinstance(given, dict | list) or not given:
        return None
    if isinstance(given, list):
        place = rng.randrange(len(given))
        return given[:place] + given[place + 1 :]
    gone = rng.choice(list(given))
    return {key: each for key, each in given.items() if key != gone}


def _repeated(rng: random.Random, given: Any, more: list[Any] | None) -> Any:
    return given * rng.randint(2, 9) if isinstance(given, list | str) and len(given) < 1_000 else [given, given]


def _spelled(rng: random.Random, given: Any, more: list[Any] | None) -> Any:
    return rng.choice([repr, lambda each: json.dumps(each, default=str)])(given)


def _cut(rng: random.Random, given: Any, more: list[Any] | None) -> Any:
    return given[: rng.randrange(len(given))] if isinstance(given, list | str) and given else [given]


_CHANGES: list[Callable[[random.Random, Any, list[Any] | None], Any]] = [
    *(lambda rng, given, more: odd(rng, more) for _ in range(5)),
    *(_renamed, _without, _repeated, _spelled, _cut),
    lambda rng, given, more: [given],
    lambda rng, given, more: {"a": given},
]


def data(rng: random.Random, given: bytes) -> bytes:
    """Bytes with something wrong."""
    for _ in range(rng.choice([1, 1, 1, 3])):
        given = _damaged(rng, given)
    return given


_INSERTED = [b"\n", b"{}\n", b"[]\n", b"\xff", b"\x00", b'"', b"null"]


def _damaged(rng: random.Random, given: bytes) -> bytes:
    at = rng.randrange(len(given) + 1)
    end = min(len(given), at + rng.choice([1, 1, 4, 40, 4_000]))
    before, within, after = given[:at], given[at:end], given[end:]
    middle = [b"", bytes(len(within)), rng.randbytes(len(within)), within + within, rng.choice(_INSERTED) + within]
    return rng.choice([before, given + given, *(before + each + after for each in middle)])


def text(rng: random.Random, given: str) -> bytes:
    """A text with a word or a line that is wrong, or with damaged bytes."""
    if rng.random() < 0.4:
        return data(rng, given.encode())
    lines = given.splitlines()
    at = rng.randrange(len(lines)) if lines else 0
    lines[at : at + 1] = [
        _line(rng, lines[at]) if lines else "",
        *([lines[at]] if lines and rng.random() < 0.2 else []),
    ]
    return "\n".join(lines).encode("utf-8", "surrogatepass")


def _line(rng: random.Random, line: str) -> str:
    name, colon, _ = line.partition(": ")
    return rng.choice([f"{name}{colon}{rng.choice(WORDS)}", rng.choice(WORDS), f"  {line}", line.strip(), line[::-1]])
