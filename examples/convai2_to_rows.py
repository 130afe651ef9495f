"""Turn human-bot chats of ConvAI2 into rows that Uptake scores: one for every bot message that its user rated.

    python examples/convai2_to_rows.py data_volunteers.jsonl.gz rated.jsonl
    uptake score rated.jsonl --model ./judge --out scored.jsonl --drop-bad

A row is an unpaired preference: the conversation so far as `prompt`, the bot's message as `completion`, and the user's
thumb as `label`.
"""

import gzip
import json
import sys
from collections.abc import Iterator
from itertools import groupby
from pathlib import Path
from typing import Any


def rows(chat: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """The rated bot messages of one chat; messages that follow one another from one side are one turn."""
    turns: list[dict[str, str]] = []
    for bot, run in groupby(chat["dialog"], key=lambda message: message["sender_class"] == "Bot"):
        messages = [message for message in run if message["text"].strip()]
        if not messages:
            continue
        text = "\n".join(message["text"].strip() for message in messages)
        thumb = messages[-1]["evaluation_score"]
        if bot and turns and thumb is not None:
            yield {"prompt": list(turns), "completion": text, "label": bool(thumb)}
        if bot == bool(turns and turns[-1]["role"] == "user"):
            turns.append({"role": "assistant" if bot else "user", "content": text})


def main() -> None:
    if len(sys.argv) != 3:
        raise SystemExit("usage: convai2_to_rows.py CHATS.jsonl.gz ROWS.jsonl")
    source, target = map(Path, sys.argv[1:])
    with gzip.open(source, "rt", encoding="utf-8") as lines:
        found = [row for line in lines for row in rows(json.loads(line))]
    target.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in found), encoding="utf-8")
    print(f"{target}: {len(found)} rated messages")


if __name__ == "__main__":
    main()
