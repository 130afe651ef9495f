"""Rewards and annotators by name, to be compared under one protocol."""

from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

from uptake.annotators.llm import LLMJudge
from uptake.errors import InputError
from uptake.follow_up.reward import FollowUpReward
from uptake.follow_up.set import FollowUpSet
from uptake.models import LanguageModel
from uptake.rewards.base import Annotator, Reward
from uptake.rewards.classifier import Classifier
from uptake.rewards.length import Length
from uptake.rewards.likelihood import DirectLikelihood
from uptake.rewards.oracle import Oracle
from uptake.rewards.token_reward_model import TokenRewardModel

CONTESTANTS: Mapping[str, str] = {
    "follow_up": "follow-up likelihood: what the user would say next, approval minus disapproval",
    "follow_up:negatives": "follow-up likelihood without approving follow-ups",
    "released": "what the released code of follow-up likelihood computes; not a likelihood",
    "full": "FULL: mean perplexity of disapproving follow-ups",
    "fed": "FED, as in its paper: summed log-likelihoods, approval minus disapproval",
    "fed_released": "FED, as in its released code: mean log-likelihood of the whole text, conversation included",
    "direct": "mean log-probability per token of the response itself",
    "direct:sum": "log-probability of the response itself",
    "length": "characters of the response",
    "classifier:PATH": "a sequence-classification reward model; PATH#LABEL where it tells several labels apart",
    "token_reward:PATH": "a token reward model: the sum of what it gives every token",
    "token_reward:PATH#mean": "a token reward model: the mean over tokens",
    "oracle": "the exact quality, for conversations of the town",
    "judge": "the language model itself, asked which of two responses is better",
    "judge:PATH": "another language model, asked which of two responses is better",
}

FOLLOW_UP: Mapping[str, Mapping[str, Any]] = {
    "follow_up": {},
    "follow_up:negatives": {"polarity": "negative_only"},
    "released": {"mode": "legacy_released"},
    "full": {"form": "full"},
    "fed": {"form": "fed", "reduction": "sum"},
    "fed_released": {"mode": "whole_text"},
}
DIRECT: Mapping[str, Mapping[str, Any]] = {"direct": {}, "direct:sum": {"reduction": "sum"}}


def contestant(
    spec: str,
    *,
    model: str | Path | LanguageModel | None = None,
    followups: str | Path | FollowUpSet | None = None,
    device: str = "auto",
    dtype: str = "auto",
    settings: Mapping[str, Any] = MappingProxyType({}),
) -> Reward | Annotator:
    """The contestant of a name in `CONTESTANTS`, where PATH is a Transformers folder or a Hub name.

    `model` is shared by all that need one: load it once and hand it to each. `followups` is a follow-up set, or none
    for Uptake's own; `settings` are options of `FollowUpReward`. Raises InputError for an unknown name, where a model
    is needed and none was given, and for settings of anything but follow-ups.
    """
    name, _, path = spec.partition(":")
    loading: dict[str, Any] = {"device": device, "dtype": dtype}
    if spec in FOLLOW_UP:
        options = {**FOLLOW_UP[spec], **settings, **loading}
        return FollowUpReward.from_pretrained(_given(model, spec), followups, **options)
    if settings:
        raise InputError(f"not used by {spec!r}", field=", ".join(settings), allowed=", ".join(FOLLOW_UP))
    if spec in DIRECT:
        return DirectLikelihood.from_pretrained(_given(model, spec), **DIRECT[spec], **loading)
    if spec == "length":
        return Length()
    if spec == "oracle":
        return Oracle()
    if name in ("classifier", "token_reward") and path:
        return _at(name, path, loading)
    check_contestant(spec)
    return LLMJudge.from_pretrained(path or _given(model, spec), **loading)


def check_contestant(spec: str) -> None:
    """Raise InputError for a name that no contestant has, before anything is loaded."""
    name, _, path = spec.partition(":")
    if spec not in CONTESTANTS and name != "judge" and not (path and name in ("classifier", "token_reward")):
        raise InputError(f"no contestant {spec!r}", field="contestant", allowed=", ".join(CONTESTANTS))


def _at(name: str, path: str, loading: dict[str, Any]) -> Reward:
    """The reward of a folder, or of a folder and what stands behind it."""
    folder, _, choice = path.partition("#")
    if name == "classifier":
        return Classifier.from_pretrained(folder, label=choice or None, **loading)
    how: dict[str, Any] = {"aggregate": choice} if choice else {}
    return TokenRewardModel.from_pretrained(folder, **how, **loading)


def _given(model: str | Path | LanguageModel | None, spec: str) -> str | Path | LanguageModel:
    if model is None:
        raise InputError(
            f"contestant {spec!r} needs a model", field="model", allowed="a Transformers folder or Hub name"
        )
    return model
