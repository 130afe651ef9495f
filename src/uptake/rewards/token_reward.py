"""Token rewards: one value for every token of a response, in the ids that were sampled or in the model's own."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from sys import maxsize

import torch

from uptake.data.chat import ChatFormat
from uptake.data.response_tokens import ResponseTokens, response_tokens, rollout_offsets
from uptake.data.spans import Ids
from uptake.errors import EmptyResponse, InputError, TooLong
from uptake.losses.token_level import token_rewards
from uptake.models import LanguageModel, branches, pack
from uptake.models.check import check_causal
from uptake.models.heads import ScalarHead, token_values
from uptake.models.load import load_classifier, resolve_device, resolve_dtype
from uptake.models.rope import declared_tables
from uptake.models.token_classifier import TOKEN_LOGIT, head_of
from uptake.ops.spans import place_rewards
from uptake.types import Rollout, Span, Turn

# Responses of one forward call.
ROWS = 16

# The rewards of a response's tokens, or why there are none.
TokenValues = tuple[float, ...] | InputError


def load_token_reward(name: str | Path, *, device: str = "auto", dtype: str = "auto") -> LanguageModel:
    """A token classifier of one label (the reward) or two (bad, good) as a model with a token head.

    An adapter over one is merged into it. Raises ModelError where its weights are not all there, and for one that reads
    in both directions: a token's reward must not depend on what comes after it. It scores in padded rows.
    """
    target = resolve_device(device)
    model, tokenizer = load_classifier(name, "TokenClassification", device=target, dtype=resolve_dtype(dtype, target))
    kind, weight, bias = head_of(model)
    head = ScalarHead(weight.shape[1], bias=True).to(target, torch.promote_types(model.dtype, torch.float32))
    head.load_state_dict({"weight": weight, "bias": bias})
    heads = {kind: head.requires_grad_(False)}
    lm = LanguageModel(str(name), model, tokenizer, attention="rows", note="a token classifier", heads=heads)
    check_causal(lm)
    return replace(lm, rope=declared_tables(lm.config))


def reward_tokens(lm: LanguageModel, chat: ChatFormat, rollouts: Sequence[Rollout]) -> list[TokenValues]:
    """The reward of every token of every rollout under the policy's chat format, or why there is none."""
    format_ = ChatFormat.of(lm)
    if format_.fingerprint == chat.fingerprint:
        return rewards_of_ids(lm, [(each.prompt_ids, each.response_ids) for each in rollouts])
    read = [_read(format_, each) for each in rollouts]
    scored = iter(
        rewards_of_ids(lm, [(each.prompt_ids, each.ids) for each in read if isinstance(each, ResponseTokens)])
    )
    return [
        tokens if isinstance(tokens, InputError) else _bridged(next(scored), tokens, chat, rollout)
        for rollout, tokens in zip(rollouts, read, strict=True)
    ]


def _read(chat: ChatFormat, rollout: Rollout) -> ResponseTokens | InputError:
    """A rollout as the reward model's own tokens, or why it cannot be read."""
    turns, where = rollout.prompt.turns, rollout.prompt.where
    try:
        response = Turn("assistant", rollout.response, rollout.fields)
        return response_tokens(chat, turns, response, finished=rollout.finished, where=where)
    except InputError as error:
        return error


def _bridged(values: TokenValues, tokens: ResponseTokens, chat: ChatFormat, rollout: Rollout) -> TokenValues:
    """The values of one tokenizer's tokens on those of the policy's, or why they cannot be placed there."""
    if isinstance(values, InputError):
        return values
    if not rollout.response_ids:
        return EmptyResponse("no tokens")
    try:
        offsets = rollout_offsets(chat.tokenizer, rollout)
    except InputError as error:
        return error
    # No omission but a token: without a place after a response that was cut off, its value stays with the last one.
    last = offsets[-1][1] - 1
    spans = [Span(min(start, last), end, value) for (start, end), value in zip(tokens.offsets, values, strict=True)]
    return place_rewards(spans, offsets).values


def rewards_of_ids(lm: LanguageModel, pairs: Sequence[tuple[Ids, Ids]]) -> list[TokenValues]:
    """The reward of every token of responses after prompts, or why there is none; rows of like length share a call.

    Pairs are prompt and response. A prompt is cut on the left where the model's window asks for it.
    """
    window = lm.window or maxsize
    too_long = TooLong(f"longer than the reward model's window of {window} tokens")
    found: list[TokenValues] = [too_long if ids else EmptyResponse("no tokens") for _, ids in pairs]
    trees = {
        index: branches(prompt[-(window - len(ids)) :], ids)
        for index, (prompt, ids) in enumerate(pairs)
        if ids and prompt and len(ids) < window
    }
    kind = next(iter(lm.heads))
    places = sorted(trees, key=lambda index: len(trees[index]))
    with torch.no_grad():
        for start in range(0, len(places), ROWS):
            packed = pack([trees[index] for index in places[start : start + ROWS]])
            values = token_rewards(token_values(lm, packed, kind), kind == TOKEN_LOGIT)
            for index, row in zip(places[start : start + ROWS], packed.per_node(values), strict=True):
                found[index] = tuple(row.tolist())
    return found
