"""Notes on rows: what they hold that no model read, or reads in another way; counted as it comes, said at the end."""

from collections import defaultdict

_SEEN: defaultdict[str, set[int]] = defaultdict(set)
_FIRST: dict[str, str] = {}


def note(what: str, of: object, example: str = "") -> None:
    """Note of something about `of`, a hashable value: the same counts once, however often it is read.

    The first `example` is said too.
    """
    _SEEN[what].add(hash(of))
    if example:
        _FIRST.setdefault(what, example)


def notes() -> list[str]:
    """Lines for everything noted in this process: how many, and what."""
    first = {what: f"; the first: {example}" for what, example in _FIRST.items()}
    return [f"{len(seen)} {what}{first.get(what, '')}" for what, seen in _SEEN.items()]


def clear_notes() -> None:
    """Forgetting of all that was noted."""
    _SEEN.clear()
    _FIRST.clear()
