"""Compare two models on the same prompts by an annotator, who is shown both answers, a model in both orders."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from uptake.annotators.base import AnnotatorSpec
from uptake.data import ChatFormat, prompts, read
from uptake.data.turns import message_list
from uptake.errors import InputError
from uptake.evaluate import compare_lengths, length_controlled_win_rate, win_rate
from uptake.evaluate.annotator import annotator_stats
from uptake.evaluate.length_controlled import FEWEST
from uptake.models import load
from uptake.models.load import refuse_no_model
from uptake.ops.verdicts import TIE, is_tie
from uptake.rewards.base import Resources
from uptake.rollout import PolicySamples
from uptake.tasks.compare import comparison_folder, write_comparison
from uptake.types import Rollout, Verdict

AnnotatedPair = tuple[Rollout, Rollout, Verdict]


def compare_by_annotator(
    source: str | Path,
    models: Mapping[str, str],
    annotator: AnnotatorSpec,
    folder: str | Path,
    *,
    sampling: PolicySamples = PolicySamples(n=1),  # frozen
    limit: int | None = None,
    columns: Mapping[str, str] | None = None,
    seed: int = 0,
    drop_bad: bool = False,
    **loading: Any,
) -> dict[str, Any]:
    """Let the models called "after" and "before" answer the same prompts, and the annotator prefer one of each two.

    All other models are the annotator's, by the name that it calls them. Writes what `uptake.tasks.compare` writes,
    with the annotator's statistics and the length-controlled win rate beside the plain one; invalid verdicts are left
    out and counted. `loading` are options of `uptake.load`. Raises InputError where no verdict is valid.
    """
    questions = prompts(read(source, limit=limit, columns=columns, skipped=[] if drop_bad else None))
    refuse_no_model(*models.values())
    with comparison_folder(folder) as target:
        lms = {name: load(path, **loading) for name, path in models.items()}
        chats = {side: ChatFormat.of(lms[side]) for side in ("before", "after")}
        for side, chat in chats.items():
            chat.warn_if_plain(lms[side].name)
        judge = annotator.build(Resources(lms, target, **loading))
        before, after = (sampling.of(lms[side], questions, chat, seed, version=0) for side, chat in chats.items())
        texts = [(new.response, old.response) for old, new in zip(before, after, strict=True)]
        compared = list(zip(before, after, judge.compare(questions, texts), strict=True))
        figures = annotated_figures(compared)
        write_comparison(target, figures, [_sample(pair) for pair in compared[:40]])
    return figures


def annotated_figures(compared: Sequence[AnnotatedPair]) -> dict[str, Any]:
    """Win rate of after over before, plain and at equal lengths, lengths in tokens, and how the annotator judged."""
    verdicts = [verdict for *_, verdict in compared]
    valid = [pair for pair in compared if pair[2].valid]
    if not valid:
        raise InputError(
            f"no verdict is valid; the first: {verdicts[0].detail or verdicts[0].reason}", allowed="at least one"
        )
    p = [verdict.p for *_, verdict in valid]
    old = [len(before.response_ids) for before, *_ in valid]
    new = [len(after.response_ids) for _, after, _ in valid]
    figures = {
        "judge": "annotator",
        "prompts": len(compared),
        "win_rate": asdict(win_rate(p, [1 - each for each in p], tie_margin=TIE)),
        "lengths": asdict(compare_lengths(old, new)),
        "annotator": asdict(annotator_stats(verdicts, *_characters(compared))),
        "unfinished": {
            "before": sum(not before.finished for before, *_ in compared),
            "after": sum(not after.finished for _, after, _ in compared),
        },
    }
    if len(p) >= FEWEST and min(p) < 0.5 < max(p):
        figures["length_controlled"] = asdict(length_controlled_win_rate(p, new, old))
    return figures


def _characters(compared: Sequence[AnnotatedPair]) -> tuple[list[int], list[int]]:
    """Lengths of what the annotator was shown first and second."""
    return [len(new.response) for _, new, _ in compared], [len(old.response) for old, *_ in compared]


def _sample(pair: AnnotatedPair) -> dict[str, Any]:
    before, after, verdict = pair
    even = not verdict.valid or is_tie(verdict.p)
    return {
        "prompt": message_list(before.prompt.turns),
        "before": {"response": before.response},
        "after": {"response": after.response},
        "winner": "tie" if even else "after" if verdict.p > 0.5 else "before",
    }
