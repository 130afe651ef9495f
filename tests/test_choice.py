"""Settings of a part: known, complete, and of the type that is declared."""

from dataclasses import dataclass
from typing import Any, Literal

import pytest

from uptake.errors import InputError
from uptake.support.settings import named


@dataclass(frozen=True)
class Lamp:
    """A part with settings of every kind."""

    room: str
    watts: float = 5.0
    count: int = 1
    color: Literal["warm", "cold"] = "warm"
    timer: int | None = None
    dimmed: bool = False


def test_what_is_written_is_what_is_made() -> None:
    """A whole number is a number."""
    lamp = named("light", {"lamp": {"room": "hall", "watts": 7, "timer": None, "color": "cold"}}, {"lamp": Lamp})()
    assert lamp == Lamp("hall", watts=7, color="cold")


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"room": 7}, r"7 as 'room' of lamp \(allowed: a valid string\)"),
        ({"room": "a", "watts": "bright"}, r"'bright' as 'watts' of lamp \(allowed: a valid number\)"),
        ({"room": "a", "count": "2"}, r"'2' as 'count' of lamp \(allowed: a valid integer\)"),
        ({"room": "a", "count": 2.5}, r"2.5 as 'count' of lamp"),
        ({"room": "a", "count": True}, r"True as 'count' of lamp"),
        ({"room": "a", "color": "blue"}, r"'blue' as 'color' of lamp \(allowed: 'warm' or 'cold'\)"),
        ({"room": "a", "timer": "soon"}, r"'soon' as 'timer' of lamp"),
        ({"room": "a", "dimmed": 1}, r"1 as 'dimmed' of lamp \(allowed: a valid boolean\)"),
        ({"room": "a", "size": 1}, r"lamp has no setting 'size' \(allowed: room, watts, count, color, timer, dimmed\)"),
        ({}, r"lamp needs a setting 'room'"),
    ],
)
def test_a_wrong_setting_is_named(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=rf"field 'light': {message}"):
        named("light", {"lamp": settings}, {"lamp": Lamp})
