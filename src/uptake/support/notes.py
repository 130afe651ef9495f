"""Notes on rows: what they hold that no model read, or reads in another way; counted as it comes, said at the end."""

from collections import defaultdict

_SEEN: defaultdict[str, set[int]] = defaultdict(set)


def note(what: str, of: object) -> None:
    """Note of something about `of`, a hashable value: the same counts once, however often it is read."""
    _SEEN[what].add(hash(of))


def notes() -> list[str]:
    """Lines for everything noted in this process: how many, and what."""
    return [f"{len(seen)} {what}" for what, seen in _SEEN.items()]


def clear_notes() -> None:
    """Forgetting of all that was noted."""
    _SEEN.clear()
