"""Look at responses token by token: what a token reward model says of them, or what they are labelled with."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from math import isfinite

from uptake.data import ChatFormat, Token, TokenView
from uptake.data.convert import as_texts, responses
from uptake.data.response_tokens import response_tokens
from uptake.data.token_views import join
from uptake.data.where import bad_row
from uptake.edits.units import split_words
from uptake.errors import InputError, ModelError
from uptake.models import LanguageModel
from uptake.ops.spans import place_labels
from uptake.ops.token_labels import token_labels
from uptake.report.heat import align_words
from uptake.rewards.token_reward import reward_tokens
from uptake.support.progress import progress_bar
from uptake.types import Dialogue, Edited, Preference, Prompt, Rollout, Row, Span

TokenRow = tuple[float, ...]
Places = list[tuple[int, int]]

# Responses that are scored together.
CHUNK = 32


@dataclass(frozen=True)
class Side:
    """One response of a row: what is shown above it, its labels as spans and its edit, where the row has them."""

    prompt: Prompt
    text: str
    title: str
    context: Dialogue
    spans: Sequence[Span] | None = None
    edited: str | None = None
    finished: bool = True


def labeled_views(rows: Sequence[Row]) -> list[TokenView]:
    """The responses of edited rows with their labels on words, each followed by its edit with the edit's labels.

    Where a row has no spans, labels follow from comparing both texts word by word. Raises InputError for a row of
    another kind.
    """
    views: list[TokenView] = []
    for row in rows:
        if not isinstance(row, Edited):
            where = row.where if isinstance(row, Prompt) else row.prompt.where
            allowed = "spans or an edit, or a token reward model to score with (--model)"
            raise bad_row("no labels", where, allowed=allowed)
        views += [_labeled(side, labels) for side, labels in zip(_sides(row), _compared(row), strict=False)]
    return views


def scored_views(rows: Sequence[Row], model: LanguageModel) -> list[TokenView]:
    """Every response of rows with what a token reward model says of each of its tokens.

    Of a preference both responses, of an edited row the response and its edit; rows that have spans show their labels
    too. Raises InputError for a row without a response or too long for the model, and ModelError for a value that is
    not finite.
    """
    chat, sides = ChatFormat.of(model), [side for row in rows for side in _sides(row)]
    views: list[TokenView] = []
    with progress_bar("score", len(sides)) as bar:
        for start in range(0, len(sides), CHUNK):
            chunk = sides[start : start + CHUNK]
            views += _scored(chunk, chat, model)
            bar.advance(len(chunk))
    return views


def _sides(row: Row) -> Iterator[Side]:
    if isinstance(row, Edited):
        turns = row.prompt.turns
        yield Side(row.prompt, row.response, _location(row.prompt), turns, row.spans, row.edited, row.finished)
        if row.edited is not None:
            yield Side(row.prompt, row.edited, "the edit", (), row.edited_spans)
        return
    texts = responses(as_texts(row))
    prompt = row if isinstance(row, Prompt) else row.prompt
    if not isinstance(row, Preference):
        yield Side(prompt, texts[0], _location(prompt), prompt.turns)
        return
    yield Side(prompt, texts[0], f"{_location(prompt)} chosen".strip(), prompt.turns)
    yield Side(prompt, texts[1], "rejected", ())


def _location(prompt: Prompt) -> str:
    """The file and line of a row, where they are known."""
    return f"{prompt.where.path.name}:{prompt.where.line}" if prompt.where is not None else ""


def _scored(sides: Sequence[Side], chat: ChatFormat, model: LanguageModel) -> Iterator[TokenView]:
    read = [
        response_tokens(chat, side.prompt.turns, side.text, finished=side.finished, where=side.prompt.where)
        for side in sides
    ]
    rollouts = [
        Rollout(side.prompt, found.prompt_ids, found.ids, side.text, side.finished, source="dataset")
        for side, found in zip(sides, read, strict=True)
    ]
    for side, found, values in zip(sides, read, reward_tokens(model, chat, rollouts), strict=True):
        if isinstance(values, InputError):
            raise bad_row(values.problem, side.prompt.where, allowed=f"a response that fits {model.name}")
        if not all(map(isfinite, values)):
            raise ModelError(f"{model.name}: a value that is not finite for {side.title or side.prompt.key}")
        rows = {"reward": values}
        if side.spans is not None:
            rows["label"] = place_labels(side.spans, found.offsets).values
        spelled = [str(token) for token in chat.tokenizer.convert_ids_to_tokens(list(found.ids))]
        yield _view(side, join(found.offsets, spelled, len(side.text)), rows)


def _compared(row: Edited) -> tuple[TokenRow, TokenRow]:
    """Labels of the words of both texts, the end of the turn included where there is one."""
    old, new = split_words(row.response), split_words(row.edited or "")
    labels = token_labels(align_words(old, new, ends=(row.finished, True)))
    return labels.old, labels.new


def _labeled(side: Side, compared: TokenRow) -> TokenView:
    """A response with its spans on words or, without spans, what comparing gave."""
    size = len(side.text)
    places = [*_cut(side.text, side.spans or ()), *[(size, size + 1)] * side.finished]
    values = compared if side.spans is None else place_labels(side.spans, places).values
    return _view(side, join(places, ["end"] * len(places), size), {"label": values})


def _view(side: Side, tokens: tuple[Token, ...], values: dict[str, TokenRow]) -> TokenView:
    return TokenView(side.context, side.text, tokens, values, side.edited, side.title)


def _cut(text: str, spans: Sequence[Span]) -> Places:
    """The words of a text, cut where a span begins or ends; blanks go with the word after them."""
    edges = {edge for span in spans for edge in (span.start, span.end)}
    at = 0
    for word in split_words(text):
        edges |= {at, at + len(word)}
        at += len(word)
    ordered = sorted(edges)
    blank = {end for start, end in pairwise(ordered) if end < len(text) and text[start:end].isspace()}
    return list(pairwise(edge for edge in ordered if edge not in blank))
