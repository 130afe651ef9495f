"""Judged edits as examples of token labels, with every figure that tells whether the labels are sound."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, get_args

from uptake.errors import InputError
from uptake.ops.token_labels import base_rate
from uptake.rollout.edited import COLUMN
from uptake.signal.as_given import Examples
from uptake.types import Edit, Judgement, Marked, Rollout

MultiEdit = Literal["average", "rows"]
Judged = tuple[Rollout, Judgement]


@dataclass(frozen=True)
class Edits:
    """A response with its edits as one example; rows without tokens are left out and counted.

    Rows of one `group` edit the same response: with `multi_edit` "average" they make one example, in which every token
    of the response has its mean label and every edit its own; with "rows", one each. The summary holds `q`, the chance
    that a good token has the label 1, labels by class and side with those of end-of-turn tokens by themselves, and
    counts of rows without a negative label, of omissions without a token and of alignments with others as good.
    """

    multi_edit: MultiEdit = "average"

    def __post_init__(self) -> None:
        if self.multi_edit not in get_args(MultiEdit):
            raise InputError(repr(self.multi_edit), field="multi_edit", allowed=", ".join(get_args(MultiEdit)))

    def __call__(self, rollouts: Sequence[Rollout], judgements: Sequence[Judgement]) -> Examples:
        rows: list[list[Judged]] = []
        for rollout, judgement in zip(rollouts, judgements, strict=True):
            if rollout.sample == 0:
                rows.append([])
            rows[-1].append((rollout, judgement))
        kept = [row for row in rows if all(judgement.valid for _, judgement in row)]
        groups: dict[Any, list[list[Judged]]] = {}
        for place, row in enumerate(kept):
            groups.setdefault(self._key(place, row), []).append(row)
        examples = tuple(_example(group) for group in groups.values())
        dropped = Counter(row[0][1].reason for row in rows if not row[0][1].valid)
        return Examples(
            examples, {"samples": len(rows), "kept": len(kept), "dropped": dropped, **_figures(examples, kept)}
        )

    def _key(self, place: int, row: Sequence[Judged]) -> Any:
        """Equal for rows that make one example."""
        response, said = row[0][0], row[0][0].prompt.extra[COLUMN]
        if self.multi_edit == "rows" or not said.get("group"):
            return place
        return said["group"], response.prompt.key, response.response_ids, said.get("demoted", False)


def _example(rows: Sequence[Sequence[Judged]]) -> Edit:
    labels = zip(*(row[0][1].tokens for row in rows), strict=True)
    mean = tuple(sum(each) / len(rows) for each in labels)
    edits = tuple(Marked(rollout, judgement.tokens) for row in rows for rollout, judgement in row[1:])
    said = [row[0][0].prompt.extra[COLUMN] for row in rows]
    weight = sum(each.get("weight", 1.0) for each in said) / len(rows)
    return Edit(Marked(rows[0][0][0], mean), edits, said[0].get("demoted", False), weight)


def _figures(examples: Sequence[Edit], rows: Sequence[Sequence[Judged]]) -> Mapping[str, Any]:
    marked = [example for example in examples if not example.demoted]
    parts: Counter[str] = Counter()
    for row in rows:
        for _, judgement in row:
            parts.update(judgement.parts)
    edits = [edit for example in marked for edit in example.edits]
    sides = {"response": [example.response for example in marked], "edit": edits}
    return {
        "examples": len(examples),
        "demoted": len(examples) - len(marked),
        "q": base_rate(parts["new"], parts["kept"], sum(len(edit.labels) for edit in edits)),
        "labels": {side: _classes(label for each in of for label in each.labels) for side, of in sides.items()},
        "end_labels": {
            side: _classes(each.labels[-1] for each in of if each.rollout.finished) for side, of in sides.items()
        },
        "without_negative": sum(all(label >= 0 for label in each.labels) for each in sides["response"]),
        "anchor_lost": int(parts["anchor_lost"]),
        "ambiguous": int(parts["ambiguous"]),
    }


def _classes(labels: Iterable[float]) -> dict[str, int]:
    """How many labels are negative, 0 and positive."""
    counts = Counter((label > 0) - (label < 0) for label in labels)
    return {"bad": counts[-1], "neutral": counts[0], "good": counts[1]}
