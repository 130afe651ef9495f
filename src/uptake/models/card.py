"""The card of a model: what Uptake has to know of how it was trained, as `uptake.json` beside its configuration."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from transformers.utils.hub import cached_file

from uptake.errors import ModelError
from uptake.support.texts import json_file

NAME = "uptake.json"


def write_card(card: Mapping[str, Any], folder: Path) -> None:
    """Write a card into a model's folder; an empty one leaves no file."""
    if card:
        (folder / NAME).write_text(json.dumps(card, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


def read_card(name: str | Path) -> dict[str, Any]:
    """The card of a folder or Hub name, empty where there is none; ModelError where it cannot be read."""
    found = cached_file(
        str(name), NAME, _raise_exceptions_for_missing_entries=False, _raise_exceptions_for_connection_errors=False
    )
    if found is None:
        return {}
    try:
        card = json_file(Path(found))
    except (OSError, ValueError) as error:
        raise ModelError(f"{found}: not a model's card: {error}") from error
    if not isinstance(card, dict):
        raise ModelError(f"{found}: not a model's card: {card!r}")
    return card
