"""The town's oracle as an editor: the right answer that is fewest word edits away."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import final

from uptake.edits.edit import Draft, Proposal
from uptake.errors import InputError
from uptake.town import Town
from uptake.types import Turn


@final
@dataclass(frozen=True)
class OracleEditor:
    """Edits answers to questions of the town; what answers no such question gets no edit. `town` is the town's seed."""

    town: int = 0

    @property
    def name(self) -> str:
        return f"oracle@{self.town}"

    @property
    def fingerprint(self) -> str:
        return repr(self)

    def __call__(self, drafts: Sequence[Draft]) -> Sequence[Proposal]:
        return [self._proposal(draft) for draft in drafts]

    def _proposal(self, draft: Draft) -> Proposal:
        try:
            return Proposal(Town(self.town).minimal_edit((*draft.prompt.turns, Turn("assistant", draft.response))))
        except InputError as error:
            return Proposal(reason="no_answer", answer=str(error))
