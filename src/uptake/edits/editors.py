"""The editors by name, for the command line."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from uptake.edits.edit import Editor
from uptake.edits.oracle import OracleEditor
from uptake.edits.person import PersonEditor
from uptake.edits.prompt import DEFAULT
from uptake.edits.rules import Rules
from uptake.edits.server import ServerEditor
from uptake.errors import InputError
from uptake.support.settings import Choice, named

if TYPE_CHECKING:
    from uptake.models import LanguageModel


@dataclass(frozen=True)
class _ModelSettings:
    """What can be said of a `ModelEditor` beside its model."""

    prompt: str = DEFAULT
    max_new_tokens: int | None = None


EDITORS: Mapping[str, Callable[..., Any]] = {
    "model": _ModelSettings,
    "server": ServerEditor,
    "oracle": OracleEditor,
    "person": PersonEditor,
}


def editor(
    choice: Choice, *, model: "str | Path | LanguageModel | None" = None, rules: Rules = Rules(), **loading: Any
) -> Editor:
    """The editor of a name, or of a name with settings: `{"server": {"url": "http://localhost:8000/v1", ...}}`.

    `model` and `loading` are for the editor "model"; `rules` are what a person is shown beside the edit. Raises
    InputError for an unknown name or setting, a setting out of its range, a model that is missing or not used, and a
    key that is missing.
    """
    made = named("editor", choice, EDITORS, elsewhere=("rules",))()
    if isinstance(made, _ModelSettings):
        if model is None:
            raise InputError("editor 'model' needs a model", field="model", allowed="a Transformers folder or Hub name")
        from uptake.edits.model import ModelEditor  # noqa: PLC0415 - Torch takes seconds to load

        return ModelEditor.from_pretrained(model, made.prompt, max_new_tokens=made.max_new_tokens, **loading)
    if model is not None:
        raise InputError("only editor 'model' uses a model", field="model", allowed="no model, or that editor")
    if isinstance(made, ServerEditor):
        made.key()  # one that is missing is said before anything else is loaded
    found: Editor = replace(made, rules=rules) if isinstance(made, PersonEditor) else made
    return found
