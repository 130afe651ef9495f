"""Look at responses token by token: what a token reward model says of them, or what they are labelled with."""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import pairwise

from uptake.data import Token, TokenView
from uptake.data.place import bad_row
from uptake.ops.spans import place_labels
from uptake.ops.token_labels import token_labels
from uptake.report.heat import align_words, split_words
from uptake.types import Dialogue, Edited, Prompt, Row, Span

Values = tuple[float, ...]
Places = list[tuple[int, int]]


def labeled_views(rows: Sequence[Row]) -> list[TokenView]:
    """The responses of edited rows with their labels on words, each followed by its edit with the edit's labels.

    Where a row has no spans, labels follow from comparing both texts word by word. Raises InputError for a row of
    another kind.
    """
    return [view for row in rows for view in _labeled(row)]


def _labeled(row: Row) -> Iterator[TokenView]:
    if not isinstance(row, Edited):
        where = row.where if isinstance(row, Prompt) else row.prompt.where
        raise bad_row("no labels", where, allowed="spans or an edit, or a token reward model to score with (--model)")
    compared = _compared(row)
    yield _view(row, compared[0], row.prompt.turns, place_of(row))
    if row.edited is not None:
        edit = replace(row, response=row.edited, spans=row.edited_spans, edited=None, finished=True)
        yield _view(edit, compared[1], (), "the edit")


def place_of(row: Edited) -> str:
    """The file and line of a row, where they are known."""
    where = row.prompt.where
    return f"{where.path.name}:{where.line}" if where is not None else ""


def _compared(row: Edited) -> tuple[Values, Values]:
    """Labels of the words of both texts, the end of the turn included where there is one."""
    old, new = split_words(row.response), split_words(row.edited or "")
    labels = token_labels(align_words(old, new, ends=(row.finished, True)))
    return labels.old, labels.new


def _view(row: Edited, compared: Values, asked: Dialogue, title: str) -> TokenView:
    """The response of a row with its spans on words or, without spans, what comparing gave."""
    text, size = row.response, len(row.response)
    places = _cut(text, row.spans or ())
    closed: Places = [*places, *[(size, size + 1)] * row.finished]
    values = compared if row.spans is None else place_labels(row.spans, closed).values
    tokens = (*(Token(*place) for place in places), *[Token(size, size, "end")] * row.finished)
    return TokenView(asked, text, tokens, {"label": values}, row.edited, title)


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
