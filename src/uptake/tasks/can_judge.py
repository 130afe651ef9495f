"""First look at a model as a judge of one's own data: every way that it has of judging, beside what people said."""

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import fmean
from tempfile import TemporaryDirectory
from typing import Literal, final

from uptake.annotators.base import Annotator
from uptake.annotators.llm import LLMJudge
from uptake.data.convert import response_turns
from uptake.data.exchanges import exchanges, merged, rating_of
from uptake.data.role_swap import ENTRY, FormatName
from uptake.datasets import Benchmark, Comparison, Item, Rating
from uptake.errors import InputError, ModelError
from uptake.evaluate.agreement import Agreement
from uptake.evaluate.annotator import AnnotatorStats
from uptake.evaluate.bench_results import RatingCorrelations, Result
from uptake.evaluate.bootstrap import Estimate
from uptake.follow_up.actual import ActualFollowUpReward
from uptake.follow_up.reward import FollowUpReward
from uptake.follow_up.set import FollowUpSet
from uptake.models import LanguageModel
from uptake.rewards.base import Response, Reward
from uptake.rewards.length import Length
from uptake.rewards.likelihood import DirectLikelihood
from uptake.rewards.rate import dialogue_of, invalid
from uptake.tasks.bench import bench
from uptake.types import Answered, Dialogue, Dropped, Judgement, Preference, Prompt, Rated, Row

Truth = Literal["pairs", "ratings", "what people said next"]

# Rows that are read, and the follow-ups: what a laptop does in about two minutes.
ROWS = 60
FOLLOWUPS = "short-en"

ACTUAL: Truth = "what people said next"
LENGTH = "length"
_QUALITY = "rating"


@dataclass(frozen=True)
class WayToJudge:
    """A way of judging and how it does on the rows; an undefined figure has its reason.

    `estimate` is the share of pairs in people's order (a half by chance), or Spearman's correlation (0 by chance).
    `judged` counts the rows that were, `verdicts` are those of a judge.
    """

    name: str
    estimate: Estimate
    judged: int
    reasons: Mapping[Dropped, int]
    verdicts: AnnotatorStats | None = None


@dataclass(frozen=True)
class FirstLook:
    """First look at a model: `truth` is what it was measured by, on `rows` rows, and `sentence` says what came out."""

    truth: Truth
    rows: int
    ways: tuple[WayToJudge, ...]
    sentence: str


def can_judge(
    rows: Sequence[Row],
    lm: LanguageModel,
    *,
    ratings: str | None = None,
    followups: str | Path | FollowUpSet = FOLLOWUPS,
    instructions: str | Path | None = None,
    limit: int = ROWS,
    seed: int = 0,
) -> FirstLook:
    """Every way in which a model can judge, beside the length of a response, on `limit` of the rows, drawn by the seed.

    Pairs are measured by the file's preference, rated responses by `ratings` (a column as in `exchanges`) or their
    label, and logs without ratings by what people said next, as the model reads it. Raises InputError for rows that are
    none of these, or of several kinds. A pair that is blank on a side or the same response twice is no row.
    """
    items, reactions, truth = _items(rows, ratings)
    items = _drawn(items, limit, seed)
    chosen = followups if isinstance(followups, FollowUpSet) else FollowUpSet.load(followups)
    next_ = _ActualReactions(lm, chosen, reactions)
    if truth == ACTUAL:
        items = _read(items, next_)
    scorers: dict[str, Reward | Annotator] = {
        f"follow-ups, {name}": FollowUpReward(lm, chosen, format=format) for name, format in _formats(lm).items()
    }
    scorers |= {"likelihood of the response": DirectLikelihood.from_pretrained(lm), LENGTH: Length()}
    cannot: list[WayToJudge] = []
    if truth == "pairs":
        try:
            scorers["judge"] = LLMJudge.from_pretrained(lm, instructions)
        except ModelError as error:
            cannot = [WayToJudge("judge", Estimate(None, None, None, 0, str(error)), 0, {})]
    elif truth == "ratings" and any(isinstance(item, Rating) and item.dialogue in reactions for item in items):
        scorers[ACTUAL] = next_
    with TemporaryDirectory() as folder:
        results, _ = bench(scorers, [Benchmark("rows", "", items, {})], folder, seed=seed)
    ways = (*(_way(name, result, len(items)) for name, result in results.by_benchmark["rows"].items()), *cannot)
    return FirstLook(truth, len(items), ways, _sentence(truth, ways, len(items)))


