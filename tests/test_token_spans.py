"""Spans on tokens: the golden table, what every tokenizer keeps, and where a response lies in a chat."""

from functools import cache
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
from transformers import PreTrainedTokenizerFast

from uptake.data import ChatFormat
from uptake.data.response_tokens import ResponseTokens, response_tokens
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
    assert place_rewards([Span(12, 12, -1.0)], A[:-1]).values == (0, 0, 0, -1)
    assert place_rewards([Span(0, 0, -1.0)], []).lost == 1


def test_pieces_of_one_character_share_its_label_and_its_reward() -> None:
    pieces = [(0, 1), (0, 1), (1, 2)]
    assert place_labels([Span(0, 1, -1.0)], pieces).values == (-1, -1, 0)
    assert place_rewards([Span(0, 1, -1.0)], pieces).values == (-0.5, -0.5, 0)
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
    assert not found.merged


def test_a_template_that_strips_the_response_keeps_its_offsets() -> None:
    stripping = TEMPLATE.replace("message['content']", "message['content'] | trim")
    for kind in KINDS:
        found = response_tokens(chat(kind, stripping), TURNS, "  the cat ")
        plain = response_tokens(chat(kind), TURNS, "the cat")
        assert found.ids == plain.ids
        assert pieces(found, "  the cat ")[0].strip() == pieces(plain, "the cat")[0]
        assert found.offsets[-1] == (9, 11)


def test_a_template_that_changes_the_response_is_refused() -> None:
    changing = chat("bytes", TEMPLATE.replace("message['content']", "message['content'].replace('cat', 'dog')"))
    assert response_tokens(changing, TURNS, "the dog").offsets[-1] == (7, 8)
    with pytest.raises(InputError, match="changes the response"):
        response_tokens(changing, TURNS, "the cat")


def test_a_template_without_an_end_has_no_token_to_mark() -> None:
    endless = chat("bytes", TEMPLATE.replace("<end>", ""))
    with pytest.raises(ModelError, match="no end to mark"):
        response_tokens(endless, TURNS, "the cat")
    assert response_tokens(endless, TURNS, "the cat", finished=False).offsets[-1][1] == 7


def test_a_token_that_joins_prompt_and_response_is_the_response_s() -> None:
    """The generation prompt ends with a blank, which the byte tokenizer joins with the first word."""
    template = TEMPLATE.replace("<assistant>", "Bot: ").replace("<{{ message['role'] }}>", "Bot: ")
    found = response_tokens(chat("bytes", template), TURNS, "the cat")
    assert found.merged
    tokens = chat("bytes").tokenizer.convert_ids_to_tokens(list(found.ids))
    assert tokens[0].startswith("Ġt")
    assert pieces(found, "the cat")[0] == tokens[0].removeprefix("Ġ")
