"""Perplexity: how well a model predicts what readers wrote about responses."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from math import exp

from uptake.data import ChatFormat, prompts
from uptake.data.role_swap import FollowUpFormat, FormatName, format_for
from uptake.methods.follow_up_tuning import FeedbackTurns
from uptake.models import LanguageModel, branches, score_trees
from uptake.types import Dropped, Row
from uptake.world import World

# Tokens of one forward call.
BUDGET = 8192


@dataclass(frozen=True, slots=True)
class Perplexity:
    """The exponential of the mean negative log-probability of a token: `Perplexity(41.2, tokens=1033, rows=60)`."""

    value: float
    tokens: int
    rows: int


def perplexity(
    lm: LanguageModel, rows: Sequence[Row], *, format: FormatName | FollowUpFormat | None = None
) -> dict[str, Perplexity]:
    """Perplexity of feedback, with the token that ends it, by polarity of the rows and in "all".

    Rows are those that feedback tuning learns from; one without a column `polarity` is "unknown". The format is that
    of the model's card, as for `FollowUpReward`. Rows that do not fit the window do not count.
    """
    chat = ChatFormat.of(lm)
    turns, world = FeedbackTurns(format_for(lm.card, format)), World(lm, chat)
    found = [turns.runs(world, row) for row in rows]
    fitting = [
        (prompt, *runs[0]) for prompt, runs in zip(prompts(rows), found, strict=True) if not isinstance(runs, Dropped)
    ]
    scores = score_trees(lm, [branches(stem, feedback) for _, stem, feedback in fitting], BUDGET)
    losses: dict[str, list[float]] = {}
    tokens, counted = Counter[str](), Counter[str]()
    for (prompt, *_), (logps,) in zip(fitting, scores, strict=True):
        for group in ("all", str(prompt.extra.get("polarity", "unknown"))):
            losses.setdefault(group, []).append(-float(logps.sum()))
            tokens[group] += len(logps)
            counted[group] += 1
    return {
        group: Perplexity(exp(sum(each) / tokens[group]), tokens[group], counted[group])
        for group, each in losses.items()
    }
