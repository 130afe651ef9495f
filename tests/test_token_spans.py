"""Spans on tokens: the golden table, what every tokenizer keeps, and which characters a token is, read or sampled."""

from functools import cache
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
from transformers import PreTrainedTokenizerFast
from transformers.convert_slow_tokenizer import bytes_to_unicode

from uptake.data import ChatFormat, token_view
from uptake.data.response_tokens import ResponseTokens, _filled, decoded, response_tokens, sampled_offsets
from uptake.errors import InputError, ModelError
from uptake.ops.spans import as_spans, place_labels, place_rewards
from uptake.types import Span, Turn

# "The cat sat." under two tokenizers, with the end of the turn after it.
A = [(0, 3), (3, 7), (7, 11), (11, 12), (12, 13)]
B = [(0, 2), (2, 5), (5, 8), (8, 12), (12, 13)]
GOLDEN = [
    ((4, 7), A, (0, -1, 0, 0, 0), (0, -1, 0, 0, 0)),
    ((4, 7), B, (0, -1, -1, 0, 0), (0, -1 / 3, -2 / 3, 0, 0)),
    ((5, 9), A, (0, -1, -1, 0, 0), (0, -0.5, -0.5, 0, 0)),
    ((5, 9), B, (0, 0, -1, -1, 0), (0, 0, -0.75, -0.25, 0)),
    ((7, 7), A, (0, 0, -1, 0, 0), (0, 0, -1, 0, 0)),
    ((7, 7), B, (0, 0, -1, 0, 0), (0, 0, -1, 0, 0)),
    ((12, 12), A, (0, 0, 0, 0, -1), (0, 0, 0, 0, -1)),
    ((12, 12), B, (0, 0, 0, 0, -1), (0, 0, 0, 0, -1)),
]


@pytest.mark.parametrize(("place", "offsets", "labels", "rewards"), GOLDEN)
def test_golden_placements(place: tuple[int, int], offsets: Any, labels: Any, rewards: Any) -> None:
    span = Span(*place, -1.0)
    assert place_labels([span], offsets).values == labels
    assert place_rewards([span], offsets).values == pytest.approx(rewards, abs=1e-12)


def test_two_spans_on_one_token() -> None:
    """The larger magnitude, and of equals the negative, in whatever order they come."""
    for spans in ([Span(0, 1, 1.0), Span(1, 3, -1.0)], [Span(1, 3, -1.0), Span(0, 1, 1.0)]):
        assert place_labels(spans, A).values[0] == -1
    assert place_labels([Span(0, 1, -0.5), Span(1, 3, 0.7)], A).values[0] == 0.7
    assert place_labels([Span(0, 1, -0.5), Span(1, 3, 0.7)], A, majority=True).values[0] == 0.7
    assert place_labels([Span(4, 8, -1.0)], A, majority=True).values == (0, -1, 0, 0, 0)
    assert place_labels([Span(7, 7, -1.0)], A, majority=True).values == (0, 0, -1, 0, 0)


def test_an_omission_at_the_end_of_a_text_that_was_cut_off_is_lost() -> None:
    assert place_labels([Span(12, 12, -1.0)], A[:-1]) == type(place_labels([], A))((0, 0, 0, 0), 1)
    assert place_rewards([Span(12, 12, -1.0)], A[:-1]) == type(place_rewards([], A))((0, 0, 0, 0), 1)
    assert place_rewards([Span(0, 0, -1.0)], []).lost == 1
    assert place_rewards([Span(12, 12, 0.0)], A[:-1]).lost == 0


def test_pieces_of_one_character_share_its_label_and_its_reward() -> None:
    pieces = [(0, 1), (0, 1), (1, 2)]
    assert place_labels([Span(0, 1, -1.0)], pieces).values == (-1, -1, 0)
    assert place_rewards([Span(0, 1, -1.0)], pieces).values == (-0.5, -0.5, 0)
    # What is missing before a character has one token, the first of its pieces.
    assert place_rewards([Span(0, 0, -1.0)], pieces).values == (-1, 0, 0)
    assert as_spans((-1, -1, 1), pieces, 2) == (Span(0, 1, -1), Span(1, 2, 1))


# --- any text under three tokenizers ----------------------------------------------------------------------------------

CORPUS = ["The cat sat on the mat, and the dog sat down.", "It opens at eight; it sells bread and cakes.", "naïve café"]
TEMPLATE = (
    "{% for message in messages %}<{{ message['role'] }}>{{ message['content'] }}<end>{% endfor %}"
    "{% if add_generation_prompt %}<assistant>{% endif %}"
)
MARKS = ["<unk>", "<user>", "<assistant>", "<end>"]
TURNS = (Turn("user", "What sat?"),)


