"""Parsing of data sets: records from a folder or the Hub, rows of a schema, and texts as turns of a conversation."""

from collections.abc import Iterable, Iterator, Sequence
from itertools import cycle, groupby
from pathlib import Path
from typing import TypeVar

from huggingface_hub import hf_hub_download
from pydantic import BaseModel, ValidationError

from uptake.data.files import read_file
from uptake.data.where import Record, bad_row
from uptake.errors import InputError
from uptake.support.keys import prompt_key
from uptake.types import Dialogue, Prompt, Role, Turn, Where

Records = Iterator[tuple[Where, Record]]
Schema = TypeVar("Schema", bound=BaseModel)

_ENDINGS = (".jsonl.gz", ".jsonl", ".json", ".csv", ".parquet")


def table(folder: Path, name: str) -> Records:
    """Records of the file called `name` in a folder, whatever its format; InputError where there is none."""
    for ending in _ENDINGS:
        if (path := folder / f"{name}{ending}").is_file():
            return read_file(path)
    raise InputError(f"no file {name!r}", path=folder, allowed=", ".join(f"{name}{ending}" for ending in _ENDINGS))


def hub(name: str, split: str) -> Records:
    """Records of one split of a data set on the Hub; InputError, with one line why, where they cannot be had."""
    import datasets  # noqa: PLC0415 - takes long to import, and no local file needs it

    try:
        rows = datasets.load_dataset(name, split=split)
    except (datasets.exceptions.DatasetsError, OSError, RuntimeError, ValueError) as error:
        raise _not_had(name, f"split {split!r}", error) from error
    return ((Where(Path(name), number), row) for number, row in enumerate(rows, start=1))


def hub_file(name: str, file: str) -> Records:
    """Records of one file of a data set on the Hub; InputError, with one line why, where it cannot be had."""
    try:
        path = hf_hub_download(name, file, repo_type="dataset")
    except OSError as error:
        raise _not_had(name, f"file {file!r}", error) from error
    return read_file(Path(path))


def rows(found: Records, schema: type[Schema]) -> Iterator[tuple[Where, Schema]]:
    """Records as rows of one schema; InputError for a record of another form."""
    for where, record in found:
        try:
            row = schema.model_validate(record)
        except ValidationError as error:
            first = error.errors()[0]
            raise bad_row(first["msg"], where, field=".".join(map(str, first["loc"]))) from error
        yield where, row


def prompt(text: str | Dialogue, where: Where) -> Prompt:
    """A prompt of one user turn, or of a conversation that ends with one."""
    turns = (Turn("user", text),) if isinstance(text, str) else text
    return Prompt(turns, prompt_key(turns), where)


def instruction(task: str, given: str) -> str:
    """A task and what it is to be done on, if anything, as one user turn."""
    return f"{task}\n\n{given}" if given.strip() else task


def joined(turns: Iterable[Turn]) -> Dialogue:
    """Turns in alternation, the user's first: those of one role in a row are joined by line breaks.

    Blank turns go, and what the assistant says before the user's first turn.
    """
    runs = groupby((turn for turn in turns if turn.content.strip()), key=lambda turn: turn.role)
    whole = [Turn(role, "\n".join(turn.content for turn in run)) for role, run in runs]
    return tuple(whole[1:] if whole and whole[0].role == "assistant" else whole)


def context(lines: Sequence[str]) -> Dialogue:
    """Lines of two people by turns, of which the last is the user's.

    A first line that would be the assistant's is the user's too: who speaks is arbitrary here, and nothing that people
    saw when they rated the response may be missing.
    """
    roles: Iterator[Role] = cycle(("user", "assistant"))
    *turns, opening = (Turn(role, line.strip()) for role, line in zip(roles, reversed(lines), strict=False))
    return joined((Turn("user", opening.content), *reversed(turns)))


def _not_had(name: str, what: str, error: Exception) -> InputError:
    why = next(iter(str(error).splitlines()), type(error).__name__)
    return InputError(f"{what} cannot be had from the Hub: {why}", path=name)
