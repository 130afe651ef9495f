"""Mine preference pairs from the samples of a policy, judged by follow-ups."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from uptake.data import Writer, to_record
from uptake.data.lock import locked
from uptake.data.read import check_table
from uptake.data.rows import bare
from uptake.data.write import may_write, write_json
from uptake.errors import InputError
from uptake.recipe import Recipe
from uptake.signal import BestWorst, MinedPair
from uptake.support.folders import remove_folder
from uptake.support.stop import going_on
from uptake.tasks.train import warn_of_self_judging
from uptake.train.rounds import collect, nothing_left
from uptake.train.run_folder import RunLog, open_run
from uptake.types import PairIds, Preference
from uptake.world import World


@dataclass(frozen=True)
class MineSummary:
    """Summary of mining: how many pairs were written where, and every figure about what was kept and dropped."""

    pairs: int
    path: Path
    figures: Mapping[str, Any]


def mine(recipe: Recipe, world: World, out: str | Path, *, overwrite: bool = False) -> MineSummary:
    """Run the first half of a recipe's first stage and write its pairs to `out`, a preference data set.

    The figures go beside it, to `<out>.summary.json`. Samples and judgements are journaled in `world.folder`, so a call
    that was killed goes on where it stopped; the folder goes once the pairs are written. Raises InputError for an `out`
    that exists, unless `overwrite`, and for a recipe that does not pair the best with the worst; ModelError where no
    pair is left.
    """
    out, resumes, stage = Path(out), world.folder.exists(), recipe.stages[0]
    signal = stage.signal
    if not isinstance(signal, BestWorst):
        raise InputError("this recipe mines no pairs", field="signal", allowed="BestWorst")
    if out.suffix == ".parquet":
        check_table([bare(row) for row in world.rows])
    beside = out.with_name(f"{out.name}.summary.json")
    warn_of_self_judging(recipe, world)
    with (
        locked(out, beside, world.folder),
        going_on(lambda: f"{out}: the same command goes on from what is judged, which is in {world.folder}"),
    ):
        may_write(out, overwrite=overwrite or resumes)
        with open_run(recipe, world, resume=True) as folder:
            with RunLog(folder, 0) as log:
                data = collect(replace(stage, signal=signal.mine), log.within_limits(world), log, (0, 0), version=0)
            if not data.examples:
                raise nothing_left(log, (0, 0), data)
            with Writer(out, overwrite=overwrite, resumes=resumes) as writer:
                for mined in data.examples:
                    writer.write(pair_record(mined, world.chat.fingerprint))
                write_json(beside, data.summary)
            remove_folder(folder)
    return MineSummary(len(data.examples), out, data.summary)


def pair_record(mined: MinedPair, tokenizer: str) -> dict[str, Any]:
    """A pair as a preference row, with the token ids that were sampled so that training meets the very same ones."""
    pair = mined.pair
    prompt = replace(mined.chosen.prompt, extra={"margin_by_category": dict(mined.margin_by_category)})
    ids = PairIds(tokenizer, tuple(pair.prompt_ids), tuple(pair.chosen_ids), tuple(pair.rejected_ids))
    texts = mined.chosen.response, mined.rejected.response
    return to_record(Preference(prompt, *texts, margin=pair.margin, token_ids=ids))
