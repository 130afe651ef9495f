"""Direct preference optimization (DPO; Rafailov et al. 2023, arXiv 2305.18290) and the nearest methods by loss name.

The policy learns from pairs that already exist: its margin of a pair is how much more it prefers the better response
than its frozen starting point does, and the loss is `-log sigmoid(beta * margin)`. `loss` exchanges that kernel: `cdpo`
and `robust_dpo` expect a share `label_smoothing` of wrong labels, `ipo` aims for a margin of `1 / (2 beta)`, `slic` is
the hinge. Assumes that chosen and rejected answer the same prompt. Gives no signal on a pair of equal responses.
"""

from typing import Literal, Self

from pydantic import model_validator

from uptake.examples.preferences import PreferenceRows
from uptake.losses.pairwise import IPO, Hinge, Logistic, PairKernel, Robust
from uptake.methods import MethodConfig, fill
from uptake.objective import Pairs
from uptake.recipe import Recipe, Stage
from uptake.reference import REFERENCES, ReferenceName
from uptake.update import Optimization, OptimizerName, Schedule

ALIASES = ("direct_preference_optimization",)


class Config(MethodConfig):
    loss: Literal["dpo", "cdpo", "robust_dpo", "ipo", "slic"] = "dpo"
    beta: float = 0.1
    label_smoothing: float = 0.0
    ipo_normalize: Literal["sum", "token_mean"] = "sum"
    reference: ReferenceName = "initial"
    # The original repository's defaults.
    lr: float = 5e-7
    batch_size: int = 64
    warmup: float = 150
    schedule: Schedule = "constant"
    optimizer: OptimizerName = "rmsprop"
    clip: float | None = 10.0

    @model_validator(mode="after")
    def _loss_uses_its_options(self) -> Self:
        if self.label_smoothing and self.loss not in ("cdpo", "robust_dpo"):
            raise ValueError(f"label_smoothing is not used by loss {self.loss!r}, only by cdpo and robust_dpo")
        if self.ipo_normalize != "sum" and self.loss != "ipo":
            raise ValueError(f"ipo_normalize is not used by loss {self.loss!r}, only by ipo")
        return self


def kernel(config: Config) -> PairKernel:
    beta, smoothing = config.beta, config.label_smoothing
    kernels: dict[str, PairKernel] = {
        "dpo": Logistic(beta),
        "cdpo": Logistic(beta, smoothing),
        "robust_dpo": Robust(beta, smoothing),
        "ipo": IPO(beta, normalize=config.ipo_normalize),
        "slic": Hinge(beta),
    }
    return kernels[config.loss]


def build(config: Config) -> Recipe:
    stage = Stage(
        examples=PreferenceRows(),
        reference=REFERENCES[config.reference],
        objective=Pairs(kernel(config)),
        update=fill(Optimization, config),
    )
    return Recipe((stage,))