def _items(rows: Sequence[Row], ratings: str | None) -> tuple[list[Item], dict[Dialogue, tuple[str, ...]], Truth]:
    """What is to be judged, what people said after it, and by what it is measured."""
    pairs = [row for row in rows if isinstance(row, Preference)]
    if pairs and len(pairs) < len(rows):
        raise InputError("pairs and other rows in one file", allowed="pairs, rated responses, or conversations")
    if pairs:
        told: list[Item] = [_compared(row) for row in pairs if _differ(row)]
        if not told:
            raise InputError("every pair is blank on a side or the same response twice", allowed="pairs that differ")
        return told, {}, "pairs"
    if ratings is None and all(isinstance(row, Rated) for row in rows):
        return [_rated(row, float(row.good)) for row in rows if isinstance(row, Rated)], {}, "ratings"
    answered_by_users = any(turn.role == "assistant" for row in rows for turn in _prompt(row).turns)
    heard = merged(exchanges(rows, ratings)[0]) if answered_by_users or ratings is None else []
    reactions = {each.dialogue: each.follow_ups for each in heard}
    if ratings is None:
        return (
            [Rating(each.dialogue, {_QUALITY: 0.0}, "turn", where=each.prompt.where) for each in heard],
            reactions,
            ACTUAL,
        )
    last = [_rated(row, value) for row in rows if (value := _last_rating(row, ratings)) is not None]
    items = [
        Rating(each.dialogue, {_QUALITY: each.rating}, "turn", where=each.prompt.where)
        for each in heard
        if each.rating is not None
    ]
    if not (items or last):
        raise InputError("no response has a rating", field=ratings, allowed="a number, true or false, or one a message")
    return [*items, *last], reactions, "ratings"


def _compared(row: Preference) -> Comparison:
    return Comparison(row.prompt, (row.chosen, row.rejected), 1.0, where=row.prompt.where)


def _differ(row: Preference) -> bool:
    """Whether there is anything to prefer."""
    return bool(row.chosen.strip() and row.rejected.strip()) and row.chosen.strip() != row.rejected.strip()


def _rated(row: Row, value: float) -> Rating:
    """The rating of a row's response."""
    prompt = _prompt(row)
    return Rating((*prompt.turns, *response_turns(row)), {_QUALITY: value}, "turn", where=prompt.where)


def _last_rating(row: Row, ratings: str) -> float | None:
    """The rating of the response that a row ends with; that of a conversation, or the last of one a message.

    Raises InputError for what is no rating.
    """
    if not isinstance(row, Answered | Rated):
        return None
    value = row.prompt.extra.get(ratings)
    return rating_of(value[-1] if isinstance(value, list) and value else value, row.prompt.where, ratings)


def _prompt(row: Row) -> Prompt:
    return row if isinstance(row, Prompt) else row.prompt


def _drawn(items: Sequence[Item], limit: int, seed: int) -> list[Item]:
    places = sorted(random.Random(seed).sample(range(len(items)), min(limit, len(items))))
    return [items[index] for index in places]


def _formats(lm: LanguageModel) -> Mapping[str, FormatName | None]:
    """The formats in which a model can be asked for a follow-up: its own, where it was tuned on them."""
    return {"as tuned": None} if ENTRY in lm.card else {"chat": "user_role", "role swap": "role_swap"}


