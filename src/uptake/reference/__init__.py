"""References: the frozen model that a loss measures the policy against."""

from uptake.reference.adapter_off import AdapterOff
from uptake.reference.base import NoReference, Readable, Reference, RunningReference
from uptake.reference.frozen import Frozen, Given

__all__ = ["AdapterOff", "Frozen", "Given", "NoReference", "Readable", "Reference", "RunningReference"]
