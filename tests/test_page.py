"""The local page against whoever else can reach it: slow connections, odd requests, other users, other sites."""

import json
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from http.client import HTTPConnection, HTTPResponse
from itertools import product
from pathlib import Path
from threading import Event, Thread
from urllib.parse import urlsplit

import pytest
from test_annotate import PAIRS, PROMPTS, Page, sitting
from test_edit_person import DRAFTS, skip
from test_edit_person import sitting as editing

from uptake.annotators import page as served
from uptake.annotators.person import PersonAnnotator
from uptake.edits.edit import Draft
from uptake.edits.person import PersonEditor

Sockets = Callable[[], socket.socket]


@pytest.fixture
def person(tmp_path: Path) -> PersonAnnotator:
    return PersonAnnotator(str(tmp_path / "a.sqlite"))


def place(page: Page) -> tuple[str, int, str]:
    parts = urlsplit(page.address)
    assert parts.hostname
    assert parts.port
    return parts.hostname, parts.port, parts.path


@contextmanager
def connections(page: Page) -> Iterator[Sockets]:
    """Makes plain connections to the server, all of which are closed in the end."""
    opened: list[socket.socket] = []

    def connected() -> socket.socket:
        host, port, _ = place(page)
        opened.append(socket.create_connection((host, port), timeout=10))
        return opened[-1]

    try:
        yield connected
    finally:
        for each in opened:
            each.close()


def post(page: Page, path: str, body: bytes, **headers: str) -> HTTPResponse:
    host, port, root = place(page)
    connection = HTTPConnection(host, port, timeout=10)
    connection.request("POST", f"{root}{path}", body, {name.replace("_", "-"): v for name, v in headers.items()})
    return connection.getresponse()


def sent(connected: Sockets, text: str) -> bytes:
    """All that the server says to some bytes."""
    one = connected()
    one.sendall(text.encode())
    said = b""
    with suppress(ConnectionResetError):  # a body that nobody wanted was on its way
        while part := one.recv(1 << 16):
            said += part
    return said


# --- whoever is slow --------------------------------------------------------------------------------------------------


def test_slow_connections_keep_neither_the_page_nor_the_command(
    person: PersonAnnotator, caplog: pytest.LogCaptureFixture
) -> None:
    """More of them than the server has room for, each with a byte of a request, or of its body, every 100 ms."""
    with sitting(person, caplog, PAIRS[:1]) as (page, verdicts), connections(page) as connected:
        _, port, root = place(page)
        head = f"POST {root}say HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nContent-Length: 999\r\n\r\n"
        slow, over = [connected() for _ in range(100)], Event()
        for index, each in enumerate(slow):
            each.sendall(head.encode() if index % 2 else b"GET / HT")

        def drip() -> None:
            while not over.wait(0.1):
                for each in slow:
                    with suppress(OSError):  # some are cut, as they should be
                        each.sendall(b"x")

        dripping = Thread(target=drip)
        dripping.start()
        try:
            time.sleep(0.5)
            page.prefer("good")
            begin = time.monotonic()
            assert verdicts.result(10)[0].p == 1.0
            assert time.monotonic() - begin < 3
        finally:
            over.set()
            dripping.join()