@cache
def chat(kind: str, template: str = TEMPLATE) -> ChatFormat:
    """A tokenizer trained on the spot: bytes with trimmed blanks, word pieces that drop blanks, or characters."""
    if kind == "bytes":
        tokenizer = Tokenizer(models.BPE())
        tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
        tokenizer.decoder = decoders.ByteLevel()
        tokenizer.post_processor = processors.ByteLevel(trim_offsets=True)
        alphabet = pre_tokenizers.ByteLevel.alphabet()
        trainer: Any = trainers.BpeTrainer(vocab_size=330, special_tokens=MARKS, initial_alphabet=alphabet)
    elif kind == "pieces":
        tokenizer = Tokenizer(models.WordPiece(unk_token="<unk>"))
        tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
        trainer = trainers.WordPieceTrainer(vocab_size=120, special_tokens=MARKS)
    else:
        tokenizer = Tokenizer(models.Unigram())
        trainer = trainers.UnigramTrainer(vocab_size=60, special_tokens=MARKS, unk_token="<unk>", max_piece_length=1)
    tokenizer.train_from_iterator(CORPUS, trainer)
    fast = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, eos_token="<end>", unk_token="<unk>", additional_special_tokens=MARKS[1:3]
    )
    return ChatFormat.of(fast, template)


TEXTS = st.text(max_size=20).filter(lambda text: text.strip() and "<" not in text)
# The letters that stand for bytes in a byte-level vocabulary, by byte.
BYTES = [bytes_to_unicode()[byte] for byte in range(256)]
KINDS = ("bytes", "pieces", "characters")


@settings(max_examples=60)
@given(TEXTS, st.data())
@example("a 👩‍👩‍👧 é 日本語 שלום\n  x", None)
def test_spans_survive_every_tokenizer(text: str, data: Any) -> None:
    size = len(text)
    cuts = sorted(data.draw(st.lists(st.integers(0, size), max_size=6))) if data else [2, 7, 8, 12]
    spans = [Span(start, end, -1.0) for start, end in zip(cuts[::2], cuts[1::2], strict=False)]
    for kind in KINDS:
        found = response_tokens(chat(kind), TURNS, text)
        assert found.prompt_ids + found.ids == whole(chat(kind), text)
        assert found.offsets[-1][1] == size + 1
        # Every code point has a token, and tokens come in order.
        covered = {place for start, end in found.offsets for place in range(start, end)}
        assert covered == set(range(size + 1))
        assert sorted(found.offsets) == list(found.offsets)
        rewards = place_rewards(spans, found.offsets).values
        assert sum(rewards) == pytest.approx(-len(spans), abs=1e-12)
        labels = place_labels(spans, found.offsets)
        assert labels.lost == 0
        for value, (start, end) in zip(labels.values, found.offsets, strict=True):
            touched = any(start < max(span.end, span.start + 1) and span.start < end for span in spans)
            assert value == -float(touched and start < end)
        again = place_labels(as_spans(labels.values, found.offsets, size), found.offsets)
        assert again == labels


@settings(max_examples=60)
@given(TEXTS, st.booleans())
@example("a 👩‍👩‍👧 é 日本語 שלום\n  x", True)
def test_what_was_read_and_what_was_sampled_have_the_same_offsets(text: str, finished: bool) -> None:
    """Of ids that the tokenizer itself would choose, its own offsets are those of the decoded text."""
    for kind in KINDS:
        tokenizer = chat(kind).tokenizer
        found = response_tokens(chat(kind), TURNS, text, finished=finished)
        spelled = tokenizer.decode(found.ids[: len(found.ids) - finished], clean_up_tokenization_spaces=False)
        if spelled.strip() == text.strip():
            assert sampled_offsets(tokenizer, found.ids, text, finished=finished) == list(found.offsets)
            assert kind != "bytes" or spelled == text
        else:
            assert kind != "bytes"
            with pytest.raises(InputError, match="the tokens spell"):
                sampled_offsets(tokenizer, found.ids, text, finished=finished)


