"""Token heat maps: what is one piece, how strong a color is, and that odd text is shown as it is."""

import json
import re
from html.parser import HTMLParser
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from rich.console import Console
from test_token_view import ASKED, END, bytes_chat, ids_of
from tiny import tiny_tokenizer, write_jsonl
from tiny_cli import Cli
from transformers import LlamaConfig, LlamaForTokenClassification

from uptake.data import ChatFormat, Token, TokenView, token_view
from uptake.edits.units import split_words
from uptake.errors import InputError
from uptake.report import write_report
from uptake.report.heat import Heat, cut, heat_map, limits, parts
from uptake.report.heat_text import INK, NEGATIVE, POSITIVE, heat_text
from uptake.report.visible import safe, visible
from uptake.types import Turn

HERE = Path(__file__).parent
FAMILY = "\U0001f469\u200d\U0001f467"
TEXTS = st.text(st.characters(exclude_categories=["Cs"]) | st.sampled_from("\u0301\u200d\U0001f469\n e\r\u202e"))


def view(text: str, *numbers: float | None, finished: bool = False, **more: Any) -> TokenView:
    """One token for every character of a text."""
    tokens = (*(Token(at, at + 1) for at in range(len(text))), *[Token(len(text), len(text), "<end>")] * finished)
    return TokenView(ASKED, text, tokens, {"reward": numbers}, **more)


def pieces(shown: TokenView) -> list[str]:
    return [text for text, _ in cut(shown)]


def only(shown: TokenView) -> Heat:
    (heat,) = heat_map([shown]).heats
    return heat


def printed(*views: TokenView, width: int = 80, color: bool = False) -> str:
    out = StringIO()
    console = Console(file=out, width=width, force_terminal=color, color_system="truecolor" if color else None)
    console.print(heat_text(heat_map(views)))
    return out.getvalue()


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("ab", ["a", "b"]),
        ("e\u0301a", ["e\u0301", "a"]),
        (f"{FAMILY}!", [FAMILY, "!"]),
        ("\U0001f1e9\U0001f1ea\U0001f1eb\U0001f1f7", ["\U0001f1e9\U0001f1ea", "\U0001f1eb\U0001f1f7"]),
        ("\u0928\u092e\u0938\u094d\u0924\u0947", ["\u0928", "\u092e", "\u0938\u094d\u0924\u0947"]),
        ("\u4e5d\u70b9", ["\u4e5d", "\u70b9"]),
        ("a \n\t", ["a", "\N{MIDDLE DOT}", "\N{RETURN SYMBOL}\n", "\N{RIGHTWARDS ARROW TO BAR}\t"]),
    ],
)
def test_what_a_reader_sees_as_one_character_is_one_piece(text: str, expected: list[str]) -> None:
    numbers = [0.0] * len(ids_of(text))
    assert pieces(token_view(bytes_chat(), ASKED, ids_of(text), {"reward": numbers})) == expected


def test_a_joined_piece_keeps_all_numbers_and_takes_the_strongest() -> None:
    shown = token_view(bytes_chat(), ASKED, [*ids_of("a\u00e9"), END], {"reward": [0.1, 0.25, -0.5, 1.0]})
    (row,) = only(shown).rows
    assert [piece.text for piece in row.pieces] == ["a", "\u00e9", "\N{END OF PROOF}"]
    assert [piece.shade for piece in row.pieces] == [0.1, -0.5, 1.0]
    assert [piece.strong for piece in row.pieces] == [False, True, True]
    assert row.pieces[1].note == "\u00e9, tokens 2 to 3 of 4: reward +0.25 \N{MINUS SIGN}0.50"


def test_a_special_token_within_a_response_is_spelled() -> None:
    tokens = (Token(0, 1), Token(1, 1, "<tool>"), Token(1, 1, "<call>"), Token(1, 2), Token(2, 2))
    assert pieces(TokenView(ASKED, "ab", tokens)) == ["a", "<tool>", "<call>", "b", "\N{EMPTY SET}"]


@given(TEXTS)
@settings(max_examples=60, deadline=None)
def test_pieces_are_the_text_and_cover_every_token(text: str) -> None:
    ids = ids_of(text)
    found = list(cut(token_view(bytes_chat(), ASKED, ids, {})))
    assert [index for _, tokens in found for index in range(len(ids))[tokens]] == list(range(len(ids)))
    by_hand = sum(len(letter.encode()) for letter in text)
    assert by_hand == len(ids)
    assert all(shown for shown, _ in found)
    # Nothing that is shown steers a terminal or turns the text around.
    assert not re.search(
        "[\x00-\x08\x0b-\x1f\x7f-\x9f\u200e\u200f\u202a-\u202e\u2066-\u2069]", "".join(t for t, _ in found)
    )