def test_a_request_that_does_not_arrive_is_cut(
    person: PersonAnnotator, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Though a byte comes time and again, which is what the socket's own time-out waits for."""
    monkeypatch.setattr(served, "LONGEST_ARRIVAL", 0.5)
    with sitting(person, caplog, PAIRS[:1]) as (page, verdicts), connections(page) as connected:
        slow, begin, is_open = connected(), time.monotonic(), True
        while is_open and time.monotonic() - begin < 10:
            time.sleep(0.1)
            try:
                slow.sendall(b"x")
            except OSError:
                is_open = False
        assert not is_open
        page.prefer("good")
        verdicts.result(10)


def test_the_oldest_of_too_many_connections_gives_way(
    person: PersonAnnotator, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(served, "MOST_ARRIVING", 3)
    with sitting(person, caplog, PAIRS[:1]) as (page, verdicts), connections(page) as connected:
        first, *rest = [connected() for _ in range(3)]
        assert page.open()["all"] == 1
        assert first.recv(1) == b""
        for each in rest:
            each.settimeout(0.2)
            with pytest.raises(TimeoutError):
                each.recv(1)
        page.prefer("good")
        verdicts.result(10)


def test_the_last_answer_goes_out_before_the_command_ends(
    person: PersonAnnotator, caplog: pytest.LogCaptureFixture
) -> None:
    for _ in range(5):
        with sitting(PersonAnnotator(f"{person.answers}{time.monotonic_ns()}"), caplog, PAIRS[:1]) as (page, verdicts):
            assert page.prefer("good") == {"done": 1, "all": 1}
            verdicts.result(10)


# --- odd requests -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("stated", ["", "1" + 15 * "0", 5000 * "9"], ids=["its own", "much", "more digits"])
def test_a_body_that_is_too_large_is_refused_and_not_reset(
    person: PersonAnnotator, caplog: pytest.LogCaptureFixture, stated: str
) -> None:
    """The status arrives though the body is on its way; 10 kB are the most, and the last of them is taken."""
    with sitting(person, caplog, PAIRS[:1]) as (page, verdicts):
        told = json.dumps({"key": page.open()["key"], "answer": "1"}).encode()
        if stated:
            assert post(page, "say", told, Content_Length=stated).status == 413
        else:
            assert post(page, "say", told.ljust(30_000_000)).status == 413
        assert post(page, "say", told.ljust(10_001)).status == 413
        assert post(page, "say", told.ljust(10_000)).status == 200
        verdicts.result(10)


@pytest.mark.parametrize("length", ["Content-Length: x", "Content-Length: -1", "Content-Length: \u0662", "X: 1"])
def test_a_body_of_no_length_is_refused(person: PersonAnnotator, caplog: pytest.LogCaptureFixture, length: str) -> None:
    with sitting(person, caplog, PAIRS[:1]) as (page, verdicts), connections(page) as connected:
        _, port, root = place(page)
        head = f"POST {root}say HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\n{length}\r\n\r\n"
        assert sent(connected, head).split()[1] == b"411"
        page.prefer("good")
        verdicts.result(10)


def test_a_body_that_is_shorter_than_it_says(
    person: PersonAnnotator, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It ends, or nothing more comes."""
    monkeypatch.setattr(served._Page, "timeout", 0.3)
    with sitting(person, caplog, PAIRS[:1]) as (page, verdicts), connections(page) as connected:
        _, port, root = place(page)
        request = f"POST {root}say HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nContent-Length: 99\r\n\r\n{{"
        assert sent(connected, request).split()[1] == b"408"
        ended = connected()
        ended.sendall(request.encode())
        ended.shutdown(socket.SHUT_WR)
        assert ended.recv(100).split()[1] == b"400"
        page.prefer("good")
        verdicts.result(10)


@pytest.mark.parametrize(
    "body",
    [b"", b"{", b"[]", b"3", b"\xff", b"[" * 4900, b'{"key": "\\ud83d", "answer": "1"}', b'{"key": {}, "answer": []}'],
)
def test_a_body_that_is_no_answer_is_refused_in_one_word(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str], body: bytes
) -> None:
    with editing(PersonEditor(str(tmp_path / "a.sqlite")), caplog, DRAFTS[:1]) as (page, proposals):
        for path in ("say", "check"):
            response = post(page, path, body)
            assert (response.status, json.load(response)) == (400, {"error": "Bad Request"})
        skip(page)
        proposals.result(10)
    assert capfd.readouterr().err == ""


def test_half_a_sign_is_no_edit(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    """A browser sends it where a pair of characters was cut in two."""
    with editing(PersonEditor(str(tmp_path / "a.sqlite")), caplog, DRAFTS[:1]) as (page, proposals):
        told = json.dumps({"key": page.open()["key"], "answer": {"text": "The cat \ud83d number 0 sat."}}).encode()
        assert [post(page, path, told).status for path in ("check", "say")] == [400, 400]
        skip(page)
        proposals.result(10)
    assert capfd.readouterr().err == ""


def test_an_answer_that_cannot_be_kept_is_told_to_the_page_and_the_terminal(
    person: PersonAnnotator, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    with sitting(person, caplog, PAIRS[:1]) as (page, verdicts):
        key = page.open()["key"]
        with monkeypatch.context() as broken:
            broken.setattr("uptake.data.cache.Cache.put", lambda self, values: 1 / 0)
            assert page.refused("say", {"key": key, "answer": "1"}) == 500
        assert "a request of the page could not be answered: ZeroDivisionError" in caplog.text
        assert page.open()["done"] == 0
        page.prefer("good")
        verdicts.result(10)


# --- other users, and other sites -------------------------------------------------------------------------------------


def test_without_the_last_part_of_the_address_there_is_nothing(
    person: PersonAnnotator, caplog: pytest.LogCaptureFixture
) -> None:
    with sitting(person, caplog, PAIRS[:1]) as (page, verdicts), connections(page) as connected:
        host, port, root = place(page)
        assert len(root) >= 22
        told = json.dumps({"key": page.open()["key"], "answer": "1"})
        wrong = f"/{'x' * (len(root) - 2)}/"
        paths = ["/", "/open", root[:-1], f"{root[:-2]}/open", f"{wrong}open", "/\u00e9/open", f"{root}../open"]
        for path, method in product(paths, ("GET", "POST")):
            head = f"{method} {path} HTTP/1.1\r\nHost: {host}:{port}\r\nContent-Length: {len(told)}\r\n\r\n"
            response = sent(connected, head + told)
            # POST tells no more of a path that is none than of an answer that is none.
            status = b"400" if method == "POST" and path.startswith(root) else b"404"
            assert response.split()[1] == status, (method, path)
            assert b"good" not in response
        assert page.open()["done"] == 0
        page.prefer("good")
        verdicts.result(10)


def test_the_address_is_another_in_every_process_and_the_same_within(
    person: PersonAnnotator, caplog: pytest.LogCaptureFixture
) -> None:
    """So an open page finds the next survey, where the port is fixed."""
    roots = set()
    for index in range(2):
        with sitting(PersonAnnotator(f"{person.answers}{index}"), caplog, PAIRS[:1]) as (page, verdicts):
            roots.add(place(page)[2])
            page.prefer("good")
            verdicts.result(10)
    assert len(roots) == 1
    served._token.cache_clear()
    with sitting(person, caplog, PAIRS[:1]) as (page, verdicts):
        assert place(page)[2] not in roots
        page.prefer("good")
        verdicts.result(10)


def test_every_response_forbids_frames_and_says_what_it_is(
    person: PersonAnnotator, caplog: pytest.LogCaptureFixture
) -> None:
    with sitting(person, caplog, PAIRS[:1]) as (page, verdicts):
        host, port, root = place(page)
        responses = [post(page, "say", b"{}"), post(page, "say", b"x" * 20_000)]
        for method, path in (("GET", root), ("GET", f"{root}open"), ("GET", "/"), ("PUT", root)):
            connection = HTTPConnection(host, port, timeout=10)
            connection.request(method, path)
            responses.append(connection.getresponse())
        assert [response.status for response in responses] == [400, 413, 200, 200, 404, 501]
        for response in responses:
            policy = response.headers["Content-Security-Policy"]
            for rule in ("default-src", "frame-ancestors", "base-uri", "form-action"):
                assert f"{rule} 'none'" in policy
            found = [response.headers[f"X-{name}-Options"] for name in ("Frame", "Content-Type")]
            assert found == ["DENY", "nosniff"]
            assert response.headers["Referrer-Policy"] == "no-referrer"
            assert response.headers["Server"] == "uptake"
            response.close()
        page.prefer("good")
        verdicts.result(10)


# --- long texts -------------------------------------------------------------------------------------------------------


def test_a_long_text_is_looked_at_as_one_types(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """120 kB of words with a change at either end; marks are those of the two words."""
    words = [f"word{index % 977}" for index in range(16_000)]
    response = " ".join(words)
    edited = " ".join(["First", *words[1:-1], "last"])
    with editing(PersonEditor(str(tmp_path / "a.sqlite")), caplog, [Draft(PROMPTS[0], response)]) as (page, proposals):
        seen = page.ask("check", {"key": page.open()["key"], "answer": {"text": edited}})
        assert seen["marks"] == [
            *(["-", "word0"], ["+", "First"], ["=", " " + " ".join(words[1:-1])]),
            *(["-", f" {words[-1]}"], ["+", " last"]),
        ]
        assert (seen["reason"], seen["ratio"]) == ("", pytest.approx(2 / 16_001))
        too_long = {"key": page.open()["key"], "answer": {"text": "x" * (4 * len(response) + 10_000)}}
        assert page.refused("check", too_long) == 413
        skip(page)
        proposals.result(10)
