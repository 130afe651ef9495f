"""Logs cut into exchanges: every response that a user answers, and a reason for each of the others."""

from pathlib import Path
from typing import Any

import pytest

from uptake.data.exchanges import Exchange, Reacted, exchanges, merged
from uptake.data.language import check_language, language_of
from uptake.data.rows import to_row
from uptake.errors import InputError
from uptake.types import Row, Turn, Where

GERMAN = "Danke, das hat mir sehr geholfen. Wann öffnet der Laden morgen früh, und gibt es dort auch frisches Brot? "
ENGLISH = "Thanks, that was what I asked for. When does the shop open tomorrow, and do they have bread as well? "


def row(*texts: str, **more: Any) -> Row:
    roles = ("user", "assistant")
    messages = [{"role": roles[place % 2], "content": text} for place, text in enumerate(texts)]
    return to_row({"messages": messages, **more}, Where(Path("log.jsonl"), 3))


def test_every_answered_response_is_an_exchange() -> None:
    found, lost = exchanges([row("When?", "At eight.", " Thanks! ", "Bye."), row("Why?", "No.", "What?")])
    assert [(each.prompt.turns[-1].content, each.response, each.follow_up, each.conversation) for each in found] == [
        ("When?", "At eight.", "Thanks!", 0),
        ("Why?", "No.", "What?", 1),
    ]
    assert found[0].prompt.turns == (Turn("user", "When?"),)
    assert lost == {"no user turn after the response": 1}


def test_blanks_are_counted_and_not_guessed() -> None:
    found, lost = exchanges([row("When?", " ", "Hello?", "At eight.", " ", "Well?", "Yes.")])
    assert [each.follow_up for each in found] == ["Yes."]
    assert lost == {"blank response": 1, "blank user turn after the response": 1}


def test_the_answers_of_a_preference_are_no_last_words() -> None:
    messages = [{"role": "user", "content": "When?"}, {"role": "assistant", "content": "At eight."}]
    prompt = [*messages, {"role": "user", "content": "Thanks."}]
    found, lost = exchanges([to_row({"prompt": prompt, "chosen": "Bye.", "rejected": "No."})])
    assert [each.follow_up for each in found] == ["Thanks."]
    assert not lost


def test_a_log_without_answers_of_users_says_so() -> None:
    with pytest.raises(InputError) as caught:
        exchanges([row("When?", "At eight."), row("Why?")])
    assert str(caught.value) == (
        "log.jsonl: no user turn follows a response (no user turn after the response: 1) "
        "(allowed: conversations in which the user answers a response)"
    )


def test_ratings_of_messages_and_of_conversations() -> None:
    rows = [
        row("a", "b", "c", "d", "e", thumbs=[None, True, None, 0, None]),
        row("a", "b", "c", thumbs="4.5"),
        row("a", "b", "c", thumbs=None),
    ]
    assert [each.rating for each in exchanges(rows, "thumbs")[0]] == [1.0, 0.0, 4.5, None]
    assert [each.rating for each in exchanges(rows)[0]] == [None] * 4


def test_ratings_fit_the_turns_that_are_left_of_a_conversation() -> None:
    """An opening of the assistant goes when the row is read, and its rating with it."""
    messages = [
        {"role": role, "content": role} for role in ("system", "assistant", "user", "assistant", "user", "assistant")
    ]
    found, _ = exchanges([to_row({"messages": messages, "stars": [9, 8, 7, 6, 5, 4]})], "stars")
    assert [each.rating for each in found] == [6.0]


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ([1], "log.jsonl:3, field 'stars': 1 ratings of 3 messages (allowed: one for every message, or null)"),
        ("good", "log.jsonl:3, field 'stars': found 'good'"),
        ([None, {"x": 1}, None], "log.jsonl:3, field 'stars': found {'x': 1}"),
    ],
)
def test_ratings_that_are_none(given: Any, message: str) -> None:
    with pytest.raises(InputError) as caught:
        exchanges([row("a", "b", "c", stars=given)], "stars")
    assert str(caught.value).startswith(message)


def test_no_such_column_of_ratings() -> None:
    with pytest.raises(InputError, match=r"field 'stars': no row has this column \(allowed: thumbs\)"):
        exchanges([row("a", "b", "c", thumbs=1)], "stars")


def test_one_response_is_heard_once_with_all_that_was_said() -> None:
    rows = [
        row("a", "b", "thanks", stars=4),
        row("a", "b", "wrong", stars=1),
        row("a", "b", "thanks", stars=1),
        row("a", "c", "thanks"),
    ]
    found, _ = exchanges(rows, "stars")
    prompt = found[0].prompt
    assert merged(found) == [
        Reacted(prompt, "b", ("thanks", "wrong"), 0, 2.0),
        Reacted(prompt, "c", ("thanks",), 3, None),
    ]
    assert merged([Exchange(prompt, "b", "x", 7)])[0].dialogue == (*prompt.turns, Turn("assistant", "b"))


def test_languages() -> None:
    assert language_of([GERMAN] * 3) == "de"
    assert language_of([ENGLISH] * 3) == "en"
    assert language_of(["ok"]) is None
    check_language([ENGLISH] * 3, "en-US", "log.jsonl")
    check_language(["ok"], "de", "log.jsonl")
    with pytest.raises(InputError) as caught:
        check_language([GERMAN] * 3, "en", "log.jsonl")
    assert str(caught.value) == (
        "log.jsonl: users write in 'de' here, and the follow-ups are in 'en' "
        "(allowed: a set in 'de' by --followups, or --any-language)"
    )
