"""Records of items: the columns that a row of a data set has in a file, its question, and its split."""

from typing import Any

from uptake.data import to_record
from uptake.datasets.items import Candidates, Comparison, Feedback, Rating
from uptake.support.keys import prompt_key
from uptake.types import Answered, Dialogue, Edited, Preference, Prompt, Split

DataRow = Comparison | Rating | Candidates | Preference | Feedback | Edited


def question_of(row: DataRow) -> Dialogue:
    """Turns before the response that a row is about."""
    match row:
        case Feedback():
            return row.dialogue[:-2]
        case Rating():
            return row.dialogue[:-1]
    return row.prompt.turns


def split_of_row(row: DataRow | Dialogue) -> Split:
    """Split of a row: what is evaluated is held out."""
    match row:
        case Feedback():
            return row.split
        case Edited():
            split: Split = row.prompt.extra["split"]
            return split
        case Comparison() | Rating() | Candidates():
            return "heldout"
    return "train"


def record_of(row: DataRow, source: str) -> dict[str, Any]:
    """Columns of a row, with its `source`, the name of the set; those that are empty are left out.

    A comparison has the response that more people prefer as `chosen`, and their share as `p`.
    """
    match row:
        case Feedback():
            messages = [{"role": turn.role, "content": turn.content} for turn in row.dialogue]
            return {"messages": messages, **_given(source=source, polarity=row.polarity, rating=row.rating)}
        case Preference() | Edited():
            return to_record(row) | {"source": source}
        case Candidates():
            more = _given(source=source, group=row.group, responses=row.responses, qualities=row.qualities)
            return to_record(row.prompt) | more
        case Comparison():
            chosen, rejected = row.responses if row.preference >= 0.5 else row.responses[::-1]
            more = _given(source=source, group=row.group, p=max(row.preference, 1 - row.preference))
            return to_record(Preference(row.prompt, chosen, rejected)) | more
    *turns, response = row.dialogue
    more = _given(source=source, group=row.group, ratings=row.ratings, level=row.level, answered_by=row.system)
    prompt = Prompt(tuple(turns), prompt_key(tuple(turns)), row.where)
    return to_record(Answered(prompt, response.content)) | more | _given(follow_up=row.follow_up)


def _given(**columns: Any) -> dict[str, Any]:
    return {name: value for name, value in columns.items() if value not in (None, "")}
