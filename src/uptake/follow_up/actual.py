"""Actual follow-up as reward: how much likelier is what the user really said after approval than after complaint?

A follow-up set says how likely each reaction is after a response. Here one reaction is known, and the set is the scale
it is read on: each follow-up of the set is put before the user's own words, in the same turn, and makes these words
likelier or less likely,

    m(f) = l(said | x, y, f) - l(said | x, y)        l is the mean log-probability per token

which is the pointwise mutual information of f and what was said, per token. Approval minus complaint, category by
category, is then the reward, by the same sums as for follow-up likelihood. How probable the words are in themselves
cancels, and so does how probable the follow-up is. The likelihood of a real turn alone would say how usual the turn is,
not whether it approves. This way is Uptake's; no paper is known to have it.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import final

import torch
from jaxtyping import Float
from torch import Tensor

from uptake.errors import InputError, ModelError
from uptake.follow_up.reward import BUDGET, CHUNK, FollowUpReward
from uptake.models import Node, TokenTree, score_trees
from uptake.rewards.rate import answered_turns
from uptake.types import Dialogue, Where


@dataclass(frozen=True)
class ActualFollowUpScores:
    """Rewards of N responses from what was said after them, in total and by category, and the K gains they come from.

    `gains` are m(f) in nats, columns in the order of the set's follow-ups. A response that could not be read is
    not-a-number throughout.
    """

    rewards: Float[Tensor, " responses"]
    by_category: Mapping[str, Float[Tensor, " responses"]]
    gains: Float[Tensor, "responses followups"]


@final
class ActualFollowUpReward:
    """Rates responses by what users said right after them, with model, set, format and sums of a follow-up reward.

    With `reduction="sum"` the reward adds up over the words that were said: longer turns say more. Raises InputError
    for a follow-up reward that standardizes within prompts, or has another form or mode than the default.
    """

    def __init__(self, reward: FollowUpReward) -> None:
        how = (reward.combine.standardize, reward.combine.form, reward.mode)
        if how != ("none", "contrast", "log_likelihood"):
            allowed = "standardize none, form contrast, mode log_likelihood"
            raise InputError(", ".join(how), field="reward", allowed=allowed)
        self.reward = reward

    @property
    def fingerprint(self) -> str:
        """A text that differs wherever scores may."""
        return f"ActualFollowUpReward({self.reward.fingerprint})"

    def score(
        self,
        dialogues: Sequence[Dialogue],
        follow_ups: Sequence[str],
        *,
        where: Sequence[Where | None] | None = None,
        unscored: dict[int, InputError] | None = None,
        on_progress: Callable[[int], None] = lambda done: None,
    ) -> ActualFollowUpScores:
        """Score dialogues that end with a response, each with the user's next turn.

        Arguments and errors are those of `FollowUpReward.score`. InputError too where the tokenizer joins a follow-up
        with the words after it.
        """
        places = list(where) if where is not None else [None] * len(dialogues)
        trees: dict[int, TokenTree] = {}
        for index, (turns, follow_up, at) in enumerate(zip(dialogues, follow_ups, places, strict=True)):
            try:
                trees[index] = self._tree(answered_turns(turns, at), follow_up, at)
            except InputError as error:
                if unscored is None:
                    raise
                unscored[index] = error
        return self._scores(trees, places, on_progress)

    def _tree(self, turns: Dialogue, follow_up: str, where: Where | None) -> TokenTree:
        """The conversation as stem; after it what was said, and every follow-up with what was said as its branch."""
        reward, speaker = self.reward, self.reward.format.speaker
        # A format of its own keeps the words of one user out of the cache of the follow-ups.
        chat, sentences = replace(reward.chat, _probed={}), reward.followups.sentences
        if reward.lm.window is not None:
            (alone,) = chat.follow_ups(turns, [follow_up], speaker=speaker, where=where)[1]
            reserve = reward.longest + len(alone)
            turns, _ = chat.fit(turns, reward.lm.window, reserve, shape=reward.format, where=where)
        turns = reward.format(turns)
        _, heads = reward.chat.follow_ups(turns, sentences, speaker=speaker, where=where)
        texts = [follow_up, *(f"{sentence.strip()} {follow_up}" for sentence in sentences)]
        stem, (bare, *whole) = chat.follow_ups(turns, texts, speaker=speaker, where=where)
        nodes = [Node(stem, scored=False), Node(bare, 0), *(Node(head, 0, scored=False) for head in heads)]
        for number, (head, ids) in enumerate(zip(heads, whole, strict=True)):
            if ids[: len(head)] != head or len(ids) == len(head):
                problem = f"the tokenizer joins {sentences[number]!r} with what was said after it"
                raise InputError(problem, allowed="a set whose follow-ups end with a mark of punctuation")
            nodes.append(Node(ids[len(head) :], 2 + number))
        return TokenTree(tuple(nodes))

    def _scores(
        self, trees: Mapping[int, TokenTree], places: Sequence[Where | None], on_progress: Callable[[int], None]
    ) -> ActualFollowUpScores:
        reward, order = self.reward, list(trees)
        shape, dtype = (
            (len(order), len(reward.followups.sentences)),
            torch.promote_types(reward.lm.dtype, torch.float32),
        )
        gains = torch.empty(shape, dtype=dtype)
        for start in range(0, len(order), CHUNK):
            chunk = order[start : start + CHUNK]
            scored = score_trees(reward.lm, [trees[index] for index in chunk], BUDGET)
            for row, (bare, *after) in enumerate(scored, start=start):
                values = torch.stack([_reduced(each, reward.reduction) for each in after])
                gains[row] = values - _reduced(bare, reward.reduction)
                if not bool(gains[row].isfinite().all()):
                    row_where = places[order[row]]
                    at = f"{row_where.path}:{row_where.line}: " if row_where else ""
                    raise ModelError(f"{at}{reward.lm.name} gives not-a-number for what was said after this response")
            on_progress(len(chunk))
        combined = reward.combine(gains)
        index = torch.tensor(order, dtype=torch.long)

        def placed(table: Tensor) -> Tensor:
            return table.new_full((len(places), *table.shape[1:]), torch.nan).index_copy(0, index, table)

        by_category = {name: placed(column) for name, column in combined.by_category.items()}
        return ActualFollowUpScores(placed(combined.total), by_category, placed(gains))


def _reduced(logps: Tensor, reduction: str) -> Tensor:
    return logps.sum() if reduction == "sum" else logps.mean()
