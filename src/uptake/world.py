"""World of a run: the policy that learns, the models that judge, the rows, and a folder to write to."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from uptake.data.chat import ChatFormat
from uptake.errors import InputError
from uptake.models import LanguageModel
from uptake.types import Row


@dataclass(frozen=True, eq=False)
class World:
    """The surroundings of a recipe; parts receive it and keep nothing of it.

    `rows` may be a `RowStream`, whose rows are read when they are gone through. `models` holds every model but the
    policy under the name that a recipe calls it by ("follow_up", "reference"). Raises InputError where `chat` does not
    know every end of the policy's texts: `ChatFormat.of(policy)` does.
    """

    policy: LanguageModel
    chat: ChatFormat
    rows: Sequence[Row] = ()
    models: Mapping[str, LanguageModel] = field(default_factory=dict)
    folder: Path = Path("run")
    seed: int = 0

    def __post_init__(self) -> None:
        self.chat.check_ends(self.policy)

    def model(self, name: str) -> LanguageModel:
        """The model a recipe calls `name`; raises InputError where the run was given none."""
        if name not in self.models:
            have = ", ".join(sorted(self.models)) or "none"
            raise InputError(f"this recipe needs a model called {name!r}; given: {have}", field="models")
        return self.models[name]
