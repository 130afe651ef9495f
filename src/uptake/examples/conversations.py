"""Conversations to predict token by token: every turn that carries loss, after all that stands before it."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Literal

from uptake.data import ChatFormat, answered
from uptake.data.convert import response_turns, responses
from uptake.data.spans import Ids, refuse
from uptake.errors import InputError
from uptake.examples.recorded import each_row
from uptake.models import Node, TokenTree
from uptake.support.token_ids import compact
from uptake.types import Dialogue, Dropped, Prompt, Rated, RoundData, Row, Where
from uptake.world import World

Turns = Literal["all", "responses", "last"]

# What came since the run before, and a run of tokens that carries loss.
Run = tuple[Ids, Ids]


@dataclass(frozen=True)
class Conversations:
    """One tree without branches for every row: the tokens that carry loss are scored.

    `turns` says which turns carry loss: "all", the assistant's "responses" or the "last" one. The oldest turns of a
    conversation that is longer than the policy's window are left out; one whose last exchange alone is too long is
    left out and counted, as is a response that its label calls bad. A turn of weight 0 carries no loss, and what the
    assistant opens with is no response. Raises InputError for a preference, and for a row without a response where only
    responses carry loss.
    """

    turns: Turns = "all"

    def __call__(self, world: World, round_: int) -> RoundData:
        return conversation_trees(self.runs(world, row) for row in each_row(world))

    def runs(self, world: World, row: Row) -> list[Run] | Dropped:
        """The runs of a conversation, whose ids, one after another, are the conversation."""
        if isinstance(row, Rated) and not row.good:
            return Dropped.LABELED_BAD
        prompt, turns = self._conversation(row)
        fitted = _fitted(world, turns, prompt.where)
        if fitted is None:
            return Dropped.EXCHANGE_TOO_LONG
        return list(self._runs(world.chat, fitted, prompt.where)) or Dropped.NO_WEIGHT

    def _conversation(self, row: Row) -> tuple[Prompt, Dialogue]:
        if not isinstance(row, Prompt):
            (one,) = answered([row])
            return one.prompt, (*one.prompt.turns, *response_turns(one))
        if self.turns == "all":
            return row, row.turns
        if all(turn.role != "assistant" for turn in row.turns):
            responses(row)  # raises
        return row, row.turns[:-1]

    def _runs(self, chat: ChatFormat, turns: Dialogue, where: Where | None) -> Iterator[Run]:
        if self.turns == "all":
            yield (), chat.tokenize([chat.text(turns)])[0]
            return
        first = next((index for index, turn in enumerate(turns) if turn.role == "user"), len(turns))
        places = [
            index
            for index, turn in enumerate(turns)
            if turn.role == "assistant" and index > first and turn.fields.get("weight", 1)
        ]
        read: Ids = ()
        for index in places if self.turns == "responses" else places[-1:]:
            prompt, run = chat.response_ids(turns[:index], turns[index], where=where)
            if prompt[: len(read)] != read:
                before, now = (str(chat.tokenizer.decode(list(ids))) for ids in (read, prompt[: len(read)]))
                refuse("the template changes earlier turns", before, now, where)
            yield prompt[len(read) :], run
            read = prompt + run


def conversation_trees(conversations: Iterable[list[Run] | Dropped]) -> RoundData:
    """Every conversation as a tree without branches, its runs scored; what was dropped is counted."""
    trees: list[TokenTree] = []
    dropped = {Dropped.EXCHANGE_TOO_LONG: 0}
    for runs in conversations:
        if isinstance(runs, Dropped):
            dropped[runs] = dropped.get(runs, 0) + 1
        else:
            trees.append(_chain(runs))
    count = len(trees)
    return RoundData(trees, {"samples": count + sum(dropped.values()), "kept": count, "dropped": dropped})


def _chain(runs: Iterable[Run]) -> TokenTree:
    parts = [part for before, run in runs for part in ((before, False), (run, True)) if part[0]]
    return TokenTree(tuple(Node(compact(ids), index - 1, scored) for index, (ids, scored) in enumerate(parts)))


def _fitted(world: World, turns: Dialogue, where: Where | None) -> Dialogue | None:
    """The turns but for the oldest, as the policy's window asks; None where the last exchange alone is too long."""
    if world.policy.window is None:
        return turns
    world.chat.text(turns, where=where)  # raises where the template refuses it; `fit` then has one reason left
    try:
        return world.chat.fit(turns, world.policy.window, where=where)[0]
    except InputError:
        return None
