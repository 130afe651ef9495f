"""Labeled pairs of a policy's own answers, as offline learning has them."""

import random
from collections.abc import Mapping, Sequence

from uptake import ChatFormat, Preference, Prompt
from uptake.annotators.base import Annotator
from uptake.models import LanguageModel
from uptake.rollout import PolicySamples
from uptake.types import Row


def samples(lm: LanguageModel, prompts: Sequence[Prompt], each: int, tokens: int, seed: int) -> dict[Prompt, list[str]]:
    """As many answers to every prompt."""
    sampling = PolicySamples(n=each, temperature=1.0, top_p=1.0, max_new_tokens=tokens)
    texts: dict[Prompt, list[str]] = {prompt: [] for prompt in prompts}
    for rollout in sampling.of(lm, prompts, ChatFormat.of(lm), seed, version=0):
        texts[rollout.prompt].append(rollout.response)
    return texts


def labeled(texts: Mapping[Prompt, Sequence[str]], annotator: Annotator, seed: int) -> list[Row]:
    """Pairs of neighbouring answers, by whom an annotator prefers, in an order of the seed.

    Ties and equal or empty answers make no pair, as in a run that samples while it learns.
    """
    pairs = [
        (prompt, one, two)
        for prompt, each in texts.items()
        for one, two in zip(each[::2], each[1::2], strict=True)
        if one.strip() and two.strip() and one != two
    ]
    verdicts = annotator.compare([prompt for prompt, *_ in pairs], [(one, two) for _, one, two in pairs])
    rows: list[Row] = [
        Preference(prompt, *((one, two) if verdict.p > 0.5 else (two, one)))
        for (prompt, one, two), verdict in zip(pairs, verdicts, strict=True)
        if verdict.valid and abs(verdict.p - 0.5) > 1e-9
    ]
    random.Random(seed).shuffle(rows)
    return rows


def fit(rows: Sequence[Row], steps: int, epochs: int) -> tuple[Sequence[Row], int]:
    """As many rows as make so many steps in so many epochs, and the size of a batch."""
    size = len(rows) * epochs // steps
    return rows[: size * steps // epochs], size
