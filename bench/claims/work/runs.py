"""What a run left behind: how much it was given, and the records of its files."""

import json
from pathlib import Path
from typing import Any


def spent(folder: Path) -> dict[str, int]:
    """How many samples a run drew, and how many optimizer steps it took."""
    rounds = [json.loads(path.read_text()) for path in sorted((folder / "rounds").glob("*/summary.json"))]
    return {"samples": sum(each.get("samples", 0) for each in rounds), "steps": len(lines(folder / "metrics.jsonl"))}


def lines(path: Path) -> list[dict[str, Any]]:
    """The records of a file of JSON lines."""
    return [json.loads(line) for line in path.read_text().splitlines()]
