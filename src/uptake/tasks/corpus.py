"""Corpus: conversations to learn from, out of a folder of data sets, none of which a benchmark there evaluates.

What shares a prompt or its first exchange with an evaluated item is held out, whatever set it comes from.
"""

import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from itertools import cycle, takewhile
from pathlib import Path

from uptake.data import Writer, prompts, read
from uptake.data.lock import locked, was_killed
from uptake.datasets import EVALUATED, Item, Rating, find, folder_of, names, offers, read_set
from uptake.errors import InputError
from uptake.support.keys import prompt_key
from uptake.types import Dialogue, Role, Turn

# What becomes of a conversation, in the order in which they are sorted out.
OUTCOMES = ("unusable", "held out", "repeated", "validation", "kept")

# One conversation in so many goes to the validation file.
VALIDATION = 50

_ROLES: Sequence[Role] = ("user", "assistant")
_BLANKS = re.compile(r"[^\S\n]+")
_GAPS = re.compile(r" ?\n ?")
_WIDE_GAPS = re.compile(r"\n{3,}")


@dataclass(frozen=True)
class CorpusSummary:
    """Conversations by source and outcome (`OUTCOMES`), the user's turns in those kept, and evaluated items by set."""

    outcomes: Mapping[str, Mapping[str, int]]
    user_turns: Mapping[str, int]
    evaluated: Mapping[str, int]


def write_corpus(
    data: str | Path,
    out: str | Path,
    *,
    validation: str | Path | None = None,
    hold_out: Sequence[str | Path] = (),
    columns: Mapping[str, str] | None = None,
    overwrite: bool = False,
) -> CorpusSummary:
    """Write the conversations of the data folder to `out`, as rows of `messages` and `source`.

    `validation` takes one conversation in fifty, chosen by its first turn. The prompts in the files `hold_out`, whose
    `columns` are as in `read`, are held out like those of the benchmarks. Raises InputError where the folder holds no
    set that is known, for a row that cannot be read, and for an output that exists, unless `overwrite`.
    """
    found = sources(Path(data))
    if not found:
        folders = ", ".join(find(name).FOLDER for name in names("conversations"))
        raise InputError("no conversations to learn from", path=data, allowed=folders)
    held = {name: [evaluated_keys(item) for item in items] for name, items in evaluated(Path(data))}
    for path in hold_out:
        rows = prompts(read(path, columns=columns))
        held[str(path)] = [conversation_keys(each.turns)[-1:] for each in rows]
    held_out = {key for items in held.values() for keys in items for key in keys}
    conversations = [(name, clean(turns)) for name, dialogues in found.items() for turns in dialogues()]
    outcomes = sort_out([turns for _, turns in conversations], held_out, VALIDATION if validation else None)
    counts, turns_of = {name: Counter(dict.fromkeys(OUTCOMES, 0)) for name in found}, Counter(dict.fromkeys(found, 0))
    resumes = was_killed(Path(out))
    with ExitStack() as stack:
        stack.enter_context(locked(Path(out), *([Path(validation)] if validation is not None else [])))
        files = {"kept": stack.enter_context(Writer(out, overwrite=overwrite, resumes=resumes))}
        if validation is not None:
            # A call that was stopped may have left this one alone.
            files["validation"] = stack.enter_context(Writer(validation, overwrite=overwrite, resumes=True))
        for (name, turns), outcome in zip(conversations, outcomes, strict=True):
            counts[name][outcome] += 1
            if outcome in files:
                messages = [{"role": turn.role, "content": turn.content} for turn in turns]
                files[outcome].write({"messages": messages, "source": name})
            turns_of[name] += (outcome == "kept") * sum(turn.role == "user" for turn in turns)
    return CorpusSummary(counts, turns_of, {name: len(items) for name, items in held.items()})


def sources(folder: Path) -> dict[str, Callable[[], Iterator[Dialogue]]]:
    """The conversations of every data set in the folder, by name, those of sets that are also evaluated first."""
    ordered = sorted(names("conversations"), key=lambda name: set(EVALUATED).isdisjoint(offers(name)))
    here = (name for name in ordered if folder_of(name, folder) is not None)
    return {name: partial(read_set, name, "conversations", folder) for name in here}


def evaluated(folder: Path) -> Iterator[tuple[str, Sequence[Item]]]:
    """The evaluated items of every data set that has its folder here."""
    for name in names(*EVALUATED):
        if folder_of(name, folder) is not None:
            rows = (row for kind in EVALUATED if kind in offers(name) for row in read_set(name, kind, folder))
            yield name, [row for row in rows if not isinstance(row, str)]


def evaluated_keys(item: Item) -> list[str]:
    """What no conversation to learn from may share with an item: its prompt, and its first exchanges."""
    if isinstance(item, Rating):
        dialogues = [item.dialogue]
    else:
        dialogues = [(*item.prompt.turns, Turn("assistant", response)) for response in item.responses]
    keys = [conversation_keys(clean(turns)) for turns in dialogues]
    return [key for each in keys for key in (*each[1:2], *each[-2:-1])]


def conversation_keys(turns: Dialogue) -> list[str]:
    """A key for the first turn of a conversation, for the first two, and so on; blind to case, blanks and system."""
    plain = [Turn(turn.role, " ".join(turn.content.casefold().split())) for turn in turns if turn.role != "system"]
    return [prompt_key(tuple(plain[: size + 1])) for size in range(len(plain))]


def sort_out(conversations: Sequence[Dialogue], held_out: set[str], validation: int | None = None) -> Iterator[str]:
    """The outcome of every conversation, in order.

    Unusable are those of one turn or with roles out of order, repeated those that begin another one that may be kept,
    or stand there a second time. One in `validation` is for validation, all that share a first turn together.
    """
    keyed = [conversation_keys(turns) for turns in conversations]
    begun = {key for keys in keyed if held_out.isdisjoint(keys) for key in keys[:-1]}
    for turns, keys in zip(conversations, keyed, strict=True):
        if len(keys) < 2 or any(turn.role != role for turn, role in zip(turns, cycle(_ROLES), strict=False)):
            yield "unusable"
        elif not held_out.isdisjoint(keys):
            yield "held out"
        elif keys[-1] in begun:
            yield "repeated"
        else:
            yield "validation" if validation and int(keys[0], 16) % validation == 0 else "kept"
        begun.add(keys[-1])


def clean(turns: Iterable[Turn]) -> Dialogue:
    """The turns up to the first blank one, without unprintable characters, double blanks and wide gaps."""
    return tuple(takewhile(lambda turn: turn.content, (Turn(turn.role, _tidy(turn.content)) for turn in turns)))


def _tidy(text: str) -> str:
    text = "".join(each for each in _BLANKS.sub(" ", text) if each == "\n" or each.isprintable())
    return _WIDE_GAPS.sub("\n\n", _GAPS.sub("\n", text)).strip()
