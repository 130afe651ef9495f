"""Every word the town knows."""

import re
from functools import cache
from itertools import chain

from uptake.town import lines, users
from uptake.town.facts import POOLS, Values
from uptake.town.lines import words

SLOT = re.compile(r"\{\w+\}")


@cache
def vocabulary() -> Values:
    """Return every word and punctuation mark the town can say, sorted; the scoring follow-ups use no others."""
    templates = chain(
        *(group for table in (lines.QUESTIONS, lines.CLAIMS, lines.VAGUE) for group in table.values()),
        *(lines.WARM_OPENERS, lines.WARM_CLOSERS, lines.COLD_OPENERS, lines.COLD_CLOSERS),
        *(lines.PUZZLED, lines.OFF_TOPIC, (lines.HELLO, lines.GOODBYE, lines.MORE)),
        *(lines.VAGUE_WORDS.values(), lines.INSTRUCTIONS.values(), *POOLS.values()),
        users.all_lines(),
    )
    return tuple(sorted({word for text in templates for word in words(SLOT.sub(" ", text))} | set(".,!?")))
