"""Compare two models on the same prompts by an annotator, who sees both answers in both orders."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from uptake.data import ChatFormat, prompts, read
from uptake.errors import InputError
from uptake.evaluate import compare_lengths, length_controlled_win_rate, win_rate
from uptake.evaluate.annotator import annotator_stats
from uptake.evaluate.length_controlled import FEWEST
from uptake.feedback.compared import AnnotatorPart
from uptake.models import load
from uptake.rollout import PolicySamples
from uptake.tasks.compare import comparison_folder, write_comparison
from uptake.types import Rollout, Verdict
from uptake.world import World

# Two readings of an even verdict differ by a rounding.
EVEN = 1e-9

Duel = tuple[Rollout, Rollout, Verdict]


def duel_files(
    source: str | Path,
    models: Mapping[str, str],
    annotator: AnnotatorPart,
    folder: str | Path,
    *,
    sampling: PolicySamples = PolicySamples(n=1),  # frozen
    limit: int | None = None,
    seed: int = 0,
    **loading: Any,
) -> dict[str, Any]:
    """Let the models called "after" and "before" answer the same prompts, and the annotator prefer one of each two.

    All other models are the annotator's, by the name that it calls them. Writes what `uptake.tasks.compare` writes,
    with the annotator's statistics and the length-controlled win rate beside the plain one; invalid verdicts are left
    out and counted. `loading` are options of `uptake.load`. Raises InputError where no verdict is valid.
    """
    asked, folder = prompts(read(source, limit=limit)), comparison_folder(folder)
    lms = {name: load(path, **loading) for name, path in models.items()}
    chats = {side: ChatFormat.of(lms[side]) for side in ("before", "after")}
    judge = annotator.start(World(lms["after"], chats["after"], models=lms, folder=folder))
    before, after = (sampling.of(lms[side], asked, chat, seed, version=0) for side, chat in chats.items())
    texts = [(new.response, old.response) for old, new in zip(before, after, strict=True)]
    duels = list(zip(before, after, judge(asked, texts), strict=True))
    figures = duel_figures(duels)
    write_comparison(folder, figures, [_sample(duel) for duel in duels[:40]])
    return figures


def duel_figures(duels: Sequence[Duel]) -> dict[str, Any]:
    """Win rate of after over before, plain and at equal lengths, lengths in tokens, and how the annotator judged."""
    verdicts = [verdict for *_, verdict in duels]
    valid = [duel for duel in duels if duel[2].valid]
    if not valid:
        raise InputError(f"no verdict is valid; the first: {verdicts[0].reason}", allowed="at least one")
    p = [verdict.p for *_, verdict in valid]
    old = [len(before.response_ids) for before, *_ in valid]
    new = [len(after.response_ids) for _, after, _ in valid]
    figures = {
        "judge": "annotator",
        "prompts": len(duels),
        "win_rate": asdict(win_rate(p, [1 - each for each in p], tie_margin=EVEN)),
        "lengths": asdict(compare_lengths(old, new)),
        "annotator": asdict(annotator_stats(verdicts, *_characters(duels))),
        "unfinished": {
            "before": sum(not before.finished for before, *_ in duels),
            "after": sum(not after.finished for _, after, _ in duels),
        },
    }
    if len(p) >= FEWEST and min(p) < 0.5 < max(p):
        figures["length_controlled"] = asdict(length_controlled_win_rate(p, new, old))
    return figures


def _characters(duels: Sequence[Duel]) -> tuple[list[int], list[int]]:
    """Lengths of what the annotator was shown first and second."""
    return [len(new.response) for _, new, _ in duels], [len(old.response) for old, *_ in duels]


def _sample(duel: Duel) -> dict[str, Any]:
    before, after, verdict = duel
    even = not verdict.valid or abs(verdict.p - 0.5) <= EVEN
    return {
        "prompt": [{"role": turn.role, "content": turn.content} for turn in before.prompt.turns],
        "before": {"response": before.response},
        "after": {"response": after.response},
        "winner": "tie" if even else "after" if verdict.p > 0.5 else "before",
    }