@pytest.mark.parametrize(
    ("text", "shown", "kept"),
    [
        ("  ", "\N{MIDDLE DOT}\N{MIDDLE DOT}", "  "),
        (" a", " a", " a"),
        ("\x1b[31m", "\N{SYMBOL FOR ESCAPE}[31m", "\N{SYMBOL FOR ESCAPE}[31m"),
        ("\x7f", "\N{SYMBOL FOR DELETE}", "\N{SYMBOL FOR DELETE}"),
        ("a\u202eb", "a\u2039U+202E\u203ab", "a\u2039U+202E\u203ab"),
        ("\u200b", "\u2039U+200B\u203a", "\u2039U+200B\u203a"),
        ("\u200d", "\u2039U+200D\u203a", "\u200d"),
        ("\u0645\u06cc\u200c\u062e", "\u0645\u06cc\u200c\u062e", "\u0645\u06cc\u200c\u062e"),
        ("\u0301", "\N{DOTTED CIRCLE}\u0301", "\u0301"),
        ("\ud83d", "\u2039U+D83D\u203a", "\u2039U+D83D\u203a"),
        ("a\u00a0b", "a\N{SHOULDERED OPEN BOX}b", "a\u00a0b"),
        ("\r\n", "\N{SYMBOL FOR CARRIAGE RETURN}\N{RETURN SYMBOL}\n", "\N{SYMBOL FOR CARRIAGE RETURN}\n"),
    ],
)
def test_nothing_is_invisible_and_nothing_steers(text: str, shown: str, kept: str) -> None:
    assert visible(text) == shown
    assert safe(text) == kept


def test_one_outlier_does_not_bleach_the_rest() -> None:
    views = [*[view("xy", 0.2, -0.1)] * 10, view("xy", 0.1, -9.0)]
    assert limits(views) == {"reward": pytest.approx(0.2)}
    heats = heat_map(views).heats
    assert [[piece.shade for piece in heats[at].rows[0].pieces] for at in (0, 10)] == [[1.0, -0.5], [0.5, -1.0]]


def test_rare_bad_tokens_set_the_scale() -> None:
    shown = view("x" * 100, *[0.04] * 99, -0.9)
    assert limits([shown]) == {"reward": 0.9}
    assert limits([view("x", 0.0), view("x", 0.0), view("x", -0.5)]) == {"reward": pytest.approx(0.4)}
    assert limits([*[view("x", 0.0)] * 20, view("x", -0.5)]) == {"reward": 0.5}


def test_numbers_that_are_none_zero_or_missing_have_no_color() -> None:
    shown = TokenView(ASKED, "ab", (Token(0, 1), Token(1, 2)), {"reward": (None, 0.0), "value": (float("nan"), 0.5)})
    heats = heat_map([shown])
    assert heats.limits == {"reward": 1.0, "value": 0.5}
    assert [[piece.shade for piece in row.pieces] for row in heats.heats[0].rows] == [[0, 0], [0, 1]]
    assert "reward none, value nan" in heats.heats[0].rows[0].pieces[0].note


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        ("The cat sat.", "The dog sat.", "The[- cat-]{+ dog+} sat."),
        ("you pay.", "hello! you pay.", "{+hello!+} you pay."),
        ("you go to the shop.", "the shop.", "[-you go to-] the shop."),
        ("a b", "a b", "a b"),
        ("a b c", "a c", "a[- b-] c"),
        ("\u4e5d\u70b9\u5f00", "\u516b\u70b9\u5f00", "[-\u4e5d-]{+\u516b+}\u70b9\u5f00"),
        (f"a {FAMILY}", "a \U0001f469", f"a[- {FAMILY}-]{{+ \U0001f469+}}"),
        ("a\n", "a", "a[-\N{RETURN SYMBOL}\n-]"),
        ("cafe\u0301", "tea", "[-cafe\u0301-]{+tea+}"),
    ],
)
def test_an_edit_is_shown_word_by_word(old: str, new: str, expected: str) -> None:
    marks = {"kept": "{}", "removed": "[-{}-]", "added": "{{+{}+}}"}
    assert "".join(marks[part.kind].format(part.text) for part in parts(old, new)) == expected


