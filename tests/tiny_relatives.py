"""Rows and options of short runs of the relatives, which several tests share."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

from tiny import answered_records, pair_records, prompt_records

SHORT: dict[str, Any] = {"max_new_tokens": 5}


def scored_records(count: int, seed: int = 0) -> list[dict[str, Any]]:
    return [row | {"reward": math.sin(7 * index)} for index, row in enumerate(answered_records(count, seed))]


SETTINGS: Mapping[str, tuple[Sequence[Mapping[str, Any]], dict[str, Any]]] = {
    "spin": (answered_records(8), {"iterations": 2, "keep_unfinished": True, **SHORT}),
    "spa": ([*pair_records(4), *prompt_records(8, 1)], {"iterations": 2, "epochs": 2, "least": 1, **SHORT}),
    "selm": (pair_records(8), {"iterations": 2, "reward": "length", **SHORT}),
    "online_self_preferring": (prompt_records(8), {"steps": 4, "judge": "length", **SHORT}),
    "filtering_alignment": (scored_records(12), {}),
    "reward_weighted_regression": (scored_records(12), {}),
    "conditional_alignment": (scored_records(12), {}),
    "multi_reference_po": (pair_records(8), {}),
}
