"""What the files of this room share: records from a folder or the Hub, rows of a schema, prompts and comparisons."""

from collections.abc import Iterator
from pathlib import Path
from typing import TypeVar

from huggingface_hub import hf_hub_download
from pydantic import BaseModel, ValidationError

from uptake.benchmarks.items import Comparison
from uptake.data.files import records
from uptake.data.where import Record, bad_row
from uptake.errors import InputError
from uptake.support.keys import prompt_key
from uptake.types import Dialogue, Prompt, Turn, Where

Records = Iterator[tuple[Where, Record]]
Schema = TypeVar("Schema", bound=BaseModel)

_ENDINGS = (".jsonl.gz", ".jsonl", ".json", ".csv", ".parquet")


def table(folder: Path, name: str) -> Records:
    """The records of the file called `name` in a folder, whatever its format; InputError where there is none."""
    for ending in _ENDINGS:
        if (path := folder / f"{name}{ending}").is_file():
            return records(path)
    raise InputError(f"no file {name!r}", path=folder, allowed=", ".join(f"{name}{ending}" for ending in _ENDINGS))


def hub(name: str, split: str) -> Records:
    """The records of one split of a data set on the Hub; InputError, with one line why, where they cannot be had."""
    import datasets  # noqa: PLC0415 - takes long to import, and no local file needs it

    try:
        rows = datasets.load_dataset(name, split=split)
    except (datasets.exceptions.DatasetsError, OSError, RuntimeError, ValueError) as error:
        raise _not_had(name, f"split {split!r}", error) from error
    return ((Where(Path(name), number), row) for number, row in enumerate(rows, start=1))


def hub_file(name: str, file: str) -> Records:
    """The records of one file of a data set on the Hub; InputError, with one line why, where it cannot be had."""
    try:
        path = hf_hub_download(name, file, repo_type="dataset")
    except OSError as error:
        raise _not_had(name, f"file {file!r}", error) from error
    return records(path)


def rows(found: Records, schema: type[Schema]) -> Iterator[tuple[Where, Schema]]:
    """Records as rows of one schema; InputError for a record of another form."""
    for where, record in found:
        try:
            row = schema.model_validate(record)
        except ValidationError as error:
            first = error.errors()[0]
            raise bad_row(first["msg"], where, field=".".join(map(str, first["loc"]))) from error
        yield where, row


def prompt(said: str | Dialogue, where: Where) -> Prompt:
    """A prompt of one user turn, or of a conversation that ends with one."""
    turns = (Turn("user", said),) if isinstance(said, str) else said
    return Prompt(turns, prompt_key(turns), where)


def instruction(task: str, given: str) -> str:
    """A task and what it is to be done on, if anything, as one user turn."""
    return f"{task}\n\n{given}" if given.strip() else task


def comparison(
    asked: Prompt, responses: tuple[str, str], preference: float, where: Where, group: str = ""
) -> Comparison | str:
    """A comparison, or why there is none: a blank prompt or response, or two responses that are the same."""
    first, second = (response.strip() for response in responses)
    if not asked.turns[-1].content.strip():
        return "no prompt"
    if not first or not second:
        return "no response"
    if first == second:
        return "the same response twice"
    return Comparison(asked, responses, preference, group, where)


def _not_had(name: str, what: str, error: Exception) -> InputError:
    why = next(iter(str(error).splitlines()), type(error).__name__)
    return InputError(f"{what} cannot be had from the Hub: {why}", path=name)