def test_blanks_go_with_the_word_after_them() -> None:
    assert split_words("if x:\n    y  \n") == ["if", " x", ":", "\n    y", "  \n"]
    assert split_words(" ") == [" "]
    assert split_words("") == []


@given(TEXTS)
@settings(max_examples=60, deadline=None)
def test_words_are_the_text(text: str) -> None:
    assert "".join(split_words(text)) == text


def luminance(color: str) -> float:
    """WCAG 2.2, relative luminance of `#rrggbb`."""
    channels = (int(color[at : at + 2], 16) / 255 for at in (1, 3, 5))
    red, green, blue = (c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels)
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


def contrast(one: str, other: str) -> float:
    light, dark = sorted((luminance(one), luminance(other)), reverse=True)
    return (light + 0.05) / (dark + 0.05)


@pytest.mark.parametrize("ground", [*NEGATIVE, *POSITIVE])
def test_the_terminal_colors_are_legible_on_any_ground(ground: str) -> None:
    assert contrast(INK, ground) >= 7  # AAA


def mixed(color: str, paper: str, strength: float) -> str:
    shares = ((int(one[at : at + 2], 16) for one in (color, paper)) for at in (1, 3, 5))
    return "#" + "".join(f"{round(strength * top + (1 - strength) * under):02x}" for top, under in shares)


@pytest.mark.parametrize("dark", [False, True])
def test_the_page_colors_are_legible_at_full_strength(dark: bool) -> None:
    def values(file: str) -> dict[str, str]:
        blocks = re.findall(r":root \{(.*?)\}", (HERE.parent / "src/uptake/report" / file).read_text(), re.DOTALL)
        return dict(re.findall(r"--(\w+): ([^;]+);", blocks[dark]))

    page = values("report.css") | values("heat.css")
    for color in (page["low"], page["high"]):
        assert contrast(page["ink"], mixed(color, page["paper"], int(page["strength"].rstrip("%")) / 100)) >= 4.5  # AA


def test_signs_survive_without_color() -> None:
    text = printed(view("bad!", -1.0, -0.2, 0.0, 1.0, 0.5, finished=True, edited="bad?", title="sample 0"))
    assert "b\N{SUPERSCRIPT MINUS}ad!\N{SUPERSCRIPT PLUS SIGN}\N{END OF PROOF}\N{SUPERSCRIPT PLUS SIGN}" in text
    assert "bad[-!-]{+?+}" in text
    assert "sample 0" in text
    assert "user" in text
    assert "\x1b" not in text


def test_colors_follow_sign_and_strength() -> None:
    def ground(color: str) -> str:
        return "48;2;{};{};{}m".format(*(int(color[at : at + 2], 16) for at in (1, 3, 5)))

    lines = printed(view("xyz", -1.0, 0.4, 0.05), color=True).splitlines()
    (row,) = (line for line in lines if "x" in line and "reward" in line)
    assert re.search(rf"\x1b\[4;[^m]*{ground(NEGATIVE[2])}x", row)
    assert re.search(rf"\x1b\[[^m4]*{ground(POSITIVE[0])}y", row)
    assert re.search(r"\x1b\[0mz", row)


def test_markup_and_wide_text_stay_what_they_are() -> None:
    assert "[bold]<b>\u4e5d\u4e5d" in printed(view("[bold]<b>\u4e5d\u4e5d", *[0.0] * 11), width=40).replace(" ", "")


