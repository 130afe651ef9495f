"""References: the frozen model that a loss measures the policy against."""

from collections.abc import Mapping
from typing import Literal

from uptake.reference.adapter_off import AdapterOff
from uptake.reference.base import NoReference, Readable, Reference, RunningReference
from uptake.reference.behaviour import Behaviour
from uptake.reference.frozen import Frozen, Given, frozen_copy
from uptake.reference.previous import Previous

# Those that a method's `reference` option names.
ReferenceName = Literal["initial", "adapter_off", "given", "behaviour"]
REFERENCES: Mapping[ReferenceName, Reference] = {
    "initial": Frozen(),
    "adapter_off": AdapterOff(),
    "given": Given(),
    "behaviour": Behaviour(),
}

__all__ = [
    "REFERENCES",
    "AdapterOff",
    "Behaviour",
    "Frozen",
    "Given",
    "NoReference",
    "Previous",
    "Readable",
    "Reference",
    "ReferenceName",
    "RunningReference",
    "frozen_copy",
]
