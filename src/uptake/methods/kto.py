"""Kahneman-Tversky optimization (KTO; Ethayarajh et al. 2024, arXiv 2402.01306): learn from good and bad responses.

The policy raises what it is told is good and lowers what is bad, each response by itself: with `h` the log-ratio of
policy to reference and `z` how far the two have moved apart at all, the loss is `1 - sigmoid(beta * (h - z))` of a good
response and `1 - sigmoid(beta * (z - h))` of a bad one. Rows with a label need no pairs; a preference counts as one
good and one bad response. `desirable_weight` and `undesirable_weight` even out kinds of unequal number. `z` is
estimated from each batch, so small batches are noisy. Gives no signal on a response that has moved far.
"""

from uptake.examples.rated import RatedRows
from uptake.losses.unpaired import KTO
from uptake.methods import MethodConfig, fill
from uptake.objective import Unpaired
from uptake.recipe import Recipe, Stage
from uptake.reference import REFERENCES, ReferenceName
from uptake.update import Optimization, Schedule

ALIASES = ("kahneman_tversky_optimization",)


class Config(MethodConfig):
    beta: float = 0.1
    desirable_weight: float = 1.0
    undesirable_weight: float = 1.0
    reference: ReferenceName = "initial"
    # The defaults of the authors' repository.
    lr: float = 5e-6
    batch_size: int = 32
    warmup: float = 150
    schedule: Schedule = "constant"
    clip: float | None = 5.0


def build(config: Config) -> Recipe:
    stage = Stage(
        examples=RatedRows(),
        reference=REFERENCES[config.reference],
        objective=Unpaired(fill(KTO, config)),
        update=fill(Optimization, config),
    )
    return Recipe((stage,))