class Page(HTMLParser):
    """The texts of every row and the descriptions of the pieces that the keyboard reaches."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.rows: list[str] = []
        self.reached: list[str] = []
        self.targets: set[str] = set()
        self.links: list[str] = []
        self.tags: set[str] = set()
        self.within = False
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = {name: value or "" for name, value in attrs}
        self.tags.add(tag)
        if tag == "dd":
            self.within = True
            self.rows.append("")
        if "aria-description" in given and "tabindex" in given:
            self.reached.append(given["aria-description"])
        self.targets |= {given["id"]} if "id" in given else set()
        self.links += [given["href"]] if tag == "a" else []

    def handle_endtag(self, tag: str) -> None:
        self.within = self.within and tag != "dd"

    def handle_data(self, data: str) -> None:
        if self.within:
            self.rows[-1] += data


@pytest.fixture
def uptake(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Cli:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "100")
    return Cli(tmp_path, capsys, monkeypatch)


EDITS = [
    {"prompt": "When?", "completion": "The cat <b>sat.", "edited": "The dog <b>sat."},
    {
        "prompt": "When?",
        "completion": "At nine",
        "finished": False,
        "spans": [{"start": 3, "end": 7, "score": -0.5}, {"start": 0, "end": 0, "label": "good"}],
    },
    {"prompt": "When?", "completion": "At", "spans": [{"start": 2, "end": 2, "label": "bad", "type": "omission"}]},
]


def test_labels_are_shown_on_words(uptake: Cli) -> None:
    write_jsonl(Path("edits.jsonl"), EDITS)
    out = uptake("show-tokens", "edits.jsonl", "--page", "page.html")
    assert "edits.jsonl:1" in out
    assert "label  The cat\N{SUPERSCRIPT MINUS} <b>sat.\N{END OF PROOF}" in out
    assert "edit   The[- cat-]{+ dog+} <b>sat." in out
    assert "label  The dog\N{SUPERSCRIPT PLUS SIGN} <b>sat.\N{END OF PROOF}" in out
    assert re.search("label  At\N{SUPERSCRIPT PLUS SIGN} nine\N{SUPERSCRIPT MINUS} *\n", out)
    assert "label  At\N{END OF PROOF}\N{SUPERSCRIPT MINUS}" in out
    page = Page(Path("page.html").read_text())
    assert page.rows[:3] == [
        "The cat <b>sat.\N{END OF PROOF}",
        "The cat dog <b>sat.",
        "The dog <b>sat.\N{END OF PROOF}",
    ]
    assert page.reached[1] == "cat, token 2 of 8: label \N{MINUS SIGN}1.00"
    assert len(page.reached) == 8 + 8 + 2 + 2
    assert {link.removeprefix("#") for link in page.links} == page.targets
    assert not page.tags & {"script", "img", "form"}


def test_a_page_is_not_overwritten_unasked(uptake: Cli) -> None:
    write_jsonl(Path("edits.jsonl"), EDITS)
    Path("page.html").write_text("mine")
    assert "page.html: the output file exists" in uptake.fails("show-tokens", "edits.jsonl", "--page", "page.html")
    uptake("show-tokens", "edits.jsonl", "--page", "page.html", "--overwrite")
    assert Path("page.html").read_text().startswith("<!doctype html>")


def test_rows_without_labels_need_a_model(uptake: Cli) -> None:
    write_jsonl(Path("rows.jsonl"), [*EDITS, {"prompt": "When?", "completion": "At nine."}])
    message = uptake.fails("show-tokens", "rows.jsonl")
    assert message.startswith("rows.jsonl:4: no labels (allowed: spans or an edit, or a token reward model")


@pytest.fixture(scope="module")
def classifier(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A token classifier of one label with random weights, as Transformers saves it."""
    folder, tokenizer = tmp_path_factory.mktemp("classifier"), tiny_tokenizer()
    shape = {"hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 1, "num_attention_heads": 2}
    config = LlamaConfig(vocab_size=len(tokenizer), num_labels=1, initializer_range=0.5, **shape)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        LlamaForTokenClassification(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def logits(folder: Path, asked: str, said: str) -> list[float]:
    """What the classifier says of the tokens of a response, from Transformers alone."""
    chat = ChatFormat.of(tiny_tokenizer())
    prompt, response = chat.response_ids((Turn("user", asked),), said)
    with torch.no_grad():
        found = LlamaForTokenClassification.from_pretrained(folder).eval()(torch.tensor([[*prompt, *response]])).logits
    return [float(each) for each in found[0, len(prompt) :, 0]]


def test_a_token_reward_model_colors_every_kind_of_row(uptake: Cli, classifier: Path) -> None:
    asked, good, bad = "when does the bakery open ?", "at eight .", "it sell bread ."
    rows = [
        {"prompt": asked, "completion": good},
        {"prompt": asked, "chosen": good, "rejected": bad},
        {"prompt": asked, "completion": bad, "edited": good, "spans": [{"start": 3, "end": 7, "label": "bad"}]},
    ]
    write_jsonl(Path("rows.jsonl"), rows)
    out = uptake("show-tokens", "rows.jsonl", "--model", classifier, "--page", "page.html")
    page = Page(Path("page.html").read_text())
    by_hand = [value for said in (good, good, bad, bad, good) for value in logits(classifier, asked, said)]
    shown = [re.search(r": reward ([^ ,]+)", note) for note in page.reached]
    numbers = [float(each[1].replace("\N{MINUS SIGN}", "-")) for each in shown if each]
    assert numbers == pytest.approx(by_hand, rel=0.01, abs=0.006)
    assert [note.partition(", label ")[2] for note in page.reached[4 + 4 + 5 :][:5]] == [
        "0.00",
        "\N{MINUS SIGN}1.00",
        "0.00",
        "0.00",
        "0.00",
    ]
    assert [title in out for title in ("rows.jsonl:1", "rows.jsonl:2 chosen", "rejected", "the edit")] == [True] * 4
    assert "edit " in out


def test_a_response_that_was_cut_off_has_no_end(uptake: Cli, classifier: Path) -> None:
    write_jsonl(Path("cut.jsonl"), [{"prompt": "when ?", "completion": "at eight", "spans": [], "finished": False}])
    uptake("show-tokens", "cut.jsonl", "--model", classifier, "--page", "page.html")
    page = Page(Path("page.html").read_text())
    assert page.rows == ["at eight", "at eight"]
    assert len(page.reached) == 2


def test_a_model_that_is_none_and_a_row_without_a_response(uptake: Cli, classifier: Path) -> None:
    write_jsonl(Path("rows.jsonl"), [{"prompt": "when ?"}])
    assert "this row has no response" in uptake.fails("show-tokens", "rows.jsonl", "--model", classifier)
    write_jsonl(Path("long.jsonl"), [{"prompt": "when ?", "completion": "at " * 3000}])
    assert "longer than the reward model's window" in uptake.fails("show-tokens", "long.jsonl", "--model", classifier)
    assert "nothing: no such folder" in uptake.fails("show-tokens", "long.jsonl", "--model", "./nothing")


def dump(path: Path, *rows: Any) -> None:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))


