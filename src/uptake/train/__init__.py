"""Training: the driver, its rounds, checkpoints and the run folder."""

from typing import TYPE_CHECKING

from uptake.support.lazy import lazy

if TYPE_CHECKING:
    from uptake.train.loop import Options, run

# What trains: Torch takes seconds to load, and a run's folder is read without it.
__getattr__ = lazy(__name__, {"loop": ("Options", "run")})

__all__ = ["Options", "run"]
