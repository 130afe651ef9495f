"""Content keys: equal conversations have equal keys, whatever file, order or process they come from."""

import hashlib
import json

from uptake.types import Dialogue


def prompt_key(turns: Dialogue) -> str:
    """Return the first 16 hex digits of the SHA-256 of the canonical JSON of `turns`.

    Canonical JSON is an array of `{"content": ..., "role": ...}` objects, with the turn's other fields: keys sorted, no
    blanks, UTF-8.
    """
    rows = [{"role": turn.role, "content": turn.content, **turn.fields} for turn in turns]
    text = json.dumps(rows, sort_keys=True, separators=(",", ":"), ensure_ascii=False, default=str)
    return hashlib.sha256(text.encode(errors="backslashreplace")).hexdigest()[:16]
