"""Memory of a preference data set in a DPO run, from the file to the examples that the run holds until its end.

Rows are read one at a time and leave their token ids behind, four bytes each. The peer keeps what is plain to keep: the
rows in a list, and for each a record of both responses with text and ids as tuples. Each side works in a process of its
own; the figure is the growth of its peak resident memory, in bytes a pair.
"""

import json
import os
import random
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from _harness import peak_bytes, record, seconds
from _model import llama, text, tokenizer

from uptake import ChatFormat, World, read
from uptake.data.read import RowStream
from uptake.examples.preferences import PreferenceRows
from uptake.models import prepare
from uptake.types import Preference, Prompt

PAIRS = int(os.environ.get("PAIRS", "100000"))
PROMPT, ANSWER = 60, 120
TEMPLATE = (
    "{% for message in messages %}{{ message['content'] }} "
    "{% if message['role'] == 'assistant' %}<end>{% endif %}{% endfor %}"
)


@dataclass(frozen=True, slots=True)
class Answered:
    """A response as text and ids, with its prompt and what the data set says of it."""

    prompt: Prompt
    prompt_ids: tuple[int, ...]
    response_ids: tuple[int, ...]
    response: str
    score: float


def write(path: Path) -> None:
    rng = random.Random(0)
    sides = {"prompt": PROMPT, "chosen": ANSWER, "rejected": ANSWER}
    with path.open("w") as file:
        file.writelines(
            json.dumps({name: text(rng, words) for name, words in sides.items()}) + "\n" for _ in range(PAIRS)
        )


def world(path: Path) -> World:
    policy = prepare(llama(32, 64, 1, heads=2, pad_token_id=0), tokenizer())
    return World(policy, ChatFormat.of(tokenizer(), TEMPLATE), folder=path.parent)


def ours(path: Path) -> Callable[[], object]:
    at = world(path)
    kept = []

    def work() -> None:
        rows = RowStream(path)
        kept.append((rows, PreferenceRows()(World(at.policy, at.chat, rows), 0)))

    return work


def peer(path: Path) -> Callable[[], object]:
    chat = world(path).chat
    kept = []

    def work() -> None:
        rows = read(path)
        kept.append((rows, [answered(chat, row) for row in rows if isinstance(row, Preference)]))

    return work


def answered(chat: ChatFormat, row: Preference) -> tuple[Answered, ...]:
    turns = row.prompt.turns
    return tuple(
        Answered(row.prompt, *chat.response_ids(turns, response), response, score)
        for response, score in ((row.chosen, 1.0), (row.rejected, 0.0))
    )


def main() -> None:
    sides = {"uptake": ours, "rows and records": peer}
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "pairs.jsonl"
        write(path)
        size = path.stat().st_size / PAIRS
        grown = {name: peak_bytes(side, path)[1] / PAIRS for name, side in sides.items()}
        once = {name: seconds(side(path)) for name, side in sides.items()}
    own, other = grown.values()
    record(
        "offline_memory",
        f"Memory of {PAIRS:,} preference pairs of {PROMPT} + 2 x {ANSWER} words, {size:,.0f} bytes a row in the file",
        [
            {
                "measure": "bytes a pair",
                **{name: f"{each:,.0f}" for name, each in grown.items()},
                "ratio": f"{other / own:.1f}",
            },
            {
                "measure": "seconds in all, once",
                **{name: f"{each:.0f}" for name, each in once.items()},
                "ratio": f"{once['rows and records'] / once['uptake']:.2f}",
            },
        ],
    )


if __name__ == "__main__":
    main()
