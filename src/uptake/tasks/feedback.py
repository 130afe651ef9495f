"""Feedback: rows to tune a follow-up model on, none of which is evaluated anywhere, and how well a model knows them."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import exp
from pathlib import Path
from typing import Any

from uptake.benchmarks import Rating
from uptake.data import ChatFormat, Writer, prompts
from uptake.data.role_swap import FollowUpFormat, FormatName, format_for
from uptake.errors import InputError
from uptake.feedback_sets import Feedback, Split, read_feedback
from uptake.methods.follow_up_tuning import FeedbackTurns
from uptake.models import LanguageModel, branches, score_trees
from uptake.tasks.corpus import clean, conversation_keys, evaluated
from uptake.types import Dialogue, Dropped, Row
from uptake.world import World

# Tokens of one forward call.
BUDGET = 8192


@dataclass(frozen=True)
class FeedbackSummary:
    """Rows written by set and polarity, and rows left out by set and reason."""

    written: Mapping[str, Mapping[str, int]]
    left_out: Mapping[str, Mapping[str, int]]


def write_feedback(
    names: Sequence[str], data: str | Path, out: str | Path, *, split: Split = "train", overwrite: bool = False
) -> FeedbackSummary:
    """Write feedback of one split to `out`, as rows of `messages`, `source`, `polarity` and `rating`.

    A row to train on shares no question with held-out feedback of these sets, nor with an item of any benchmark under
    the data folder. Raises InputError for a set that is not there, an `out` that exists
    unless `overwrite`, and where no row is left.
    """
    found = {name: list(read_feedback(name, Path(data))) for name in dict.fromkeys(names)}
    taboo = _held_out(found, Path(data)) if split == "train" else set()
    reasons = {name: [_reason(row, split, taboo) for row in rows] for name, rows in found.items()}
    left_out = {name: Counter(filter(None, each)) for name, each in reasons.items()}
    written: dict[str, Counter[str]] = {name: Counter() for name in found}
    if not any("" in each for each in reasons.values()):
        counts = ", ".join(f"{reason} {count}" for each in left_out.values() for reason, count in each.items())
        raise InputError(f"no feedback is left; left out: {counts}", path=data, allowed="another set or split")
    with Writer(out, overwrite=overwrite) as writer:
        for name, rows in found.items():
            for row, reason in zip(rows, reasons[name], strict=True):
                if isinstance(row, Feedback) and not reason:
                    written[name][row.polarity] += 1
                    writer.write(_record(name, row))
    return FeedbackSummary(written, left_out)


def _record(name: str, row: Feedback) -> dict[str, Any]:
    messages = [{"role": turn.role, "content": turn.content} for turn in row.dialogue]
    rating = {} if row.rating is None else {"rating": row.rating}
    return {"messages": messages, "source": name, "polarity": row.polarity, **rating}


def _reason(row: Feedback | str, split: Split, taboo: set[str]) -> str:
    """Why a row is left out of a split, or nothing."""
    if isinstance(row, str):
        return row
    if row.split != split:
        return "held out" if split == "train" else "for training"
    return "held out" if _key(row.dialogue[:-2]) in taboo else ""


def _held_out(found: Mapping[str, Sequence[Feedback | str]], data: Path) -> set[str]:
    """Keys of the questions that no row to train on may ask."""
    held = [row for rows in found.values() for row in rows if isinstance(row, Feedback) and row.split == "heldout"]
    items = [item for _, each in evaluated(data) for item in each]
    asked = [item.dialogue[:-1] if isinstance(item, Rating) else item.prompt.turns for item in items]
    return {_key(question) for question in (*(row.dialogue[:-2] for row in held), *asked)}


def _key(question: Dialogue) -> str:
    """Equal for questions that differ in case and blanks only."""
    return conversation_keys(clean(question))[-1]


@dataclass(frozen=True, slots=True)
class Perplexity:
    """The exponential of the mean negative log-probability of a token: `Perplexity(41.2, tokens=1033, rows=60)`."""

    value: float
    tokens: int
    rows: int


def perplexity(
    lm: LanguageModel,
    rows: Sequence[Row],
    *,
    format: FormatName | FollowUpFormat | None = None,
    force: bool = False,
) -> dict[str, Perplexity]:
    """How well a model predicts feedback, with the token that ends it, by polarity of the rows and in "all".

    Rows are those that feedback tuning learns from; one without a column `polarity` is "unknown". The format is that
    of the model's card, as for `FollowUpReward`. Rows that do not fit the window do not count.
    """
    chat = ChatFormat.of(lm.tokenizer)
    turns, world = FeedbackTurns(format_for(lm.card, format, force=force)), World(lm, chat)
    found = [turns.runs(world, row) for row in rows]
    kept = [
        (prompt, *runs[0]) for prompt, runs in zip(prompts(rows), found, strict=True) if not isinstance(runs, Dropped)
    ]
    scores = score_trees(lm, [branches(stem, said) for _, stem, said in kept], BUDGET)
    losses: dict[str, list[float]] = {}
    tokens, counted = Counter[str](), Counter[str]()
    for (prompt, *_), (logps,) in zip(kept, scores, strict=True):
        for group in ("all", str(prompt.extra.get("polarity", "unknown"))):
            losses.setdefault(group, []).append(-float(logps.sum()))
            tokens[group] += len(logps)
            counted[group] += 1
    return {
        group: Perplexity(exp(sum(each) / tokens[group]), tokens[group], counted[group])
        for group, each in losses.items()
    }
