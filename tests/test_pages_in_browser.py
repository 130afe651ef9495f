"""The local pages in a real browser: what a person does on a desk and a phone, and what strangers try.

Needs Playwright, and in UPTAKE_CHROMIUM the program of a Chromium. Pictures go to the folder in UPTAKE_PICTURES.
"""

import os
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Event, Thread
from typing import Any
from urllib.parse import urlsplit

import pytest
from test_annotate import prompt, serving

from uptake.annotators.person import PersonAnnotator
from uptake.edits.edit import Draft
from uptake.edits.person import PersonEditor
from uptake.support.keys import prompt_key
from uptake.types import Prompt, Turn

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif("UPTAKE_CHROMIUM" not in os.environ, reason="UPTAKE_CHROMIUM names no browser"),
]

DESK = {"viewport": {"width": 1280, "height": 800}}
PHONE = {"viewport": {"width": 390, "height": 844}, "is_mobile": True, "has_touch": True, "color_scheme": "dark"}

EVIL = (
    '<script>hit = 1; alert(1)</script><img src=x onerror="hit = 1"><svg onload="hit = 1"></svg>'
    '<a href="javascript:alert(3)">x</a></textarea></button></span>\u202e\u0000'
)
PERSIAN, HALF_SPACE = "کتابها روی میز.", "کتاب\u200cها روی میز."  # noqa: RUF001
PAIRS = [
    ("Boil the water. " * 20, "It is quick."),
    (f"{EVIL}1", f"{EVIL}2"),
    (HALF_SPACE, PERSIAN),
    ("y" * 3000, "z\n" * 60),
]
TURNS = (Turn("user", EVIL), Turn("assistant", EVIL), Turn("user", "x" * 3000))
QUESTION = Prompt(TURNS, prompt_key(TURNS))
FAULTY = "The book are on the tabel in the hall, next to the window."
MENDED = "The books are on the table in the hall, next to the window."


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    api = pytest.importorskip("playwright.sync_api")
    with api.sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=os.environ["UPTAKE_CHROMIUM"], args=["--no-sandbox"])
        yield chromium
        chromium.close()


class Tab:
    """A tab of its own browser; `faults` are dialogs and errors, `asked` the addresses that it loaded."""

    def __init__(self, browser: Any, view: dict[str, Any]) -> None:
        self.page = browser.new_context(**view).new_page()
        self.faults: list[str] = []
        self.loaded: list[str] = []
        self.page.on("dialog", lambda dialog: (self.faults.append("dialog"), dialog.dismiss()))
        self.page.on("pageerror", lambda error: self.faults.append(str(error)))
        self.page.on("console", lambda line: self.faults.append(line.text) if line.type == "error" else None)
        self.page.on("request", lambda request: self.loaded.append(request.url))

    def picture(self, name: str) -> None:
        if "UPTAKE_PICTURES" in os.environ:
            self.page.screenshot(path=Path(os.environ["UPTAKE_PICTURES"]) / f"{name}.png")

    def fits(self) -> bool:
        return bool(self.page.evaluate("document.documentElement.scrollWidth <= innerWidth"))

    def until(self, condition: str) -> None:
        wait(self.page, condition)


def wait(page: Any, condition: str) -> None:
    """Wait for a condition, asked from outside: what waits within the page is forbidden by its policy."""
    begin = time.monotonic()
    while not page.evaluate(condition):
        assert time.monotonic() - begin < 20, condition
        time.sleep(0.05)


@contextmanager
def elsewhere(html: str) -> Iterator[str]:
    """The address of a page of another site."""

    class Foreign(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("Content-Type", "text/html")
            self.end_headers()
            self.wfile.write(html.encode())

        def log_message(self, format: str, *args: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Foreign) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}/"
        server.shutdown()


