"""Annotators: what one is, and the settings that build it."""

from collections.abc import Mapping, Sequence
from typing import ClassVar, Literal, Protocol

from uptake.rewards.base import Resources, RewardSpec
from uptake.types import Prompt, Verdict


class Annotator(Protocol):
    """Annotator of pairs: one verdict for every prompt with its two responses, in order."""

    kind: ClassVar[Literal["annotator"]] = "annotator"

    @property
    def fingerprint(self) -> str:
        """A text that differs wherever verdicts may."""
        ...

    @property
    def columns(self) -> tuple[str, ...]:
        """The further columns of a pair's row that a verdict may depend on; "*" among them for any."""
        return ()

    def compare(self, prompts: Sequence[Prompt], pairs: Sequence[tuple[str, str]]) -> Sequence[Verdict]: ...


class AnnotatorSpec(Protocol):
    """Annotator spec: settings that print themselves in a recipe and build the annotator from the models at hand."""

    # The settings that a short spelling holds in turn: `server:URL`.
    short: ClassVar[tuple[str, ...]] = ()
    # What it reads where a model brings no chat template.
    plain: ClassVar[str] = RewardSpec.plain
    # Whether a pair is shown in both orders, so that they may disagree.
    both_orders: ClassVar[bool] = False

    @property
    def uses(self) -> tuple[str, ...]:
        """The names of the models that it is built from."""
        return ()

    def contents(self, resources: Resources) -> Mapping[str, str]:
        """The settings that name a file or folder, each with a hash of what is there: the name does not count."""
        return {}

    def build(self, resources: Resources) -> Annotator: ...
