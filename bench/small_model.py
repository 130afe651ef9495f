"""A small instruct model as judge and as editor: are its verdicts and edits valid, and are they any good?

    python bench/small_model.py --model smollm2 --data data

The judge reads short pairs of four sets on which people agree, in both orders. The editor corrects sentences of
learners of English, held out of JFLEG, which puts blanks around marks: they are written as people write. Four people
corrected each: an edit is better where fewer words and marks lie between it and the nearest correction than before, and
worse where more do.
"""

import random
import re
from collections.abc import Iterable, Iterator, Sequence
from itertools import groupby
from pathlib import Path
from typing import Annotated

import numpy as np
import typer
from _harness import record

from uptake import load
from uptake.annotators.llm import LLMJudge
from uptake.datasets import Comparison, read_set
from uptake.edits.edit import Draft
from uptake.edits.model import ModelEditor
from uptake.edits.rules import Rules
from uptake.edits.units import pieces
from uptake.evaluate.annotator import annotator_stats
from uptake.evaluate.interval import Share, share
from uptake.models import LanguageModel
from uptake.ops.alignment import align
from uptake.types import Edited

SETS, OF_EACH = ("pandalm", "hh_helpful_base", "llmbar", "hh_harmless_base"), 20
LONGEST = 1500  # characters of prompt and responses
SENTENCES = 40


def main(
    model: Annotated[Path, typer.Option(help="Folder of an instruct model.")],
    data: Annotated[Path, typer.Option(help="Folder of the data sets.")],
) -> None:
    lm = load(model, device="cpu", dtype="float32")
    found = [*judged(lm, pairs(data)), *corrected(lm, *sentences(data))]
    rows = [
        {
            "figure": name,
            "of": each.n,
            "share": f"{100 * each.rate:.1f} %",
            "interval of 95 %": f"{100 * each.low:.1f} to {100 * each.high:.1f} %",
        }
        for name, each in found
    ]
    record("small_model", f"{model.name} as a judge of pairs and as an editor of learners' sentences", rows)


def pairs(data: Path) -> list[Comparison]:
    """As many pairs of every set, drawn once."""
    found: list[Comparison] = []
    for name in SETS:
        items = [item for item in read_set(name, "comparisons", data) if isinstance(item, Comparison)]
        short = [item for item in items if size(item) < LONGEST and item.preference in (0.0, 1.0)]
        found += random.Random(0).sample(short, OF_EACH)
    return found


def size(item: Comparison) -> int:
    return sum(len(text) for text in (*item.responses, *(turn.content for turn in item.prompt.turns)))


def judged(lm: LanguageModel, items: Sequence[Comparison]) -> Iterator[tuple[str, Share]]:
    judge = LLMJudge.from_pretrained(lm)
    verdicts = judge.compare([item.prompt for item in items], [item.responses for item in items])
    yield "judge: valid verdicts", shares(verdict.valid for verdict in verdicts)
    valid = [(item, each) for item, each in zip(items, verdicts, strict=True) if each.valid]
    stats = annotator_stats(verdicts, *([len(item.responses[side]) for item in items] for side in (0, 1)))
    if stats.agreement:
        yield "judge: both orders agree", stats.agreement
    yield "judge: as people prefer", shares((each.p > 0.5) == (item.preference > 0.5) for item, each in valid)


def sentences(data: Path) -> tuple[list[Draft], list[list[str]]]:
    """Held-out sentences and their corrections, drawn once."""
    rows = [row for row in read_set("jfleg", "edits", data) if isinstance(row, Edited)]
    held_out = [row for row in rows if row.prompt.extra["split"] == "heldout" and row.edited]
    groups = [list(each) for _, each in groupby(held_out, key=lambda row: row.group)]
    chosen = random.Random(0).sample(groups, SENTENCES)
    drafts = [Draft(first.prompt, written(first.response)) for first, *_ in chosen]
    return drafts, [[written(str(row.edited)) for row in group] for group in chosen]


def written(text: str) -> str:
    """A sentence without the blanks that part words from marks and from their endings."""
    return re.sub(r" +(?=[.,;:!?)%]|n't\b|'(?:s|re|ve|ll|d|m)\b)|(?<=\() +", "", text.strip())


def corrected(
    lm: LanguageModel, drafts: Sequence[Draft], corrections: Sequence[Sequence[str]]
) -> Iterator[tuple[str, Share]]:
    proposals, rules = ModelEditor.from_pretrained(lm)(drafts), Rules()
    read = [not each.reason for each in proposals]
    checked = [rules(draft, each.text) for draft, each in zip(drafts, proposals, strict=True)]
    yield "editor: an edit could be read", shares(read)
    yield "editor: an edit was taken", shares(each.reason == "" for each in checked)
    yield "editor: unchanged", shares(each.reason == "no_edit" for each in checked)
    moves = []
    for draft, each, texts in zip(drafts, checked, corrections, strict=True):
        if each.reason == "":
            print(draft.response, each.text, sep="\n  ", flush=True)
            before, after = (min(distance(text, other) for other in texts) for text in (draft.response, each.text))
            moves.append(after - before)
    for name, sign in (("better", -1), ("worse", 1)):
        yield f"editor: of those taken, {name}", shares(np.sign(move) == sign for move in moves)


def distance(one: str, other: str) -> int:
    """Words and marks that lie between two texts."""
    return align(pieces(one), pieces(other)).distance


def shares(points: Iterable[bool]) -> Share:
    return share(np.array([float(each) for each in points]))


if __name__ == "__main__":
    typer.run(main)
