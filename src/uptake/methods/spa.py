"""Spread preference annotation (SPA; arXiv 2406.04412): a few labeled pairs, and the policy labels what it samples.

DPO learns the labeled pairs first. Then, in every iteration, the policy answers the next portion of the unlabeled
prompts `n` times, and the best answer by its own implicit reward against the policy as the run began is preferred to
the worst; DPO learns these against the policy as the iteration began, and smooths the labels of the pairs that it
doubts most. Rows with chosen and rejected are the labeled ones, all others are prompts. Differs from online AI feedback
in that nobody is asked. Assumes that the labeled pairs teach something that holds beyond them; what the policy then
says of itself spreads it, and adds nothing. Labels are doubted by a quantile over the last pairs of the whole run; the
released code takes it over means of micro-batches of each process, and its default `mix` of 1 leaves the paper's
extrapolation out. Gives no signal on a prompt whose answers score alike, as all do before the policy has moved.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from pydantic import Field

from uptake.errors import InputError
from uptake.examples.preferences import PreferenceRows
from uptake.judge import PointwiseJudge
from uptake.losses.pairwise import Logistic
from uptake.methods import MethodConfig, fill
from uptake.objective import Pairs
from uptake.objective.noisy_pairs import NoisyPairs
from uptake.recipe import Recipe, Stage
from uptake.reference import Frozen
from uptake.reference.remembering import Remembering
from uptake.rewards.implicit import ImplicitSpec
from uptake.rollout.policy import PolicySamples
from uptake.rollout.schedule import Portion
from uptake.signal import BestWorst
from uptake.types import Preference, RoundData, Row
from uptake.update import Optimization
from uptake.world import World

ALIASES = ("spread_preference_annotation",)


class Config(MethodConfig):
    iterations: int = Field(3, ge=1)
    beta: float = 0.1
    # Samples of the policy for every prompt.
    n: int = Field(2, ge=2)
    temperature: float = 0.7
    top_p: float = 1.0
    max_new_tokens: int = 300
    max_prompt_tokens: int | None = None
    keep_unfinished: bool = True
    # Doubted labels: their smoothing and share, from which share of the steps on, and how the mixture extrapolates: by
    # `extrapolation` in the first iteration, half as much in each that follows.
    smoothing: float = Field(0.1, ge=0, lt=0.5)
    doubted: float = Field(0.1, ge=0, le=1)
    settle: float = Field(0.2, ge=0, le=1)
    extrapolation: float = Field(0.5, ge=0)
    window: int = 1600
    least: int = 200
    # The released recipes: passes over the labeled pairs, and over those of an iteration.
    epochs: int = 3
    iteration_epochs: int = 1
    lr: float = 5e-7
    batch_size: int = 32


@dataclass(frozen=True)
class LabeledRows:
    """A pair for every preference among the rows; raises InputError where there is none."""

    rows: PreferenceRows = PreferenceRows()

    def __call__(self, world: World, round_: int) -> RoundData:
        labeled = [row for row in world.rows if isinstance(row, Preference)]
        if not labeled:
            raise InputError("no row is labeled", field="data", allowed="some rows with chosen and rejected")
        return self.rows(replace(world, rows=labeled), round_)


@dataclass(frozen=True)
class Unlabeled:
    """A portion of the rows that are no preferences."""

    portion: Portion

    def __call__(self, world: World, round_: int) -> Sequence[Row]:
        rows = [row for row in world.rows if not isinstance(row, Preference)]
        return self.portion(replace(world, rows=rows), round_)


def build(config: Config) -> Recipe:
    labeled = Stage(
        examples=LabeledRows(),
        reference=Frozen(),
        objective=Pairs(Logistic(config.beta)),
        update=fill(Optimization, config),
    )
    return Recipe((labeled, *(_iteration(config, index) for index in range(config.iterations))))


def _iteration(config: Config, index: int) -> Stage:
    return Stage(
        select=Unlabeled(Portion(index, config.iterations)),
        produce=fill(PolicySamples, config),
        judge=PointwiseJudge(ImplicitSpec(beta=1.0, model="policy", reference="start")),
        signal=BestWorst(0.0, 0.0, float("inf"), 0.0, config.keep_unfinished),
        reference=fill(Remembering, config),
        objective=NoisyPairs(
            Pairs(Logistic(config.beta)),
            config.smoothing,
            config.doubted,
            1 + config.extrapolation / 2**index,
            config.settle,
        ),
        update=replace(fill(Optimization, config), epochs=config.iteration_epochs),
    )
