"""Personal data: what is replaced, and the way to the library where it is not there. The first part needs the extra."""

import sys
from importlib.util import find_spec
from typing import Any

import pytest

from uptake.data.redact import Redact
from uptake.data.rows import to_row
from uptake.errors import UptakeError
from uptake.types import Answered, Preference, Rated, Row

needs_presidio = pytest.mark.skipif(find_spec("presidio_analyzer") is None, reason="needs the extra `privacy`")


@needs_presidio
@pytest.mark.filterwarnings("default")
def test_finds_are_replaced_by_their_kind_and_counted() -> None:
    redact = Redact.ready()
    text = "Mail ann@example.com or call +44 20 7946 0958; card 4111 1111 1111 1111, see https://example.com/a?b now."
    assert redact(text) == "Mail <EMAIL_ADDRESS> or call <PHONE_NUMBER>; card <CREDIT_CARD>, see <URL> now."
    assert redact.found == {"EMAIL_ADDRESS": 1, "PHONE_NUMBER": 1, "CREDIT_CARD": 1, "URL": 1}
    plain = "The bakery opens at 8, the price is 12.50, and room 12 is free."
    assert redact(plain) == plain


@needs_presidio
@pytest.mark.filterwarnings("default")
def test_every_part_of_a_row_is_redacted() -> None:
    redact, mail = Redact.ready(), "ann@example.com"
    messages = [{"role": role, "content": f"{role} {mail}"} for role in ("system", "user", "assistant", "user")]
    records: list[dict[str, Any]] = [
        {"messages": messages},
        {"messages": messages[:3]},
        {"prompt": mail, "completion": mail, "label": True},
        {"prompt": mail, "chosen": mail, "rejected": f"no {mail}"},
    ]
    rows: list[Row] = [redact.row(to_row(record)) for record in records]
    assert [type(row).__name__ for row in rows] == ["Prompt", "Answered", "Rated", "Preference"]
    assert not [row for row in rows if mail in str(row)]
    assert redact.found["EMAIL_ADDRESS"] == 4 + 3 + 2 + 3
    assert isinstance(rows[1], Answered)
    assert rows[1].response == "assistant <EMAIL_ADDRESS>"
    assert isinstance(rows[2], Rated)
    assert rows[2].good


def test_ids_that_spell_the_texts_as_they_were_go_with_them() -> None:
    ids = {"tokenizer": "t", "prompt": [1], "chosen": [2], "rejected": [3]}
    record = {"prompt": "a", "chosen": "b", "rejected": "c", "margin": 1.5, "token_ids": ids}
    row = Redact(()).row(to_row(record))
    assert isinstance(row, Preference)
    assert (row.chosen, row.margin, row.token_ids) == ("b", 1.5, None)


def test_without_the_library_the_way_to_it_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "presidio_analyzer.predefined_recognizers", None)
    with pytest.raises(UptakeError, match=r"needs the extra `privacy`: pip install 'uptake\[privacy\]'"):
        Redact.ready()