def test_verdicts_of_a_person(browser: Any, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """By mouse, keys and touch, of texts that are markup, set from the right, or long; nothing is loaded or run."""
    person = PersonAnnotator(str(tmp_path / "a.sqlite"))
    prompts = [prompt("How?"), QUESTION, prompt(HALF_SPACE), QUESTION]
    with serving(lambda: list(person.compare(prompts, PAIRS)), caplog) as (address, verdicts):
        desk, phone = Tab(browser, DESK), Tab(browser, PHONE)
        for done, name in enumerate(("plain", "markup", "persian", "long")):
            for kind, tab in (("desk", desk), ("phone", phone)):
                tab.page.goto(address)
                tab.until(f"typeof shown === 'object' && shown.key && shown.done === {done}")
                assert tab.fits()
                tab.picture(f"annotate-{name}-{kind}")
            if name == "plain":
                phone.page.tap('[data-answer="1"]')
                phone.until("shown.done === 1")
                color = "getComputedStyle(document.querySelector('[data-answer=\"{}\"]')).backgroundColor"
                assert phone.page.evaluate(color.format(1)) == phone.page.evaluate(color.format(2))
            elif name == "markup":
                assert "<script>" in desk.page.inner_text("#answers")
                for key, left in (("u", 0), ("t", 1), ("s", 2)):
                    desk.page.keyboard.press(key)
                    desk.until(f"shown.done === {left}")
            elif name == "persian":
                for each in (".answer span", ".turn span"):
                    direction = f"getComputedStyle(document.querySelector('{each}')).direction"
                    assert desk.page.evaluate(direction) == "rtl"
                desk.page.click('[data-answer="2"]')
                desk.until("shown.done === 3")
        desk.page.keyboard.press("1")
        desk.page.wait_for_selector("#note:not([hidden])")
        assert "Every verdict is kept" in desk.page.inner_text("#note")
        desk.picture("annotate-over-desk")
        found = verdicts.result(10)
    assert [each.p in (0, 1) for each in found] == [False, False, True, True]
    assert [each.valid for each in found] == [True, False, True, True]
    for tab in (desk, phone):
        assert tab.page.evaluate("typeof hit") == "undefined"
        assert not [fault for fault in tab.faults if "ERR_CONNECTION_REFUSED" not in fault]
        assert all(each.startswith(address) for each in tab.loaded)


def test_edits_of_a_person(browser: Any, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Marks as one types, by words; a text far too long, half a sign, and one of 60 kB."""
    words = " ".join(f"word{index % 977}" for index in range(8000))
    drafts = [
        Draft(QUESTION, FAULTY, better=MENDED),
        Draft(QUESTION, EVIL),
        Draft(prompt(HALF_SPACE), PERSIAN),
        Draft(prompt("long"), words),
    ]
    editor = PersonEditor(str(tmp_path / "a.sqlite"))
    marks = "[...document.querySelectorAll('#marks del, #marks ins')].map((each) => each.textContent)"
    with serving(lambda: list(editor(drafts)), caplog) as (address, proposals):
        desk, phone = Tab(browser, DESK), Tab(browser, PHONE)
        for kind, tab in (("desk", desk), ("phone", phone)):
            tab.page.goto(address)
            tab.page.fill("#field", MENDED)
            tab.until("seen && seen.reason === '' && !checking")
            assert tab.page.evaluate(marks) == [" book", " books", " tabel", " table"]
            assert tab.fits()
            tab.picture(f"edit-plain-{kind}")
        desk.page.reload()
        desk.until("seen && seen.marks")
        assert desk.page.input_value("#field") == MENDED
        for text, picture in (("No.", "short"), ("x" * 20_000, "long")):
            desk.page.fill("#field", text)
            desk.until("seen && seen.refused && !checking")
            assert desk.page.is_disabled("#save")
            assert desk.page.inner_text("#verdict").startswith("length")
            desk.picture(f"edit-{picture}-desk")
        half = "fetch('check', {method: 'POST', body: JSON.stringify({key: shown.key, answer: {text: 'a\\ud83d'}})})"
        assert desk.page.evaluate(f"{half}.then((answer) => answer.status)") == 400
        desk.faults.clear()
        desk.page.fill("#field", MENDED)
        desk.page.keyboard.press("Control+Enter")
        desk.until("shown.done === 1 && seen && seen.marks")
        desk.picture("edit-markup-desk")
        for key, done in (("s", 2), ("u", 1), ("s", 2)):
            desk.page.keyboard.press("Escape")
            desk.page.keyboard.press(key)
            desk.until(f"shown.done === {done} && seen && seen.marks")
        desk.page.fill("#field", HALF_SPACE)
        desk.until("seen && seen.reason === ''")
        assert desk.page.evaluate(marks) == [PERSIAN.split(maxsplit=1)[0], HALF_SPACE.split(maxsplit=1)[0]]
        desk.picture("edit-persian-desk")
        desk.page.keyboard.press("Control+Enter")
        desk.until("shown.done === 3 && seen && seen.marks")
        desk.page.fill("#field", f"A{words}B")
        desk.until("seen && seen.reason === '' && !checking")
        assert desk.page.evaluate(marks) == ["word0", "Aword0", f" {words.split()[-1]}", f" {words.split()[-1]}B"]
        desk.page.keyboard.press("Control+Enter")
        found = proposals.result(10)
    assert [each.text for each in found] == [MENDED, "", HALF_SPACE, f"A{words}B"]
    for tab in (desk, phone):
        assert tab.page.evaluate("typeof hit") == "undefined"
        assert not [fault for fault in tab.faults if "ERR_CONNECTION_REFUSED" not in fault]


def test_strangers(browser: Any, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Other sites neither show the page nor answer it, though they know its address; who does not, sees nothing."""
    person = PersonAnnotator(str(tmp_path / "a.sqlite"))
    with serving(lambda: list(person.compare([QUESTION], PAIRS[:1])), caplog) as (address, verdicts):
        desk = Tab(browser, DESK)
        desk.page.goto(address)
        desk.until("typeof shown === 'object' && shown.key")
        told = '{"key": "' + desk.page.evaluate("shown.key") + '", "answer": "1"}'
        with elsewhere(f'<iframe src="{address}"></iframe>') as site:
            tab = Tab(browser, DESK)
            tab.page.goto(site)
            tab.page.wait_for_timeout(500)
            assert any("frame-ancestors" in fault for fault in tab.faults)
            assert "better" not in tab.page.frames[1].evaluate("document.body ? document.body.innerText : ''")
        send = f"fetch('{address}say', {{method: 'POST', mode: 'no-cors', body: '{told}'}})"
        field = told.replace('"}', '", "more": "').replace('"', "&quot;")
        form = f'<form method=post enctype=text/plain action="{address}say"><input name="{field}" value="&quot;}}">'
        for html in (f"<script>{send}</script>", f"{form}</form><script>document.forms[0].submit()</script>"):
            with elsewhere(html) as site:
                tab, outcomes = Tab(browser, DESK), list[Any]()
                tab.page.on("response", lambda one, to=outcomes: to.append(one.status) if "say" in one.url else None)
                # The browser keeps what another site may not read from the script that asked for it.
                tab.page.on("requestfailed", lambda one, to=outcomes: to.append("kept") if "say" in one.url else None)
                tab.page.goto(site)
                begin = time.monotonic()
                while not outcomes and time.monotonic() - begin < 10:
                    tab.page.wait_for_timeout(50)
                assert outcomes in ([403], ["kept"])
        parts = urlsplit(address)
        tab = Tab(browser, DESK)
        assert tab.page.goto(f"http://{parts.netloc}/").status == 404
        assert "terminal" in tab.page.inner_text("body")
        assert desk.page.evaluate("fetch('open').then((answer) => answer.json()).then((pair) => pair.done)") == 0
        desk.page.keyboard.press("1")
        verdicts.result(10)


def test_tabs_and_slow_connections(browser: Any, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Of sixteen tabs that answer a pair one counts; a hundred slow connections keep neither page nor command."""
    person = PersonAnnotator(str(tmp_path / "a.sqlite"))
    with serving(lambda: list(person.compare([QUESTION] * 2, PAIRS[:2])), caplog) as (address, verdicts):
        desk, over = Tab(browser, DESK), Event()
        desk.page.goto(address)
        desk.until("typeof shown === 'object' && shown.key")
        tabs = [desk.page.context.new_page() for _ in range(16)]
        for tab in tabs:
            tab.goto(address)
            wait(tab, "typeof shown === 'object' && shown.key")
        send = "fetch('say', {method: 'POST', body: JSON.stringify({key: shown.key, answer: '1'})})"
        for tab in tabs:
            tab.evaluate(f"window.status_ = {send}.then((answer) => answer.status); 0")
        assert sorted(tab.evaluate("window.status_") for tab in tabs) == [200] + [409] * 15
        parts = urlsplit(address)
        slow = [socket.create_connection((parts.hostname, parts.port)) for _ in range(100)]

        def drip() -> None:
            while not over.wait(0.3):
                for each in slow:
                    with suppress(OSError):
                        each.sendall(b"x")

        dripping = Thread(target=drip)
        dripping.start()
        try:
            desk.page.goto(address)
            desk.until("typeof shown === 'object' && shown.done === 1")
            begin = time.monotonic()
            desk.page.keyboard.press("1")
            assert len(verdicts.result(20)) == 2
            assert time.monotonic() - begin < 5
        finally:
            over.set()
            dripping.join()
            for each in slow:
                each.close()
