"""Preference pairs as the data set gives them."""

from dataclasses import dataclass

from uptake.data.convert import responses
from uptake.data.where import bad_row
from uptake.examples.recorded import each_row, preference_ids
from uptake.support.token_ids import compact
from uptake.types import Dropped, Pair, Preference, Prompt, RoundData, Row
from uptake.world import World


@dataclass(frozen=True)
class PreferenceRows:
    """A pair for every preference; a row of equal responses gives none and is counted.

    With `margins` a pair has the `margin` that its row brings. A response that a row holds unfinished is used as it is,
    and counted under `unfinished`. Raises InputError for a row that is no preference or has no margin, and for one that
    the model's window cannot hold.
    """

    margins: bool = False

    @property
    def columns(self) -> tuple[str, ...]:
        """The columns that it uses beside what rows say."""
        return ("token_ids", "margin") if self.margins else ("token_ids",)

    def __call__(self, world: World, round_: int) -> RoundData:
        pairs: list[Pair] = []
        equal = unfinished = 0
        for row in each_row(world):
            preference = _preference(row)
            prompt_ids, chosen_ids, rejected_ids = map(compact, preference_ids(world, preference))
            margin = _margin(preference) if self.margins else 0.0
            unfinished += sum(ids[-1] not in world.chat.end_ids for ids in (chosen_ids, rejected_ids))
            if chosen_ids == rejected_ids:
                equal += 1
            else:
                pairs.append(Pair(prompt_ids, chosen_ids, rejected_ids, margin))
        dropped = {Dropped.EQUAL_RESPONSES: equal}
        return RoundData(pairs, {"pairs": len(pairs), "unfinished": unfinished, "dropped": dropped})


def _preference(row: Row) -> Preference:
    if isinstance(row, Preference):
        return row
    responses(row)  # raises for a row without any
    where = row.where if isinstance(row, Prompt) else row.prompt.where
    raise bad_row("this row has one response", where, allowed="chosen and rejected")


def _margin(row: Preference) -> float:
    if row.margin is None or not 0 <= row.margin < float("inf"):
        found = row.prompt.extra.get("margin") if row.margin is None else row.margin
        allowed = "a number from 0 up, since margin_scale is not 0"
        raise bad_row(f"found {found!r}", row.prompt.where, field="margin", allowed=allowed)
    return float(row.margin)
