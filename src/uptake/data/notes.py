"""What was done with rows that whoever brought them should hear of: counted while they are read, said at the end."""

from collections import defaultdict

_SEEN: defaultdict[str, set[int]] = defaultdict(set)


def note(what: str, of: object) -> None:
    """Count something that befell `of`, a hashable value; the same counts once, however often it is read."""
    _SEEN[what].add(hash(of))


def notes() -> list[str]:
    """A line for everything noted in this process: how many, and what."""
    return [f"{len(seen)} {what}" for what, seen in _SEEN.items()]


def clear_notes() -> None:
    """Forget what was noted."""
    _SEEN.clear()