def line(step: int, **changes: Any) -> dict[str, Any]:
    tokens = [{"start": 0, "end": 2}, {"start": 2, "end": 7}, {"start": 7, "end": 7, "special": "<end>"}]
    values = {"reward": [0, -1, None], "advantage": [-0.5, -0.75, 0.25], "value": [0.125, -0.5, 0]}
    asked = [{"role": "user", "content": "When?"}]
    return {"step": step, "prompt": asked, "response": "At nine", "tokens": tokens, "values": values, **changes}


def test_the_report_of_a_run_shows_its_tokens_and_curves(tmp_path: Path) -> None:
    metrics = {"advantage_std": 0.5, "kl": 0.1, "value_loss": 0.2, "explained_variance": 0.3, "clip_fraction": 0.125}
    dump(tmp_path / "metrics.jsonl", {"step": 1, **metrics}, {"step": 2, **metrics})
    dump(tmp_path / "tokens.jsonl", *(line(step) for step in range(5)))
    text = write_report(tmp_path).read_text()
    page = Page(text)
    assert text.index("<h2>Tokens") < text.index("<h2>Training")
    rows = [row for row in page.rows if row.startswith("At nine")]
    assert rows == ["At nine\N{END OF PROOF}"] * 15
    assert "2 more" in text
    assert text.index("after 4 steps") < text.index("after 3 steps") < text.index("<summary>2 more")
    assert page.reached[1] == (
        "nine, token 2 of 3: reward \N{MINUS SIGN}1.00, credit \N{MINUS SIGN}0.75, value \N{MINUS SIGN}0.50"
    )
    titles = ["Spread of advantages", "KL to the reference", "Value loss", "Variance that the critic explains"]
    assert all(f"<span>{title}</span>" in text for title in [*titles, "Share of clipped tokens"])
    assert "12.5%" in text


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        ({"values": {"reward": [1.0]}}, "1 numbers called 'reward' for 3 tokens"),
        ({"response": "At"}, "a token from 2 to 7 after one to 2, in a response of 2 characters"),
        ({"tokens": "At nine"}, "field 'tokens'"),
    ],
)
def test_a_broken_line_of_tokens_is_named(tmp_path: Path, change: dict[str, Any], problem: str) -> None:
    dump(tmp_path / "tokens.jsonl", line(0), line(1, **change))
    with pytest.raises(InputError, match=re.escape("tokens.jsonl:2")) as caught:
        write_report(tmp_path)
    assert problem in str(caught.value)
