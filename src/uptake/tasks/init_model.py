"""Model from scratch: a tokenizer learned from a corpus, and random weights, in a folder."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from uptake.data import prompts, read
from uptake.data.convert import responses
from uptake.data.lock import check_unlocked, locked
from uptake.errors import InputError
from uptake.models import LanguageModel, save_model
from uptake.models.init import CHAT_TEMPLATE, init_dialogue_model
from uptake.types import Prompt, Row


def init_model(
    corpus: str | Path,
    folder: str | Path,
    *,
    vocabulary: int = 4096,
    width: int = 256,
    layers: int = 6,
    window: int = 512,
    seed: int = 0,
    columns: Mapping[str, str] | None = None,
) -> LanguageModel:
    """Learn a tokenizer from the rows of `corpus`, and save it in `folder` with a Llama of random weights.

    Raises InputError for sizes that make no model, and for a folder that exists.
    """
    check_unlocked(Path(folder))
    if Path(folder).exists():
        raise InputError("the folder exists", path=folder, allowed="a new path")
    with locked(Path(folder)):
        texts = _texts(read(corpus, columns=columns))
        lm = init_dialogue_model(texts, vocabulary=vocabulary, width=width, layers=layers, window=window, seed=seed)
        save_model(lm, CHAT_TEMPLATE, Path(folder))
    return lm


def _texts(rows: Sequence[Row]) -> Iterator[str]:
    """Every turn of every row, responses included."""
    for row, prompt in zip(rows, prompts(rows), strict=True):
        yield from (turn.content for turn in prompt.turns)
        yield from () if isinstance(row, Prompt) else responses(row)