@settings(max_examples=60)
@given(st.data(), st.booleans())
def test_whatever_ids_were_sampled_their_tokens_cover_the_text(data: Any, finished: bool) -> None:
    """Halves of characters, special tokens in between and ids that no tokenizer would choose among them."""
    for kind in KINDS:
        tokenizer = chat(kind).tokenizer
        ids_ = st.integers(0, len(tokenizer) - 1) | st.sampled_from(tokenizer.all_special_ids)
        if kind == "bytes":  # parts of characters are rare among all of its ids
            ids_ = ids_ | st.sampled_from([tokenizer.convert_tokens_to_ids(BYTES[byte]) for byte in "😀é".encode()])
        said = data.draw(st.lists(ids_, max_size=12))
        text = tokenizer.decode(said, skip_special_tokens=True, clean_up_tokenization_spaces=False)
        ids, size = [*said, *[tokenizer.eos_token_id] * finished], len(text)
        offsets = sampled_offsets(tokenizer, ids, text, finished=finished)
        assert len(offsets) == len(ids)
        assert {place for start, end in offsets for place in range(start, end)} == set(range(size + finished))
        plain = [place for place, each in zip(offsets, said, strict=False) if each not in tokenizer.all_special_ids]
        assert sorted(plain) == plain
        specials = [place for place, each in zip(offsets, said, strict=False) if each in tokenizer.all_special_ids]
        assert all(start == end for start, end in specials)
        assert not finished or offsets[-1] == (size, size + 1)
        marks = [Span(0, size, 2.0), *([Span(size, size, -1.0)] if size else [])]
        placed = place_rewards(marks, offsets)
        kept = 2.0 * bool(size or finished) - bool(size and finished)
        assert sum(placed.values) == pytest.approx(kept, abs=1e-12)
        # Anything that was sampled can be shown.
        view = token_view(chat(kind), TURNS, ids, {"reward": placed.values})
        assert (view.response, len(view.tokens)) == (text, len(ids)) or chat(kind).end_ids & {*said[-1:]}


@pytest.mark.parametrize("text", ["The cat sat.", "Grüße, 你好!", "a 👩‍👩‍👧 b", "", "  two  blanks ", "x\n\ny"])
def test_bytes_by_hand(text: str) -> None:
    """A byte of a character stands for that character, whichever bytes a tokenizer would have joined."""
    tokenizer = chat("bytes").tokenizer
    letters = [[tokenizer.convert_tokens_to_ids(BYTES[byte]) for byte in letter.encode()] for letter in text]
    ids = [each for letter in letters for each in letter]
    by_hand = [(place, place + 1) for place, letter in enumerate(letters) for _ in letter]
    assert sampled_offsets(tokenizer, ids, text, finished=False) == by_hand
    end = tokenizer.eos_token_id
    assert sampled_offsets(tokenizer, [*ids, end], text, finished=True) == [*by_hand, (len(text), len(text) + 1)]


def test_a_token_of_two_halves_stands_for_both_characters() -> None:
    """The end of one character and the beginning of the next, as byte pairs may join them."""
    tokenizer = Tokenizer(
        models.BPE({**{letter: place for place, letter in enumerate(BYTES)}, BYTES[0xA9] + BYTES[0xC3]: 256}, [])
    )
    tokenizer.decoder = decoders.ByteLevel()
    fast = PreTrainedTokenizerFast(tokenizer_object=tokenizer)
    assert sampled_offsets(fast, [0xC3, 256, 0xA8, ord("x")], "éèx", finished=False) == [(0, 1), (0, 2), (1, 2), (2, 3)]


def test_bytes_that_never_became_a_character_share_its_mark() -> None:
    tokenizer = chat("bytes").tokenizer
    smile = [tokenizer.convert_tokens_to_ids(BYTES[byte]) for byte in "😀".encode()]
    assert sampled_offsets(tokenizer, smile[:3], "\ufffd", finished=False) == [(0, 1)] * 3


def by_prefixes(tokenizer: Any, ids: list[int], size: int) -> list[tuple[int, int]]:
    """Offsets by the definition: of every prefix, how far it is decoded as the whole text is."""
    special, found, offset, start = {*tokenizer.all_special_ids}, list[tuple[int, int]](), (0, 0), 0
    texts = [
        tokenizer.decode(ids[:count], skip_special_tokens=True, clean_up_tokenization_spaces=False)
        for count in range(len(ids) + 1)
    ]
    for each, read in zip(ids, texts[1:], strict=True):
        stop = max(size for size in range(len(read) + 1) if texts[-1].startswith(read[:size]))
        end = min(stop + (stop < len(read)), size)
        offset = (start, end) if end > start else offset
        found.append((offset[1], offset[1]) if each in special else offset)
        start = start if each in special else max(start, stop)
    return found


