"""Compare two models on the same prompts: who answers better, in the eyes of a judge that neither was trained by."""

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from statistics import fmean
from typing import Any

import numpy as np

from uptake.data import ChatFormat, Writer, prompts, read
from uptake.data.lock import locked
from uptake.data.turns import message_list
from uptake.data.write import disk_errors, write_json
from uptake.errors import InputError
from uptake.evaluate import compare_lengths, win_rate
from uptake.follow_up.reward import FollowUpReward, FollowUpScores, FollowUpSpec
from uptake.models import LanguageModel, load
from uptake.models.load import refuse_no_model
from uptake.rewards.base import Resources
from uptake.rewards.rate import reason_of
from uptake.rollout import PolicySamples
from uptake.types import Dialogue, Prompt, Rollout, Turn

# The files of a comparison: its figures, and some answers beside them.
_FILES = ("evaluation.json", "samples.jsonl")

# A judge of a whole dialogue that ends with the response, higher is better.
QualityOf = Callable[[Dialogue], float]


@dataclass(frozen=True)
class Answers:
    """Responses of a model, as many to every prompt, and what each judge says of them.

    `unscored` has, by their number, those that the follow-up reward could not score; the others' rewards are numbers.
    """

    rollouts: Sequence[Rollout]
    follow_up: FollowUpScores
    quality: Sequence[float] | None
    unscored: Mapping[int, InputError] = field(default_factory=dict)

    @property
    def judged(self) -> Sequence[float]:
        """What decides who wins: the quality where it is known, else the follow-up reward."""
        return self.follow_up.rewards.tolist() if self.quality is None else self.quality

    @property
    def prompts(self) -> list[int]:
        """The number of the prompt that each response is to."""
        first: dict[str, int] = {}
        return [first.setdefault(rollout.prompt.key, len(first)) for rollout in self.rollouts]

    @property
    def lengths(self) -> list[int]:
        return [len(rollout.response_ids) for rollout in self.rollouts]

    @property
    def by_category(self) -> dict[str, float]:
        return {name: float(column.mean()) for name, column in self.follow_up.by_category.items()}

    def at(self, rows: Sequence[int]) -> "Answers":
        """Some of the responses, with what was said of them."""
        quality = None if self.quality is None else [self.quality[row] for row in rows]
        return Answers([self.rollouts[row] for row in rows], self.follow_up.at(rows), quality)


def answers(
    lm: LanguageModel,
    rows: Sequence[Prompt],
    reward: FollowUpReward,
    sampling: PolicySamples,
    quality: QualityOf | None = None,
    seed: int = 0,
) -> Answers:
    """Sample responses to every prompt and judge them; an empty response is judged as an ellipsis.

    One that the reward cannot score, such as one too long for its window, is `unscored`.
    """
    chat = ChatFormat.of(lm)
    chat.warn_if_plain(lm.name)
    rollouts = sampling.of(lm, rows, chat, seed, version=0)
    dialogues = [(*each.prompt.turns, Turn("assistant", each.response.strip() or "...")) for each in rollouts]
    unscored: dict[int, InputError] = {}
    scores = reward.score(dialogues, where=[each.prompt.where for each in rollouts], unscored=unscored)
    known = None if quality is None else [quality(dialogue) for dialogue in dialogues]
    return Answers(rollouts, scores, known, unscored)


def both_scored(before: Answers, after: Answers) -> tuple[Answers, Answers]:
    """Both sides without the responses that are unscored on one of them; raises InputError where none is left."""
    lost = _lost(before, after)
    rows = [row for row in range(len(before.rollouts)) if row not in lost]
    if not rows:
        raise InputError(f"no response could be scored; the first: {lost[min(lost)]}", allowed="at least one")
    return before.at(rows), after.at(rows)


def _lost(before: Answers, after: Answers) -> dict[int, InputError]:
    """What is unscored on one side or both, by its number."""
    return {**after.unscored, **before.unscored}


