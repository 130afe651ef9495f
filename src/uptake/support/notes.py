"""Notes on rows: what they hold that no model read, or reads in another way; counted as it comes, said at the end."""

from collections import defaultdict

# Things of one kind that are told apart one by one: of more, only a sample is held, and their number is an estimate.
MOST = 1 << 16


class _Distinct:
    """The number of distinct things that are shown, exact up to `MOST`, and then to one in a hundred.

    Held are the hashes that end with so many zero bits: more zeros whenever they become too many, so that each stands
    for two, four, eight. Source: Wegman's adaptive sampling, Flajolet (1990), Computing 43:391-400.
    """

    def __init__(self) -> None:
        self.zeros, self.hashes = 0, set[int]()

    def add(self, thing: object) -> None:
        # Hashed twice, since numbers are their own hashes.
        found = hash((thing,))
        if found & ((1 << self.zeros) - 1):
            return
        self.hashes.add(found)
        while len(self.hashes) > MOST:
            self.zeros += 1
            self.hashes = {each for each in self.hashes if not each & ((1 << self.zeros) - 1)}

    def __str__(self) -> str:
        count = len(self.hashes) << self.zeros
        return f"about {count}" if self.zeros else f"{count}"


_SEEN: defaultdict[str, _Distinct] = defaultdict(_Distinct)
_FIRST: dict[str, str] = {}


def note(what: str, of: object, example: str = "") -> None:
    """Note of something about `of`, a hashable value: the same counts once, however often it is read.

    The first `example` is said too.
    """
    _SEEN[what].add(of)
    if example:
        _FIRST.setdefault(what, example)


def notes() -> list[str]:
    """Lines for everything noted in this process: how many, and what."""
    first = {what: f"; the first: {example}" for what, example in _FIRST.items()}
    return [f"{count} {what}{first.get(what, '')}" for what, count in _SEEN.items()]


def clear_notes() -> None:
    """Forgetting of all that was noted."""
    _SEEN.clear()
    _FIRST.clear()
