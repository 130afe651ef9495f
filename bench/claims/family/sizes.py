"""How large runs are: full size, or for a try the part that `CLAIMS_SHRINK` says."""

import os

SHRINK = int(os.environ.get("CLAIMS_SHRINK", "1"))


def sized(full: int, least: int = 1) -> int:
    """A size, or a part of it for a try."""
    return max(least, full // SHRINK)
