"""Exports of annotation tools: the columns of a task, and beside them what each annotator answered to each question."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from itertools import zip_longest
from typing import Any, Final

from uptake.data.chat_layouts import preferred
from uptake.data.values import one_of
from uptake.data.where import Record, bad_row, without
from uptake.types import Where

# Where a result of Label Studio has its value, by the type of the result.
_VALUES: Final = {"choices": "choices", "textarea": "text", "rating": "rating", "number": "number", "labels": "labels"}
# Columns that are compared, by the names in the tools' own templates.
_COMPARED: Final = (
    ("answer1", "answer2"),
    ("text1", "text2"),
    ("response1", "response2"),
    ("response-1", "response-2"),
    ("response_a", "response_b"),
)


def label_studio(record: Record, where: Where | None) -> list[Record]:
    """A task of Label Studio: for every annotation that was not cancelled its data, and a column for each control.

    One of two that was selected makes a pair. A control without an answer of its type has its value as it is.
    """
    data, annotations = record["data"], record["annotations"]
    if not isinstance(data, Mapping) or not isinstance(annotations, list):
        raise bad_row("no task of Label Studio", where, field="data", allowed="data, an object, and a list annotations")
    columns = {**without(record, "data", "annotations"), **data}
    rows: list[Record] = []
    for each in annotations:
        results = each.get("result") if isinstance(each, Mapping) else None
        if not isinstance(results, list) or not all(isinstance(result, Mapping) for result in results):
            raise bad_row("an annotation without results", where, field="annotations", allowed="{result: [...]}")
        if not each.get("was_cancelled"):
            row = {**columns, **_answers(results, data, where)}
            rows.append(row | ({"annotator": each["completed_by"]} if "completed_by" in each else {}))
    return rows or [columns]


def _answers(results: Sequence[Mapping[str, Any]], data: Mapping[str, Any], where: Where | None) -> dict[str, Any]:
    """The columns of one annotation; the two that a pair compares stay beside it."""
    found: dict[str, list[Any]] = defaultdict(list)
    pair: dict[str, Any] = {}
    for result in results:
        value, kind, name = result.get("value"), result.get("type"), str(result.get("from_name"))
        if kind == "pairwise" and isinstance(value, Mapping):
            names = _compared(data, str(result.get("to_name")).split(","), where)
            better = {"left": 0, "right": 1}.get(str(value.get("selected")))
            pair = preferred([data[each] for each in names], better, where, name)
        elif isinstance(value, Mapping) and (key := one_of(_VALUES, kind)) and "start" not in value:
            inner = value.get(key)
            found[name] += inner if isinstance(inner, list) else [inner]
        else:
            found[name].append(value)
    return {**{name: values[0] if len(values) == 1 else values for name, values in found.items()}, **pair}


def _compared(data: Mapping[str, Any], names: Sequence[str], where: Where | None) -> Sequence[str]:
    for pair in (names, *_COMPARED):
        if len(pair) == 2 and all(name in data for name in pair):
            return pair
    known = "; ".join(", ".join(pair) for pair in _COMPARED)
    raise bad_row(f"which two are compared? the columns are: {', '.join(data)}", where, field="data", allowed=known)


def argilla(record: Record, where: Where | None) -> list[Record]:
    """A record of Argilla, as `to_json` writes it: its fields, and for every user a column for each question."""
    fields, responses = record["fields"], record["responses"]
    metadata = record.get("metadata") or {}
    if not all(isinstance(each, Mapping) for each in (fields, responses, metadata)):
        allowed = "objects fields, responses and metadata"
        raise bad_row("no record of Argilla", where, field="responses", allowed=allowed)
    columns = {**without(record, "fields", "responses", "metadata"), **metadata, **fields}
    given = [
        (name, each.get("user_id"), each.get("value"))
        for name, found in responses.items()
        for each in (found if isinstance(found, list) else [])
        if isinstance(each, Mapping)
    ]
    return _by_user(columns, given, where)


def argilla_table(record: Record, where: Where | None) -> list[Record]:
    """The same as a table, as `to_datasets` makes it: of a question its responses, their users and status, as lists.

    What a user has discarded, or not yet submitted, is none.
    """
    questions = [name.removesuffix(".responses") for name in record if name.endswith(".responses")]
    beside = ("responses", "responses.users", "responses.status")
    given = []
    for name in questions:
        values, users, status = (record.get(f"{name}.{each}") or [] for each in beside)
        if not all(isinstance(each, list) for each in (values, users, status)):
            raise bad_row("found another thing", where, field=f"{name}.responses", allowed="lists, one item a user")
        every = zip_longest(values, users, status)
        given += [(name, user, value) for value, user, state in every if state in (None, "submitted")]
    columns = without(record, *(f"{name}.{each}" for name in questions for each in beside))
    return _by_user(columns, given, where)


def _by_user(columns: Record, given: Sequence[tuple[str, Any, Any]], where: Where | None) -> list[Record]:
    """A row for every user, with what each answered; the columns alone where nobody did."""
    rows: dict[Any, dict[str, Any]] = {}
    for name, user, value in given:
        row = rows.setdefault(str(user), {**columns, **({} if user is None else {"annotator": user})})
        row |= _ranked(columns, value, where, name) or {name: value}
    return list(rows.values()) or [dict(columns)]


def _ranked(columns: Record, value: Any, where: Where | None, field: str) -> dict[str, Any]:
    """The pair that a ranking of two of the columns makes; none where the value is no such ranking."""
    ranks = [each for each in value if isinstance(each, Mapping)] if isinstance(value, list) else []
    names = [each.get("value") for each in ranks]
    if len(ranks) != 2 or not all(isinstance(name, str) and name in columns for name in names):
        return {}
    one, other = (each.get("rank") for each in ranks)
    if not (isinstance(one, int) and isinstance(other, int)):
        raise bad_row(f"found ranks {one!r} and {other!r}", where, field=field, allowed="whole numbers")
    better = None if one == other else int(one > other)
    return preferred([columns[str(name)] for name in names], better, where, field)
