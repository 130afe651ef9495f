"""Extrapolation (ExPO; arXiv 2404.16792) after any method: the policy goes on along the way that training took it.

`method` is trained as ever, by its own options, and at its end the weights move on by `alpha` times what they have
moved since the run began, in fp32. Nothing is learned by it: to first order the objective that rose on this way rises
further. Differs from a longer run or a smaller `beta` in that it costs nothing; for a policy of free logits at the
optimum of DPO it is one with `beta / (1 + alpha)`. Assumes a run that ends before the best of its way: the fewer data,
the larger the alpha that helps (0.3 to 0.5 are usual, 8 for a tenth of the data was best in the paper). Published rows
all grew longer, so compare lengths beside win rates; `uptake extrapolate` makes many alphas of one run. Under an
adapter only B grows. Gives no signal where training has moved nothing.
"""

from dataclasses import replace

from pydantic import BaseModel, ConfigDict

from uptake import methods
from uptake.errors import InputError
from uptake.models.classifier import SCORE
from uptake.models.heads import AddHead
from uptake.models.token_classifier import LABELS
from uptake.recipe import Recipe
from uptake.weights import Extrapolate

ALIASES = ("extrapolation",)


class Config(BaseModel):
    """Options of its own; all others are those of `method`, which checks them."""

    model_config = ConfigDict(frozen=True, extra="allow", allow_inf_nan=False)

    method: str = "dpo"
    alpha: float = 0.3


def build(config: Config) -> Recipe:
    *before, last = methods.build(config.method, config.model_extra).stages
    scores = isinstance(last.modules, AddHead) and last.modules.name in (SCORE, *LABELS)
    if scores or last.finish is not None:
        problem = f"{config.method} " + ("trains a score, not what is said" if scores else "has an end of its own")
        raise InputError(problem, field="method", allowed="a method that trains what a model says")
    entry = {"extrapolation": {"alpha": config.alpha}}
    return Recipe((*before, replace(last, finish=Extrapolate(config.alpha), card={**last.card, **entry})))
