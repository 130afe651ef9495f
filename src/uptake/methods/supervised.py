"""Supervised fine-tuning: next-token training on conversations as they are, by maximum likelihood.

`turns` says which turns carry loss: `all`, the user's too, which makes a model that knows what readers say next; the
assistant's `responses`; or only the `last` response. A response carries loss on its words and the token that ends it;
with `all`, everything does but the first token. A conversation longer than the model's window loses its oldest turns,
and is left out and counted where its last exchange alone is too long, as is a response whose `label` is false. Differs
from DPO in that nothing is pushed away, and that there is no reference. Assumes that the conversations are worth
imitating.
"""

from uptake.examples.conversations import Conversations, Turns
from uptake.methods import MethodConfig, fill
from uptake.objective import NextToken
from uptake.recipe import Recipe, Stage
from uptake.update import Optimization

ALIASES = ("sft",)


class Config(MethodConfig):
    turns: Turns = "responses"
    # What Llama 2 was fine-tuned with (Touvron et al. 2023, arXiv 2307.09288, section 3.1).
    lr: float = 2e-5
    batch_size: int = 64
    epochs: int = 2
    warmup: float = 0.0
    weight_decay: float = 0.1


def build(config: Config) -> Recipe:
    stage = Stage(examples=Conversations(config.turns), objective=NextToken(), update=fill(Optimization, config))
    return Recipe((stage,))
