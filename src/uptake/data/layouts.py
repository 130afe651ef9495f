"""Rows as other tools write them, made rows of `to_row`: one entry a tool, known by columns that no other has."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from uptake.data import chat_layouts as chats
from uptake.data import exports
from uptake.data.where import Record
from uptake.types import Where

# The columns of our own shapes: a row that has one of them needs no entry that would make it anew.
_OURS: Final = frozenset({"messages", "prompt", "completion"})


@dataclass(frozen=True)
class ToolLayout:
    """Layout of the rows of a tool: `ToolLayout("ShareGPT", ("conversations",), "`messages`", sharegpt)`.

    A row has it that has all of its `columns`, of which those with a star end as is said. `becomes` is for the
    documentation. `rows` makes of a record those that it holds: one, or one for every annotator. A layout `beside_ours`
    is found in rows that have our columns, too.
    """

    name: str
    columns: tuple[str, ...]
    becomes: str
    rows: Callable[[Record, Where | None], list[Record]]
    beside_ours: bool = False

    def fits(self, record: Record) -> bool:
        """Whether a record has this layout, and not one of ours."""
        if not self.beside_ours and not _OURS.difference(self.columns).isdisjoint(record):
            return False
        return all(
            name in record if name[0] != "*" else any(column.endswith(name[1:]) for column in record)
            for name in self.columns
        )


# What holds rows of any shape, with what was said of them.
EXPORTS: Final = (
    ToolLayout("Label Studio (JSON)", ("data", "annotations"), "a row for every annotation", exports.label_studio),
    ToolLayout("Argilla (`to_json`)", ("fields", "responses"), "a row for every annotator", exports.argilla),
    ToolLayout(
        "Argilla (`to_datasets`)",
        ("*.responses",),
        "a row for every annotator",
        exports.argilla_table,
        beside_ours=True,
    ),
    ToolLayout("OpenAI batch requests", ("custom_id", "body"), "`messages` or `prompt`, `tools`", chats.batch_request),
    ToolLayout("OpenAI batch results", ("custom_id", "response"), "an error: no question is there", chats.batch_result),
)
LAYOUTS: Final = (
    ToolLayout("ShareGPT, LLaMA-Factory", ("conversations",), "`messages`, or a pair or label", chats.sharegpt),
    ToolLayout("LMSYS-Chat, WildChat", ("conversation",), "`messages`", chats.chat_log),
    ToolLayout("Chatbot Arena", ("conversation_a", "conversation_b", "winner"), "`chosen`, `rejected`", chats.arena),
    ToolLayout("LMSYS arena, 55k", ("prompt", "response_a", "response_b", "winner_tie"), "the same", chats.arena_table),
    ToolLayout(
        "OpenAI preferences", ("input", "preferred_output", "non_preferred_output"), "the same", chats.preferences
    ),
    ToolLayout("Alpaca", ("instruction",), "`prompt`, `completion`, or a pair or label", chats.alpaca),
)


def exported(record: Record, where: Where | None) -> list[Record]:
    """The records that an export holds, without nulls: those of one task; any other record is the only one.

    Raises InputError with place and field for a record that has the layout of an export and is broken.
    """
    return _read(EXPORTS, {name: value for name, value in record.items() if value is not None}, where)


def laid_out(record: Record, where: Where | None, columns: Mapping[str, str]) -> list[Record]:
    """The records of `to_row` that a record of any known layout holds; one of ours is as it was.

    `columns` gives the names that some of our columns have in the record: they come before what a layout says. Raises
    InputError with place and field for a record that has a layout and is broken, or in which nothing is preferred.
    """
    if columns:
        rest = {name: value for name, value in record.items() if name not in (*columns, *columns.values())}
        record = {**rest, **{ours: record[theirs] for ours, theirs in columns.items() if theirs in record}}
    return _read(LAYOUTS, record, where)


def _read(layouts: Sequence[ToolLayout], record: Record, where: Where | None) -> list[Record]:
    return next((layout.rows(record, where) for layout in layouts if layout.fits(record)), [record])
