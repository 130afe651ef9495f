"""Follow-up likelihood of real conversations on token trees, against one padded row a follow-up.

    python bench/real_speed.py --model runs/dialogue/model --data data

The model is that of docs/dialogue-model.md, the dialogues are the first of HH-RLHF that its window holds as they are.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import torch
import typer
from _harness import compare, record
from transformers import LlamaForCausalLM

from uptake import FollowUpReward, Turn, load
from uptake.datasets import Comparison, read_set
from uptake.errors import InputError
from uptake.types import Dialogue

SET, DIALOGUES, ROWS, REPEATS = "hh_helpful_base", 8, 8, 3


def some_dialogues(reward: FollowUpReward, data: Path) -> list[Dialogue]:
    """The first dialogues of the set that are scored without leaving out turns: the plain way leaves out nothing."""
    rows = read_set(SET, "comparisons", data)
    items = [row for row in rows if isinstance(row, Comparison)][: 8 * DIALOGUES]
    dialogues = [(*item.prompt.turns, Turn("assistant", item.responses[0])) for item in items]
    missing: dict[int, InputError] = {}
    dropped = reward.score(dialogues, unscored=missing).dropped_turns
    whole = (place for place, cut in enumerate(dropped) if not cut and place not in missing)
    return [dialogues[place] for place, _ in zip(whole, range(DIALOGUES), strict=False)]


@torch.no_grad()
def plain_rewards(model: LlamaForCausalLM, reward: FollowUpReward, dialogues: Sequence[Dialogue]) -> list[float]:
    """Rewards the plain way: every follow-up in a padded row behind its context, and logits of all positions."""
    found = []
    for turns in dialogues:
        stem, branches = reward.chat.follow_ups(turns, reward.followups.sentences)
        means: list[float] = []
        for start in range(0, len(branches), ROWS):
            some = branches[start : start + ROWS]
            longest = max(map(len, some))
            ids = torch.tensor([[*stem, *one, *[0] * (longest - len(one))] for one in some])
            mask = torch.tensor([[1] * (len(stem) + len(one)) + [0] * (longest - len(one)) for one in some])
            logits = model(input_ids=ids, attention_mask=mask, use_cache=False).logits
            logps = logits[:, :-1].log_softmax(-1).gather(2, ids[:, 1:, None])[..., 0]
            first = len(stem) - 1
            means += [float(row[first : first + len(one)].mean()) for row, one in zip(logps, some, strict=True)]
        found.append(float(reward.combine(torch.tensor([means]), torch.zeros(1, dtype=torch.long)).total))
    return found


def main(
    model: Annotated[Path, typer.Option(help="Folder of the dialogue model.")],
    data: Annotated[Path, typer.Option(help="Folder of the data sets.")],
) -> None:
    reward, plain = FollowUpReward.from_pretrained(load(model)), LlamaForCausalLM.from_pretrained(model).eval()
    dialogues = some_dialogues(reward, data)
    ours, theirs = reward.score(dialogues).rewards.tolist(), plain_rewards(plain, reward, dialogues)
    difference = max(abs(one - other) for one, other in zip(ours, theirs, strict=True))
    if difference > 1e-4:
        raise SystemExit(f"the plain way differs by {difference:.1e}")
    found = compare(lambda: reward.score(dialogues), lambda: plain_rewards(plain, reward, dialogues), REPEATS, warmup=0)
    record(
        "real_speed",
        f"{len(dialogues)} dialogues of {SET} rated by {len(reward.followups.sentences)} follow-ups each",
        [
            {
                "token trees, s": str(found.ours),
                "one row a follow-up, s": str(found.peer),
                "rows / trees": str(found.ratio),
                "largest difference": f"{difference:.1e}",
            }
        ],
    )


if __name__ == "__main__":
    typer.run(main)