def comparison(before: Answers, after: Answers, judge: str) -> dict[str, Any]:
    """The figures of `evaluation.json`: win rate of after over before with its interval, and lengths beside it.

    What is unscored on one side is left out on both, and counted by reason under `left_out`.
    """
    count = len(set(before.prompts))
    lost = _lost(before, after)
    before, after = both_scored(before, after)
    figures: dict[str, Any] = {
        "judge": judge,
        "prompts": count,
        "win_rate": asdict(win_rate(after.judged, before.judged, clusters=before.prompts)),
        "lengths": asdict(compare_lengths(before.lengths, after.lengths)),
        "follow_up_reward": _two(before.follow_up.rewards.tolist(), after.follow_up.rewards.tolist()),
        "categories": {"before": before.by_category, "after": after.by_category},
        "unfinished": {"before": _unfinished(before), "after": _unfinished(after)},
    }
    if before.quality is not None and after.quality is not None:
        figures["quality"] = _two(before.quality, after.quality)
    if lost:
        figures["left_out"] = dict(Counter(str(reason_of(error)) for error in lost.values()))
    return figures


def side_by_side(before: Answers, after: Answers, count: int) -> list[dict[str, Any]]:
    """The first `count` prompts with the first response of both that is scored, their scores, and who won."""
    before, after = both_scored(before, after)
    _, firsts = np.unique(before.prompts, return_index=True)
    return [
        {
            "prompt": message_list(before.rollouts[index].prompt.turns),
            "before": _sample(before, index),
            "after": _sample(after, index),
            "winner": _winner(before.judged[index], after.judged[index]),
        }
        for index in firsts[:count].tolist()
    ]


def compare_files(
    source: str | Path,
    models: Mapping[str, str],
    folder: str | Path,
    *,
    reward: FollowUpSpec = FollowUpSpec(),  # frozen
    sampling: PolicySamples = PolicySamples(n=1),  # frozen
    limit: int | None = None,
    columns: Mapping[str, str] | None = None,
    seed: int = 0,
    drop_bad: bool = False,
    **loading: Any,
) -> dict[str, Any]:
    """Compare the models called "after" and "before" on prompts, rated by follow-ups under the model that they name.

    The comparison is written to `folder`, and its figures are returned. `loading` are options of `uptake.load`.
    """
    rows = prompts(read(source, limit=limit, columns=columns, skipped=[] if drop_bad else None))
    rated_by = models[reward.model]
    refuse_no_model(*models.values())
    with comparison_folder(folder) as target:
        built = reward.build(Resources({reward.model: load(rated_by, **loading)}))
        before, after = (
            answers(load(models[side], **loading), rows, built, sampling, seed=seed) for side in ("before", "after")
        )
        figures = comparison(before, after, judge=f"follow-up reward of {rated_by}")
        write_comparison(target, figures, side_by_side(before, after, count=40))
    return figures


@contextmanager
def comparison_folder(folder: str | Path) -> Iterator[Path]:
    """The folder of a comparison, made and locked before there is anything to lose; UptakeError where it cannot be."""
    figures, samples = (Path(folder) / name for name in _FILES)
    with disk_errors(Path(folder)):
        Path(folder).mkdir(parents=True, exist_ok=True)
    with locked(figures, samples):
        yield Path(folder)


def write_comparison(folder: Path, figures: Mapping[str, Any], samples: Sequence[Mapping[str, Any]]) -> None:
    """Put a comparison where `write_report` finds it, the figures last; an earlier one is replaced."""
    path, beside = (folder / name for name in _FILES)
    with Writer(beside, overwrite=True) as writer:
        for sample in samples:
            writer.write(dict(sample))
    write_json(path, figures)


def _two(before: Sequence[float], after: Sequence[float]) -> dict[str, float]:
    return {"before": fmean(before), "after": fmean(after)}


def _unfinished(side: Answers) -> int:
    return sum(not rollout.finished for rollout in side.rollouts)


def _winner(before: float, after: float) -> str:
    return "tie" if before == after else "after" if after > before else "before"


def _sample(side: Answers, index: int) -> dict[str, Any]:
    record: dict[str, Any] = {
        "response": side.rollouts[index].response,
        "reward": float(side.follow_up.rewards[index]),
        "parts": {name: float(column[index]) for name, column in side.follow_up.by_category.items()},
    }
    return record if side.quality is None else record | {"quality": side.quality[index]}