def _read(items: Sequence[Item], actual: "_ActualReactions") -> list[Item]:
    """Items whose rating is how the model reads what people said next, without those that it cannot read."""
    ratings = [item for item in items if isinstance(item, Rating)]
    judged = actual.rate([item.dialogue for item in ratings])
    found: list[Item] = [
        replace(item, ratings={_QUALITY: each.score}) for item, each in zip(ratings, judged, strict=True) if each.valid
    ]
    if not found:
        raise InputError(
            f"nothing that people said next could be read; the first: {judged[0].detail or judged[0].reason}"
        )
    return found


@final
class _ActualReactions(Reward):
    """Reward from what people really said after a response; of several reactions the mean counts."""

    def __init__(self, lm: LanguageModel, followups: FollowUpSet, reactions: Mapping[Dialogue, Sequence[str]]) -> None:
        self._reactions = reactions
        self._reward = ActualFollowUpReward(FollowUpReward(lm, followups))

    @property
    def fingerprint(self) -> str:
        return self._reward.fingerprint

    def rate(self, responses: Sequence[Response]) -> Sequence[Judgement]:
        dialogues = [dialogue_of(response) for response in responses]
        spoken = [(index, words) for index, turns in enumerate(dialogues) for words in self._reactions.get(turns, ())]
        unread: dict[int, InputError] = {}
        scores = self._reward.score(
            [dialogues[index] for index, _ in spoken], [words for _, words in spoken], unscored=unread
        )
        judged = []
        for index in range(len(dialogues)):
            answers = [row for row, (owner, _) in enumerate(spoken) if owner == index]
            usable = [float(scores.rewards[row]) for row in answers if row not in unread]
            if usable:
                judged.append(Judgement(fmean(usable)))
            else:
                judged.append(invalid(unread[answers[0]]) if answers else Judgement(0.0, reason=Dropped.NO_REACTION))
        return judged


def _way(name: str, result: Result, rows: int) -> WayToJudge:
    left_out = sum(result.invalid.values())
    return WayToJudge(name, _estimate(result), rows - left_out, result.invalid, result.verdicts)


def _estimate(result: Result) -> Estimate:
    for each in result.figures:
        if isinstance(each, Agreement):
            plain = each.accuracy.plain
            return Estimate(plain.rate, plain.low, plain.high, plain.n)
        if isinstance(each, RatingCorrelations):
            return each.correlations.spearman
    return Estimate(None, None, None, 0, result.note)


def _sentence(truth: Truth, ways: Sequence[WayToJudge], rows: int) -> str:
    """What came out, for somebody who reads nothing else."""
    chance = 0.5 if truth == "pairs" else 0.0
    known = {each.name: each.estimate for each in ways if each.estimate.value is not None}
    values = {name: each.value or 0.0 for name, each in known.items() if name not in (LENGTH, ACTUAL)}
    if not values:
        return "This model gave no figure: no way of judging could be measured on these rows."
    name = max(values, key=lambda each: values[each])
    best, length = known[name], known.get(LENGTH)
    told = f"the best of {len(values)} ways, {name}, {_spelled(truth, best)}"
    alone = f"; length alone {_spelled(truth, length)}" if length else ""
    if best.low is None or best.low <= chance:
        return f"On {rows} rows this model is not shown to judge better than chance: {told}{alone}."
    if length and (length.value or 0.0) >= values[name]:
        return f"On {rows} rows this model judges no better than length: {told}{alone}."
    return f"On {rows} rows this model can judge: {told}{alone}. The best of several wants other rows to confirm it."


def _spelled(truth: Truth, estimate: Estimate) -> str:
    value, low, high = estimate.value or 0.0, estimate.low, estimate.high
    if truth == "pairs":
        between = f" ({low:.0%} to {high:.0%})" if low is not None else ""
        return f"has {value:.0%}{between} of pairs in people's order"
    between = f" ({low:+.2f} to {high:+.2f})" if low is not None else ""
    return f"goes with {'the ratings' if truth == 'ratings' else truth} at {value:+.2f}{between}"
