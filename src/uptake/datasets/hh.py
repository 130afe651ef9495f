"""HH-RLHF, what its subsets share: two conversations that differ in the last answer, of which one is preferred."""

from collections.abc import Iterator
from pathlib import Path
from typing import Literal

from pydantic import AliasChoices, AliasPath, BaseModel, Field, ValidationError

from uptake.data.turns import conversation
from uptake.datasets.items import Comparison, to_comparison
from uptake.datasets.parse import Records, hub_file, prompt, rows, table
from uptake.errors import InputError
from uptake.types import Dialogue, Preference, Turn, Where


class _Pair(BaseModel):
    """Two texts with "Human:" and "Assistant:" marks, as two columns or as one list."""

    chosen: str = Field(validation_alias=AliasChoices("chosen", AliasPath("text", 0)))
    rejected: str = Field(validation_alias=AliasChoices("rejected", AliasPath("text", 1)))


class _Split(BaseModel):
    """Rows of the data file, counted from 0."""

    train: set[int]
    test: set[int]


def part(folder: Path, name: Literal["train", "test"]) -> Iterator[Comparison | str]:
    """Comparisons in the file "test" that split.json gives to a part."""
    path = folder / "split.json"
    try:
        split = _Split.model_validate_json(path.read_bytes())
    except (OSError, ValidationError) as error:
        raise InputError(f"no split: {error}", path=path, allowed='{"train": [0, 2], "test": [1]}') from error
    lines = getattr(split, name)
    return pairs((where, record) for where, record in table(folder, "test") if where.line - 1 in lines)


def preferences(folder: Path) -> Iterator[Preference | str]:
    """Preferences of the part "train"."""
    for row in part(folder, "train"):
        yield Preference(row.prompt, *row.responses) if isinstance(row, Comparison) else row


def conversations(folder: Path) -> Iterator[Dialogue]:
    """Preferred conversations of the part "train"."""
    for row in preferences(folder):
        if isinstance(row, Preference):
            yield (*row.prompt.turns, Turn("assistant", row.chosen))


def subset(name: str) -> Iterator[Comparison | str]:
    """Comparisons in the test file of a subset on the Hub."""
    return pairs(hub_file("Anthropic/hh-rlhf", f"{name}/test.jsonl.gz"))


def pairs(found: Records) -> Iterator[Comparison | str]:
    """One comparison a record, the preferred answer first."""
    for where, pair in rows(found, _Pair):
        yield _compared(pair, where)


def _compared(pair: _Pair, where: Where) -> Comparison | str:
    try:
        chosen, rejected = (conversation(text, where, "text") for text in (pair.chosen, pair.rejected))
    except InputError:
        return "no conversation by turns"
    if chosen[:-1] != rejected[:-1] or (chosen[-1].role, rejected[-1].role) != ("assistant", "assistant"):
        return "not two answers to one prompt"
    return to_comparison(prompt(chosen[:-1], where), (chosen[-1].content, rejected[-1].content), 1.0, where)
