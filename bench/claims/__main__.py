"""Makes the results of all claims, or of some families, and writes the table; goes on where it was.

    PYTHONPATH=bench python -m claims [FAMILY ...] [--table]

With `--table` nothing is computed: what lacks a result is said in place of a verdict. Only a table of every family of
full size goes to bench/results and docs/claims.md.
"""

import argparse
import sys

from claims.claim import Claim
from claims.family import FAMILIES, SHRINK, TOWN
from claims.publish import publish, spelled
from claims.runner import make
from claims.store import Store, folder
from claims.table import find, judge


def main() -> None:
    parser = argparse.ArgumentParser(prog="claims")
    parser.add_argument("families", nargs="*", choices=[[], *FAMILIES], metavar="FAMILY", help=", ".join(FAMILIES))
    parser.add_argument("--table", action="store_true", help="print what the results at hand say, and compute nothing")
    given = parser.parse_args()
    names = given.families or TOWN
    claims: list[Claim] = [claim for name in names for claim in FAMILIES[name]()]
    store = Store(folder())
    if not given.table:
        make(claims, store)
    verdicts = judge([find(claim, store) for claim in claims])
    print(spelled(verdicts))
    if SHRINK == 1 and (not given.families or [*names] == ["person"]):
        publish("claims_person" if given.families else "claims", verdicts)
    sys.exit(any(each.verdict.startswith("no verdict") for each in verdicts))


if __name__ == "__main__":
    main()
