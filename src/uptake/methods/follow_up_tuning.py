"""Feedback tuning (arXiv 2409.13948): the follow-up model learns what readers say about answers, in their own words.

A row is a conversation that ends with the user's words about the response before them; these words and the token that
ends their turn carry loss, by next-token training, and the rest is read only. `format` is how the model is asked for
them: with `role_swap` it plays the user, asked to do so by `request`; with `user_role` they are the user's next turn in
the plain chat. `history` keeps all turns or the `last_turn` only. The format is recorded in the card of the trained
model, and follow-up likelihood then asks in the same way. An adapter wants a rate of 1e-4. Differs from a reward model
in that no label and no pair is needed. Gives no signal where feedback does not depend on the response.
"""

from dataclasses import dataclass

from uptake.data.role_swap import REQUEST, FollowUpFormat, FormatName, History
from uptake.data.where import bad_row
from uptake.examples.conversations import Run, conversation_trees
from uptake.examples.recorded import each_row
from uptake.methods import MethodConfig, fill
from uptake.objective import NextToken
from uptake.recipe import Recipe, Stage
from uptake.types import Dropped, Prompt, RoundData, Row
from uptake.update import Optimization
from uptake.world import World

ALIASES = ("feedback_tuning",)


class Config(MethodConfig):
    format: FormatName = "role_swap"
    history: History = "full"
    request: str = REQUEST
    # The paper's settings are not published; these are Uptake's.
    lr: float = 1e-5
    batch_size: int = 8


@dataclass(frozen=True)
class FeedbackTurns:
    """A tree for every row: its last turn, with the token that ends it, is scored after all that stands before it.

    The oldest turns of a conversation that is longer than the policy's window are left out; one whose last exchange
    alone is too long is left out and counted. Raises InputError for a row that does not end with a user turn after a
    response.
    """

    format: FollowUpFormat

    def __call__(self, world: World, round_: int) -> RoundData:
        return conversation_trees(self.runs(world, row) for row in each_row(world))

    def runs(self, world: World, row: Row) -> list[Run] | Dropped:
        """What stands before the last turn of a row, and the turn, as token ids."""
        if not isinstance(row, Prompt) or all(turn.role != "assistant" for turn in row.turns):
            where = row.where if isinstance(row, Prompt) else row.prompt.where
            raise bad_row("nobody says anything about a response", where, allowed="messages: ..., assistant, user")
        *answered, feedback = row.turns
        system = answered[:1] if answered[0].role == "system" else []
        for start in (index for index, turn in enumerate(answered) if turn.role == "user"):
            before = self.format((*system, *answered[start:]))
            ids = world.chat.follow_up(
                before, feedback.content, speaker=self.format.speaker, closed=True, where=row.where
            )
            if world.policy.window is None or len(ids.stem) + len(ids.branch) <= world.policy.window:
                return [(ids.stem, ids.branch)]
        return Dropped.EXCHANGE_TOO_LONG


def build(config: Config) -> Recipe:
    format = fill(FollowUpFormat, config)
    examples, update = FeedbackTurns(format), fill(Optimization, config)
    stage = Stage(examples=examples, objective=NextToken(), update=update, card=format.entry())
    return Recipe((stage,))
