"""Training: the driver, its rounds, checkpoints and the run folder."""

from uptake.train.loop import Options, run

__all__ = ["Options", "run"]
