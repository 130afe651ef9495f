"""Makes the results of all claims, or of some families, and writes the table; goes on where it was.

    PYTHONPATH=bench python -m claims [FAMILY ...] [--table]

With `--table` nothing is computed or written: what lacks a result is said in place of a verdict. Only a table of every
family of full size goes to bench/results and docs/claims.md.
"""

import argparse
import sys
from collections.abc import Sequence

from claims.claim import Claim
from claims.family import FAMILIES, SHRINK, TOWN
from claims.publish import publish, spelled
from claims.runner import make
from claims.store import Store, folder
from claims.table import find, judge
from uptake.support.stop import Stopped, going_on, stopped_by_signals


def main() -> None:
    parser = argparse.ArgumentParser(prog="claims")
    parser.add_argument("families", nargs="*", choices=[[], *FAMILIES], metavar="FAMILY", help=", ".join(FAMILIES))
    parser.add_argument("--table", action="store_true", help="print what the results at hand say, and compute nothing")
    given = parser.parse_args()
    names = given.families or TOWN
    claims: list[Claim] = [claim for name in names for claim in FAMILIES[name]()]
    store = Store(folder())
    if not given.table:
        _make(claims, store)
    verdicts = judge([find(claim, store) for claim in claims])
    print(spelled(verdicts))
    if SHRINK == 1 and not given.table and (not given.families or [*names] == ["person"]):
        publish("claims_person" if given.families else "claims", verdicts)
    sys.exit(not all(each.finding.complete for each in verdicts))


def _make(claims: Sequence[Claim], store: Store) -> None:
    """Make what is missing; a signal ends it with one line."""
    try:
        with stopped_by_signals(), going_on(lambda: "the same command goes on from the results that are there"):
            make(claims, store)
    except Stopped as stop:
        print(stop, file=sys.stderr)
        raise SystemExit(stop.code) from None


if __name__ == "__main__":
    main()
