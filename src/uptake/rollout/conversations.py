"""Whole conversations as rollouts: every turn that carries loss, with what was said since the one before."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal

from uptake.data import ChatFormat, answered
from uptake.data.spans import Ids, refuse, tokenize
from uptake.errors import InputError
from uptake.rollout.from_rows import responses
from uptake.types import Dialogue, Prompt, Rollout, Row, Turn, Where
from uptake.world import World

Turns = Literal["all", "responses", "last"]


@dataclass(frozen=True)
class Conversations:
    """One rollout for every run of tokens that carries loss; its prompt is what came since the run before.

    With `turns` "all" a conversation is one run. `sample` counts the runs of a conversation, so their ids, one after
    another, are the conversation. The oldest turns of one that is longer than the policy's window are left out; where
    the last exchange alone is too long, a rollout without any token stands for it. Raises InputError for a preference,
    and for a row without a response where only responses carry loss.
    """

    recorded: ClassVar[bool] = True

    turns: Turns = "all"

    def __call__(self, world: World, rows: Sequence[Row], round_: int, version: int) -> Sequence[Rollout]:
        return [rollout for row in rows for rollout in self._rollouts(world, row)]

    def _rollouts(self, world: World, row: Row) -> list[Rollout]:
        prompt, turns = self._conversation(row)
        kept = _fitted(world, turns, prompt.where)
        runs = list(self._runs(world.chat, kept, prompt.where)) if kept else [((), ())]
        return [
            Rollout(prompt, before, run, turns[-1].content, bool(run), sample=sample, source="dataset")
            for sample, (before, run) in enumerate(runs)
        ]

    def _conversation(self, row: Row) -> tuple[Prompt, Dialogue]:
        if not isinstance(row, Prompt):
            (one,) = answered([row])
            return one.prompt, (*one.prompt.turns, Turn("assistant", one.response))
        if self.turns == "all":
            return row, row.turns
        if all(turn.role != "assistant" for turn in row.turns):
            responses(row)  # raises
        return row, row.turns[:-1]

    def _runs(self, chat: ChatFormat, turns: Dialogue, where: Where | None) -> Iterator[tuple[Ids, Ids]]:
        """What came since the run before, and the run, as token ids."""
        if self.turns == "all":
            yield (), tokenize(chat.tokenizer, [chat.render(turns)])[0]
            return
        places = [place for place, turn in enumerate(turns) if turn.role == "assistant"]
        read: Ids = ()
        for place in places if self.turns == "responses" else places[-1:]:
            prompt, run = chat.response_ids(turns[:place], turns[place].content, where=where)
            if prompt[: len(read)] != read:
                before, now = (str(chat.tokenizer.decode(list(ids))) for ids in (read, prompt[: len(read)]))
                refuse("the template changes earlier turns", before, now, where)
            yield prompt[len(read) :], run
            read = prompt + run


def _fitted(world: World, turns: Dialogue, where: Where | None) -> Dialogue:
    """The turns but for the oldest, as the policy's window asks; none where the last exchange alone is too long."""
    if world.policy.window is None:
        return turns
    world.chat.render(turns)  # raises where the template refuses the conversation; `fit` then has one reason left
    try:
        return world.chat.fit(turns, world.policy.window, where=where)[0]
    except InputError:
        return ()
