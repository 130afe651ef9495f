"""Good and bad responses as the data set rates them: rated rows, and both sides of preferences."""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass

from uptake.data.convert import response_turns
from uptake.data.where import bad_row
from uptake.examples.recorded import each_row, preference_ids, response_ids
from uptake.support.token_ids import compact
from uptake.types import Dropped, Labeled, Preference, Prompt, Rated, RoundData, Row, TokenIds
from uptake.world import World


@dataclass(frozen=True)
class RatedRows:
    """A labeled response for every rated row, and for each side of a preference: chosen is good, rejected bad.

    A response that a row holds unfinished is left out and counted. Raises InputError for a row that says neither, and
    for one that the model's window cannot hold.
    """

    def __call__(self, world: World, round_: int) -> RoundData:
        examples: list[Labeled] = []
        dropped = {Dropped.UNFINISHED: 0}
        prompts: Counter[str] = Counter()
        for row in each_row(world):
            for prompt_ids, ids, is_good in _rated(world, row):
                prompts[_prompt(row).key] += 1
                if ids[-1] in world.chat.end_ids:
                    examples.append(Labeled(compact(prompt_ids), compact(ids), is_good))
                else:
                    dropped[Dropped.UNFINISHED] += 1
        good = sum(example.good for example in examples)
        counts = {"prompts": len(prompts), "samples": prompts.total(), "good": good, "bad": len(examples) - good}
        return RoundData(examples, counts | {"dropped": dropped})


def _prompt(row: Row) -> Prompt:
    return row if isinstance(row, Prompt) else row.prompt


def _rated(world: World, row: Row) -> Iterator[tuple[TokenIds, TokenIds, bool]]:
    """Ids of prompt and response, and whether it is good, of every rated response of a row."""
    match row:
        case Rated():
            yield *response_ids(world, row.prompt, *response_turns(row)), row.good
        case Preference():
            prompt_ids, chosen_ids, rejected_ids = preference_ids(world, row)
            yield prompt_ids, chosen_ids, True
            yield prompt_ids, rejected_ids, False
        case _:
            where = _prompt(row).where
            raise bad_row("no response of this row is rated", where, allowed="completion and label, or a preference")