@settings(max_examples=200)
@given(st.data())
def test_bytes_are_placed_as_by_every_prefix(data: Any) -> None:
    """Texts, halves of characters, bytes that are none, special tokens, and ids that no tokenizer would choose."""
    tokenizer = chat("bytes").tokenizer
    byte = st.sampled_from([tokenizer.convert_tokens_to_ids(letter) for letter in BYTES])
    some = [tokenizer.convert_tokens_to_ids(BYTES[each]) for each in "😀é\ufffd 日".encode()]
    text = st.text(max_size=6).map(lambda each: list(tokenizer(each, add_special_tokens=False)["input_ids"]))
    parts = st.lists(text | st.lists(byte | st.sampled_from(some) | st.integers(0, len(tokenizer) - 1), max_size=6))
    ids = [each for part in data.draw(parts) for each in part]
    spelled = decoded(tokenizer, ids)
    expected = _filled(by_prefixes(tokenizer, ids, len(spelled)), spelled, False)
    assert sampled_offsets(tokenizer, ids, spelled, finished=False) == expected


def test_the_bytes_of_a_long_response_are_decoded_a_few_times(monkeypatch: pytest.MonkeyPatch) -> None:
    tokenizer, read = chat("bytes").tokenizer, list[int]()

    def counted(tokenizer: Any, ids: Any) -> str:
        read.append(len(ids))
        return decoded(tokenizer, ids)

    monkeypatch.setattr("uptake.data.response_tokens.decoded", counted)
    text = "Grüße, 你好! 👩‍👩‍👧 The cat sat. " * 40
    ids = tokenizer(text, add_special_tokens=False)["input_ids"]
    sampled_offsets(tokenizer, ids, text, finished=False)
    assert sum(read) < 5 * len(ids)


def whole(chat: ChatFormat, text: str) -> tuple[int, ...]:
    rendered = chat.render((*TURNS, Turn("assistant", text)))
    return tuple(chat.tokenizer(rendered, add_special_tokens=False)["input_ids"])


def pieces(found: ResponseTokens, text: str) -> list[str]:
    return [text[start:end] for start, end in found.offsets]


def test_a_response_by_hand() -> None:
    found = response_tokens(chat("pieces"), TURNS, "the cat")
    assert "".join(pieces(found, "the cat")) == "the cat"
    assert found.offsets[-1] == (7, 8)
    unfinished = response_tokens(chat("pieces"), TURNS, "the cat", finished=False)
    assert unfinished.ids == found.ids[:-1]
    assert unfinished.offsets == found.offsets[:-1]


def test_a_template_that_strips_the_response_keeps_its_offsets() -> None:
    stripping = TEMPLATE.replace("message['content']", "message['content'] | trim")
    for kind in KINDS:
        found = response_tokens(chat(kind, stripping), TURNS, "  the cat ")
        plain = response_tokens(chat(kind), TURNS, "the cat")
        assert found.ids == plain.ids
        assert pieces(found, "  the cat ")[0].strip() == pieces(plain, "the cat")[0]
        assert found.offsets[-1] == (9, 11)
        if kind != "characters":  # which decode with a blank after every letter
            again = sampled_offsets(chat(kind).tokenizer, found.ids, "  the cat ", finished=True)
            assert again == list(found.offsets)


def test_a_template_that_changes_the_response_is_refused() -> None:
    changing = chat("bytes", TEMPLATE.replace("message['content']", "message['content'].replace('cat', 'dog')"))
    assert response_tokens(changing, TURNS, "the dog").offsets[-1] == (7, 8)
    with pytest.raises(InputError, match="changes the response"):
        response_tokens(changing, TURNS, "the cat")


def test_a_template_without_an_end_has_no_token_to_mark() -> None:
    endless = chat("bytes", TEMPLATE.replace("<end>", ""))
    with pytest.raises(ModelError, match="ends the assistant's turn without"):
        response_tokens(endless, TURNS, "the cat")
    assert response_tokens(endless, TURNS, "the cat", finished=False).offsets[-1][1] == 7


def test_a_prompt_that_a_token_would_join_to_the_response_is_as_it_is_sampled_from() -> None:
    """The generation prompt ends with a blank, which the byte tokenizer joins with the first word."""
    template = TEMPLATE.replace("<assistant>", "Bot: ").replace("<{{ message['role'] }}>", "Bot: ")
    found = response_tokens(chat("bytes", template), TURNS, "the cat")
    assert found.prompt_ids == chat("bytes", template).prompt_ids(TURNS)
    tokens = chat("bytes").tokenizer.convert_ids_to_tokens(list(found.ids))
    assert tokens[0].startswith("t")
    assert pieces(found, "the cat")[0] == tokens[0]
