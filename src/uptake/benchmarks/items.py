"""What a benchmark holds: comparisons, ratings, or candidates."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from uptake.types import Dialogue, Prompt, Where


@dataclass(frozen=True, slots=True)
class Comparison:
    """Two responses to one prompt and which is preferred: 1 the first, 0 the second, 0.5 neither; shares between.

    `Comparison(prompt, ("At eight.", "It sells bread."), preference=1.0)`. `group` names a part of the benchmark that
    is reported on its own.
    """

    prompt: Prompt
    responses: tuple[str, str]
    preference: float
    group: str = ""
    where: Where | None = None


@dataclass(frozen=True, slots=True)
class Rating:
    """A conversation that ends with a response, and what people gave the response (or the whole of it); more is better.

    `Rating((Turn("user", "Hi"), Turn("assistant", "Hello!")), {"overall": 4.0}, level="turn")`. `ratings` are means
    over annotators, by quality; `system` is who answered; `follow_up` is what the user really said next; `group` names
    a part of the benchmark that is reported on its own.
    """

    dialogue: Dialogue
    ratings: Mapping[str, float]
    level: Literal["turn", "dialogue"]
    system: str = ""
    follow_up: str = ""
    group: str = ""
    where: Where | None = None


@dataclass(frozen=True, slots=True)
class Candidates:
    """Several responses to one prompt with the quality of each: `Candidates(prompt, ("a", "b"), (0.2, 0.9))`."""

    prompt: Prompt
    responses: tuple[str, ...]
    qualities: tuple[float, ...]
    group: str = ""
    where: Where | None = None


Item = Comparison | Rating | Candidates

# What a reader yields for a row: an item, or why the row is left out.
Row = Item | str
