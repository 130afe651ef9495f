"""Responses with their edits as the data set gives them, and every figure that tells whether the labels are sound."""

from collections import Counter
from collections.abc import Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from sys import maxsize
from typing import Any, Literal, get_args

from uptake.data.convert import as_texts
from uptake.data.response_tokens import response_tokens
from uptake.data.where import bad_row
from uptake.errors import InputError
from uptake.examples.edit_labels import EditCounts, EditLabels
from uptake.examples.recorded import each_row
from uptake.ops.token_labels import base_rate
from uptake.support.token_ids import compact, compact_labels
from uptake.types import Dropped, Edit, Edited, Marked, Preference, Prompt, RoundData, Row
from uptake.world import World

MultiEdit = Literal["average", "rows"]


@dataclass(frozen=True)
class EditedRows:
    """A marked response with its marked edits for every edited row.

    The rejected response of a preference counts as edited to the chosen one, too far to tell where. Prompt and response
    are read together, and the prompt is cut on the left where the longer side does not fit `max_tokens` or the policy's
    window. A row of which a side alone does not fit, or whose two sides come after different tokens, and a preference
    of equal responses are left out and counted. Rows of one `group` edit the same response: with `multi_edit` "average"
    they make one example, in which every token of the response has its mean label and every edit its own; with "rows",
    one each. The summary holds `q`, the chance that a good token has the label 1, labels by class and side with those
    of end-of-turn tokens by themselves, and counts of rows without a negative label, of omissions without a token and
    of alignments with others as good. Raises InputError for a row of any other kind.
    """

    labels: EditLabels = EditLabels()
    max_tokens: int = 512
    multi_edit: MultiEdit = "average"

    def __post_init__(self) -> None:
        if self.multi_edit not in get_args(MultiEdit):
            raise InputError(repr(self.multi_edit), field="multi_edit", allowed=", ".join(get_args(MultiEdit)))

    def __call__(self, world: World, round_: int) -> RoundData:
        groups: dict[Hashable, list[Edit]] = {}
        dropped: Counter[Dropped] = Counter()
        counts, samples = EditCounts(), 0
        for index, each in enumerate(each_row(world)):
            samples += 1
            row = as_edited(each)
            found = self.marked(world, row)
            if isinstance(found, Dropped):
                dropped[found] += 1
            else:
                edit, more = found
                groups.setdefault(self._key(index, row, edit), []).append(edit)
                counts = counts.plus(more)
        examples = [_joined(group) for group in groups.values()]
        count = samples - dropped.total()
        ended = world.chat.end_ids
        return RoundData(
            examples,
            {"samples": samples, "kept": count, "dropped": dict(dropped), **_figures(examples, counts, ended)},
        )

    def marked(self, world: World, row: Edited) -> tuple[Edit, EditCounts] | Dropped:
        """The example of a row by itself, with what its labels count."""
        if row.demoted and row.edited == row.response:
            return Dropped.EQUAL_RESPONSES
        texts = [row.response] if row.edited is None else [row.response, row.edited]
        turns, where = row.prompt.turns, row.prompt.where
        # An edit is whole, whatever became of the response.
        sides = [
            response_tokens(world.chat, turns, text, finished=row.finished or bool(index), where=where)
            for index, text in enumerate(texts)
        ]
        stem, longest = sides[0].prompt_ids, max(len(side.ids) for side in sides)
        room = min(self.max_tokens, world.policy.window or maxsize) - longest
        if room <= 0 or any(side.prompt_ids != stem for side in sides):
            return Dropped.NO_COMMON_PROMPT
        labels, counts = self.labels(row, sides)
        response, *edits = [
            Marked(compact(side.ids), compact_labels(values)) for side, values in zip(sides, labels, strict=True)
        ]
        return Edit(compact(stem[-room:]), response, tuple(edits), row.demoted, row.weight, where), counts

    def _key(self, index: int, row: Edited, edit: Edit) -> Hashable:
        """Equal for rows that make one example."""
        if self.multi_edit == "rows" or not row.group:
            return index
        return row.group, row.prompt.key, tuple(edit.response.ids), row.demoted


def as_edited(row: Row) -> Edited:
    """An edited row as it is, and a preference as a demoted one; InputError for any other row."""
    if isinstance(row, Edited):
        return row
    if isinstance(row, Preference):
        as_texts(row)
        return Edited(row.prompt, row.rejected, row.chosen, demoted=True)
    where = row.where if isinstance(row, Prompt) else row.prompt.where
    raise bad_row(
        "this row has neither edit nor spans", where, allowed="completion with edited or spans, or a preference"
    )


def _joined(edits: Sequence[Edit]) -> Edit:
    """One example of several edits of one response."""
    first, count = edits[0], len(edits)
    labels = zip(*(edit.response.labels for edit in edits), strict=True)
    mean = compact_labels(sum(each) / count for each in labels)
    return replace(
        first,
        response=replace(first.response, labels=mean),
        edits=tuple(each for edit in edits for each in edit.edits),
        weight=sum(edit.weight for edit in edits) / count,
    )


def _figures(examples: Sequence[Edit], counts: EditCounts, ended: frozenset[int]) -> Mapping[str, Any]:
    marked = [example for example in examples if not example.demoted]
    edits = [edit for example in marked for edit in example.edits]
    sides = {"response": [example.response for example in marked], "edit": edits}
    return {
        "examples": len(examples),
        "demoted": len(examples) - len(marked),
        "q": base_rate(counts.new, counts.unchanged, sum(len(edit.labels) for edit in edits)),
        "labels": {side: _classes(label for each in of for label in each.labels) for side, of in sides.items()},
        "end_labels": {
            side: _classes(each.labels[-1] for each in of if each.ids[-1] in ended) for side, of in sides.items()
        },
        "without_negative": sum(all(label >= 0 for label in each.labels) for each in sides["response"]),
        "anchor_lost": counts.anchor_lost,
        "ambiguous": counts.ambiguous,
    }


def _classes(labels: Iterable[float]) -> dict[str, int]:
    """How many labels are negative, 0 and positive."""
    counts = Counter((label > 0) - (label < 0) for label in labels)
    return {"bad": counts[-1], "neutral": counts[0], "good": counts[1]}
