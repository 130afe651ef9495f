"""Reasons why rows could not be judged, counted: those that differ from row to row in quotes or numbers are one."""

import re
from collections.abc import Mapping, Sequence


def counted(reasons: Sequence[str]) -> dict[str, int]:
    """Reasons with how often each was given, as `common` spells those that are alike."""
    return {common(group): len(group) for group in alike(reasons).values()}


def alike(reasons: Sequence[str]) -> Mapping[str, Sequence[str]]:
    """Reasons in groups that are equal but for quotes and numbers."""
    groups: dict[str, list[str]] = {}
    for reason in reasons:
        groups.setdefault(_unnumbered(_unquoted(reason)), []).append(reason)
    return groups


def common(reasons: Sequence[str]) -> str:
    """What reasons that are alike have in common: all of it, or else all but quotes, or else all but numbers too.

    What would have been right is left out.
    """
    for spelled in ([*map(_plain, reasons)], [*map(_unquoted, reasons)]):
        if len(set(spelled)) == 1:
            return spelled[0]
    return _unnumbered(_unquoted(reasons[0]))


def _plain(reason: str) -> str:
    return re.sub(r" \(allowed: .*", "", reason, flags=re.DOTALL)


def _unquoted(reason: str) -> str:
    return re.sub(r"(['\"]).*\1", "…", _plain(reason), flags=re.DOTALL)


def _unnumbered(reason: str) -> str:
    return re.sub(r"\d+", "N", reason)
